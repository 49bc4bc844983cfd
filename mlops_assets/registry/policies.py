"""What follows from a version's scores, as an object of its own: threshold, the rule behind it, costs and budget.

What belongs here: policies of a version, each a file that is never changed, and a tag that says which one is in force.
What does not: the decision about one score (`serving/policy`), measuring thresholds (`evaluation/operating_points`).

A policy can be changed without training: another cost of an alert or another budget gives another threshold, chosen
from what each threshold did on rows that the evaluated model was not fitted on. For a production model it is carried
over as the first one was, as a rate of alerts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.evaluation.operating_points import OperatingPoints
from mlops_assets.evaluation.threshold import Threshold
from mlops_assets.lineage import (
    OPERATING_POINTS_FILE,
    POLICY_TAG,
    REHEARSED_SCORES_FILE,
    SCORES_FILE,
    VERSION_FOLDER,
)
from mlops_assets.registry.golden import folder_of, write_into_version
from mlops_assets.registry.verified import BrokenVersionError
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.tracking.provenance import this_actor
from mlops_assets.training.production import carried_over

if TYPE_CHECKING:
    from mlops_assets.evaluation.threshold import Rule
    from mlops_assets.registry.tuned_run import TunedRun
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.tracking.store import Store

AT_REGISTRATION: Final = "chosen when the model was tuned"


@dataclass(frozen=True)
class PolicyVersion:
    """A policy of a version.

    Attributes:
        model_version: The version.
        number: Its number among the policies of the version, from 1.
        threshold: The threshold, its rule and the rule's setting.
        alert_cost: Cost of checking one alert, in the unit of the amounts.
        alerts_per_day: Alerts that can be checked in a day.
        at: When it was made, ISO 8601 in UTC.
        actor: Who made it, as far as the operating system knows.
        reason: Why.
    """

    model_version: int
    number: int
    threshold: Threshold
    alert_cost: float
    alerts_per_day: int
    at: str
    actor: str
    reason: str

    @property
    def name(self) -> str:
        """The name that every decision shows: version, policy and rule; the first policy has no number."""
        later = "" if self.number == 1 else f".{self.number}"
        return f"v{self.model_version}{later}-{self.threshold.rule}"

    def to_json_dict(self) -> dict[str, Any]:
        """Return a document from which `from_json_dict` rebuilds the policy exactly."""
        return {**asdict(self), "threshold": self.threshold.to_json_dict()}

    @classmethod
    def from_json_dict(cls, document: dict[str, Any]) -> PolicyVersion:
        """Rebuild a policy; raises KeyError, TypeError, ValueError or EvaluationError for a document that is none."""
        return cls(**{**document, "threshold": Threshold.from_json_dict(document["threshold"])})


def first_policy(store: Store, model: VerifiedModel, run: TunedRun) -> PolicyVersion:
    """Give a version the policy that it was tuned for, unless it has one; return the one in force.

    Raises:
        BrokenVersionError: Its policy is not what was written.
        TrackingError: MLflow can't be reached.
    """
    if POLICY_TAG in model.version.tags:
        return current_policy(store, model.name, model.number, model.version.run_id, model.version.tags[POLICY_TAG])
    threshold = run.threshold(production=run.production is not None)
    costs = float(run.params["alert_cost"]), int(run.params["alerts_per_day"])
    return _written(store, model, 1, threshold, *costs, AT_REGISTRATION)


def change_policy(
    store: Store,
    model: VerifiedModel,
    run: TunedRun,
    *,
    rule: Rule | None,
    alert_cost: float | None,
    alerts_per_day: int | None,
    reason: str,
) -> PolicyVersion:
    """Give a version another policy; what is left out stays as it is.

    Args:
        store: Where the version is.
        model: The version.
        run: The run that made it.
        rule: What the threshold is chosen by.
        alert_cost: Cost of checking one alert.
        alerts_per_day: Alerts that can be checked in a day.
        reason: Why.

    Raises:
        BrokenVersionError: The policy in force is not what was written.
        EvaluationError: The rule can't be applied, or a number is out of its range.
        TrackingError: The run has no table of thresholds, or MLflow can't be reached.
    """
    old = first_policy(store, model, run)
    chosen = rule or old.threshold.rule
    cost = old.alert_cost if alert_cost is None else alert_cost
    budget = old.alerts_per_day if alerts_per_day is None else alerts_per_day
    points = operating_points(store, run)
    threshold = points.by_cost(cost) if chosen == "cost" else points.by_alert_budget(budget)
    if run.production is not None:
        evaluated, rehearsed = (
            scores_from_bytes(read_artifact(store, run.run_id, file)) for file in (SCORES_FILE, REHEARSED_SCORES_FILE)
        )
        threshold = carried_over(threshold, evaluated, rehearsed)
    return _written(store, model, old.number + 1, threshold, cost, budget, reason)


def operating_points(store: Store, run: TunedRun) -> OperatingPoints:
    """Return what each threshold did on rows that the run's evaluated model was not fitted on.

    Raises:
        TrackingError: The run has no such table; runs of earlier releases have none.
    """
    return OperatingPoints.from_json_dict(json.loads(read_artifact(store, run.run_id, OPERATING_POINTS_FILE)))


def kept_points(store: Store, run: TunedRun) -> OperatingPoints | None:
    """Return the same, or None for a run of an earlier release, which has kept none."""
    folder, _, _ = OPERATING_POINTS_FILE.rpartition("/")
    kept = {file.path for file in store.client.list_artifacts(run.run_id, folder)}
    return operating_points(store, run) if OPERATING_POINTS_FILE in kept else None


def current_policy(store: Store, name: str, number: int, run_id: str, tag: str) -> PolicyVersion:
    """Return the policy in force.

    Args:
        store: Where the version is.
        name: Name of the registered model.
        number: The version.
        run_id: The run that made it.
        tag: The version's tag `POLICY_TAG`.

    Raises:
        BrokenVersionError: The policy is not what was written.
        TrackingError: MLflow can't be reached, or the file is gone.
    """
    at, _, digest = tag.partition(":")
    text = read_artifact(store, run_id, f"{folder_of(number)}/{_file(at)}")
    if hashlib.sha256(text).hexdigest() != digest:
        raise BrokenVersionError(
            f"its policy {at} is not what was written",
            where=f"{name} version {number}",
            fix=f"find out who can write to the artifact store; restore {VERSION_FOLDER}_{number}/{_file(at)} from a "
            "backup, or delete the tag of the version and run `mlops policy` again",
        )
    return PolicyVersion.from_json_dict(json.loads(text))


def _written(
    store: Store, model: VerifiedModel, number: int, threshold: Threshold, cost: float, budget: int, reason: str
) -> PolicyVersion:
    """Write a policy, then the tag that puts it in force: a kill in between leaves the old one."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    policy = PolicyVersion(model.number, number, threshold, cost, budget, now, this_actor(), reason)
    text = json.dumps(policy.to_json_dict(), indent=2).encode()
    write_into_version(store, model, {_file(str(number)): text})
    with store.answering():
        tag = f"{number}:{hashlib.sha256(text).hexdigest()}"
        store.client.set_model_version_tag(model.name, str(model.number), POLICY_TAG, tag)
        model.version.tags[POLICY_TAG] = tag
    return policy


def _file(number: str) -> str:
    return f"policy_{number}.json"
