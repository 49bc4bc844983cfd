"""`mlops policy`: what follows from the champion's scores, what other budgets would do, and another policy.

What belongs here: what is printed. What does not: policies of versions (`registry/policies`), which model is meant
(`location`). No command here starts Spark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import print_line
from mlops_assets.errors import TrackingError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.registry.alias_moves import REGISTRATION_LOCK
from mlops_assets.registry.page import budgets_of
from mlops_assets.registry.policies import change_policy, current_policy, operating_points
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, by_alias, by_number

if TYPE_CHECKING:
    from mlops_assets.registry.policies import PolicyVersion
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_policy(
    settings: Settings,
    spec: FraudModelSpec,
    *,
    version: int | None,
    rule: Literal["cost", "alert_budget"] | None,
    alert_cost: float | None,
    alerts_per_day: int | None,
    reason: str,
) -> int:
    """Show a version's policy and a table of alert budgets, or give it another policy; return the exit code.

    Args:
        settings: The deployment.
        spec: The model.
        version: The version; None for the champion.
        rule: What the threshold is chosen by; None leaves it.
        alert_cost: Cost of checking one alert; None leaves it.
        alerts_per_day: Alerts that can be checked in a day; None leaves it.
        reason: Why it is changed.

    Raises:
        BrokenVersionError: The version or its policy is not what was written.
        EvaluationError: The rule can't be applied, or a number is out of its range.
        TrackingError: There is no such version, or the registry can't be reached.
        StorageError: A registration was running all the time.
    """
    resources = build_resources(settings)
    store, name = resources["tracking"].connect(spec.experiment), resources["tracking"].model(spec.registered_model)
    with store.answering():
        found = by_alias(store, name, CHAMPION) if version is None else by_number(store, name, version)
    if found is None:
        raise TrackingError("the model has no champion", where=name, fix="name a version with --version")
    run = TunedRun.read(store, found.run_id)
    if rule is None and alert_cost is None and alerts_per_day is None:
        if not found.policy:
            raise TrackingError(
                "the version was registered before versions had policies",
                where=f"{name} version {found.number}",
                fix="give it one, with --alert-cost or --alerts-per-day",
            )
        policy = current_policy(store, name, found.number, found.run_id, found.policy)
    else:
        with resources["lakehouse"].open(spec).exclusive(REGISTRATION_LOCK):
            policy = change_policy(
                store,
                load_verified(store, name, found.number),
                run,
                rule=rule,
                alert_cost=alert_cost,
                alerts_per_day=alerts_per_day,
                reason=reason,
            )
    print_line(_sentence(name, policy))
    print_line(budgets_of(operating_points(store, run), policy.alerts_per_day))
    return DONE


def _sentence(name: str, policy: PolicyVersion) -> str:
    from_score = policy.threshold.label
    return (
        f"{name} version {policy.model_version}, policy {policy.name}: review from a score of {from_score} on "
        f"(rule {policy.threshold.rule}, an alert costs {policy.alert_cost:g}, {policy.alerts_per_day:,} alerts a day; "
        f"{policy.reason}; {policy.at}, {policy.actor})"
    )
