"""What runs by the clock: loads from sources that can't be watched, upkeep, and how old each asset may become.

What belongs here: schedules and freshness policies. What does not: what runs after a load (`conditions`).
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.upkeep import TABLE_UPKEEP
from mlops_assets.automation.jobs import LOAD_DATA, UPKEEP
from mlops_assets.automation.retired import Retired, active
from mlops_assets.data.sources.arrivals import Arrivals
from mlops_assets.spec import FraudModelSpec

DAILY_LOAD = "daily_load"
WEEKLY_UPKEEP = "weekly_upkeep"
_DAILY, _WEEKLY = "0 5 * * *", "0 3 * * 0"
_LOAD_WARNS, _LOAD_FAILS = timedelta(days=1.5), timedelta(days=3)
_UPKEEP_WARNS, _UPKEEP_FAILS = timedelta(days=8), timedelta(days=15)


def schedules_of(
    spec: FraudModelSpec, arrivals: Arrivals, *, status: dg.DefaultScheduleStatus, retired: Retired = active
) -> list[dg.ScheduleDefinition]:
    """Return the schedules of a model: nobody need ask a source that tells what is new, or never changes.

    Args:
        spec: The model.
        arrivals: How it shows that its source has something new.
        status: Whether they are on when nobody has switched them.
        retired: Says whether the model is retired; then nothing starts.
    """

    def schedule(name: str, job: str, cron: str, description: str) -> dg.ScheduleDefinition:
        return dg.ScheduleDefinition(
            name=spec.prefixed(name),
            job_name=spec.prefixed(job),
            cron_schedule=cron,
            default_status=status,
            should_execute=lambda _: not retired(),
            description=description,
        )

    # Content that the table already holds is recognised, so a load without anything new adds nothing.
    loads = [schedule(DAILY_LOAD, LOAD_DATA, _DAILY, "Loads a source that can't be watched, once a day.")]
    upkeep = schedule(WEEKLY_UPKEEP, UPKEEP, _WEEKLY, "Compacts and vacuums the tables once a week.")
    return [*(loads if arrivals is Arrivals.UNSEEN else []), upkeep]


def freshness(spec: FraudModelSpec) -> dict[dg.AssetKey, dg.FreshnessPolicy]:
    """Return how old each asset of a model may become: tables follow the loads, models the pace of training."""
    days = spec.retrain_days
    tables = dg.FreshnessPolicy.time_window(fail_window=_LOAD_FAILS, warn_window=_LOAD_WARNS)
    # A model is due after `days` at the latest; a failed search may go unnoticed for as long again.
    models = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=2 * days), warn_window=timedelta(days=1.2 * days)
    )
    # Every load reports on the quarantine, even if it set nothing aside.
    loaded = (RAW, QUARANTINED, TRANSACTION_LABELS, *TABLES.values())
    upkeep = dg.FreshnessPolicy.time_window(fail_window=_UPKEEP_FAILS, warn_window=_UPKEEP_WARNS)
    policies = {
        **dict.fromkeys(loaded, tables),
        **dict.fromkeys((TUNED_MODEL, REGISTERED_MODEL), models),
        TABLE_UPKEEP: upkeep,
    }
    return {key_of(spec, name): policy for name, policy in policies.items()}
