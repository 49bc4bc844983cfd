"""What runs by the clock: loads from sources that can't be watched, upkeep, and how old each asset may become.

What belongs here: schedules and freshness policies. What does not: what runs after a load (`conditions`).
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.upkeep import TABLE_UPKEEP
from mlops_assets.automation.triggers import TrainingPace
from mlops_assets.data.sources.arrivals import Arrivals

DAILY_LOAD = "daily_load"
WEEKLY_UPKEEP = "weekly_upkeep"
_DAILY, _WEEKLY = "0 5 * * *", "0 3 * * 0"
_LOAD_WARNS, _LOAD_FAILS = timedelta(days=1.5), timedelta(days=3)
_UPKEEP_WARNS, _UPKEEP_FAILS = timedelta(days=8), timedelta(days=15)


def schedules_of(
    arrivals: Arrivals, *, load: str, upkeep: str, status: dg.DefaultScheduleStatus
) -> list[dg.ScheduleDefinition]:
    """Return the schedules of a code location: nobody need ask a source that tells what is new, or never changes.

    Args:
        arrivals: How it shows that the source has something new.
        load: Name of the job that loads.
        upkeep: Name of the job that maintains the tables.
        status: Whether they are on when nobody has switched them.
    """
    loads = [daily_load(load, status)] if arrivals is Arrivals.UNSEEN else []
    return [*loads, weekly_upkeep(upkeep, status)]


def daily_load(job: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Return a schedule for sources that don't announce changes, such as OpenML.

    Content that the table already holds is recognised, so a load without anything new adds nothing.

    Args:
        job: Name of the job that loads.
        status: Whether it starts switched on.
    """
    return dg.ScheduleDefinition(
        name=DAILY_LOAD,
        job_name=job,
        cron_schedule=_DAILY,
        default_status=status,
        description="Loads a source that can't be watched, once a day.",
    )


def weekly_upkeep(job: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Return a schedule for the upkeep of the tables.

    Args:
        job: Name of the upkeep job.
        status: Whether it starts switched on.
    """
    return dg.ScheduleDefinition(
        name=WEEKLY_UPKEEP,
        job_name=job,
        cron_schedule=_WEEKLY,
        default_status=status,
        description="Compacts and vacuums the tables once a week.",
    )


def freshness(pace: TrainingPace) -> dict[str, dg.FreshnessPolicy]:
    """Return how old each asset may become: tables follow the loads, models the pace of training.

    Args:
        pace: How much must change before a model is retrained.
    """
    tables = dg.FreshnessPolicy.time_window(fail_window=_LOAD_FAILS, warn_window=_LOAD_WARNS)
    # A model is due after `days` at the latest; a failed search may go unnoticed for as long again.
    models = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=2 * pace.days), warn_window=timedelta(days=1.2 * pace.days)
    )
    # Every load reports on the quarantine, even if it set nothing aside.
    loaded = (RAW, QUARANTINED, TRANSACTION_LABELS, *TABLES.values())
    upkeep = dg.FreshnessPolicy.time_window(fail_window=_UPKEEP_FAILS, warn_window=_UPKEEP_WARNS)
    return {
        **dict.fromkeys(loaded, tables),
        **dict.fromkeys((TUNED_MODEL, REGISTERED_MODEL), models),
        TABLE_UPKEEP: upkeep,
    }
