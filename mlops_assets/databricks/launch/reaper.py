"""Cleans up after launchers that died: cancels runs whose Dagster run has ended, and removes their staged files.

What belongs here: deciding what is orphaned, and a sensor that acts on it. What does not: the watchdog on the cluster,
which ends a step whose launcher is silent (`reports`); this also catches runs that have not started yet.

A run is touched only if this Dagster instance knows its Dagster run and that run has ended: several instances may share
a workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.errors import LaunchError

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.staging import Staging

# Whether a Dagster run has ended; None if this instance does not know it.
HasEnded = Callable[[str], bool | None]
_DEFAULT_INTERVAL_S = 120
REAPER = "databricks_reaper"


def orphans(active_runs: Iterable[Mapping[str, Any]], has_ended: HasEnded) -> Iterator[tuple[int, str]]:
    """Yield run id and Dagster run of each run that no launcher watches any more.

    Args:
        active_runs: Runs of the workspace, from `runs/list`.
        has_ended: See `HasEnded`.
    """
    for run in active_runs:
        dagster_run = Attempt.dagster_run_of(str(run.get("run_name") or ""))
        if dagster_run is not None and has_ended(dagster_run):
            yield int(run["run_id"]), dagster_run


def litter(folders: Iterable[str], has_ended: HasEnded, is_kept: Callable[[str], bool]) -> Iterator[str]:
    """Yield the staging folders of Dagster runs that have ended and are not kept.

    Args:
        folders: Names of the folders in staging; those of Dagster runs are run ids.
        has_ended: See `HasEnded`.
        is_kept: Whether the files of an ended Dagster run are kept.
    """
    for folder in folders:
        if has_ended(folder) and not is_kept(folder):
            yield folder


@dataclass
class Reaped:
    """What was cancelled and removed.

    Attributes:
        cancelled: Ids of the cancelled runs.
        removed: Staging folders that were removed.
        is_complete: Whether all of it was done within the time budget.
    """

    cancelled: list[int] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    is_complete: bool = True


def reap(api: Api, staging: Staging, instance: dg.DagsterInstance, *, keep_staging_on_failure: bool) -> Reaped:
    """Cancel orphaned runs and remove their files, within the time budget of `api`.

    Args:
        api: The workspace.
        staging: Where launches store their files.
        instance: Knows which Dagster runs have ended.
        keep_staging_on_failure: Whether files of failed Dagster runs are kept.

    Raises:
        LaunchError: The workspace does not answer, or rejects a call.
    """
    # The SDK takes a second to import, and this module is imported whenever the code location is loaded.
    from databricks.sdk.errors.base import DatabricksError

    from mlops_assets.databricks.launch import submission
    from mlops_assets.databricks.launch.api import OutOfTimeError

    def status(run_id: str) -> dg.DagsterRunStatus | None:
        run = instance.get_run_by_id(run_id)
        return run.status if run else None

    def has_ended(run_id: str) -> bool | None:
        current = status(run_id)
        return None if current is None else current in _ENDED

    def is_kept(run_id: str) -> bool:
        return keep_staging_on_failure and status(run_id) != dg.DagsterRunStatus.SUCCESS

    reaped = Reaped()
    try:
        for run_id, _ in orphans(submission.active_runs(api), has_ended):
            submission.cancel(api, run_id)
            reaped.cancelled.append(run_id)
        for folder in litter(staging.names(""), has_ended, is_kept):
            # The folder is removed last: while it exists, the next tick knows that something is left.
            staging.scripts.remove(folder)
            staging.remove(folder)
            reaped.removed.append(folder)
    except OutOfTimeError:
        reaped.is_complete = False
    except DatabricksError as error:
        raise LaunchError(
            f"the workspace rejected a call: {error}",
            where=staging.root,
            fix="allow Dagster's identity in the workspace to view and cancel runs and to delete files in staging; "
            "`make doctor` checks its other permissions",
        ) from error
    return reaped


_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def reaper_sensor(
    connect: Callable[[], tuple[Api, Staging]], *, keep_staging_on_failure: bool, interval_s: int = _DEFAULT_INTERVAL_S
) -> dg.SensorDefinition:
    """Return a sensor that cleans up after dead launchers.

    Args:
        connect: Returns the workspace and the staging; called at each tick, not when the code location is loaded. Its
            `budget_seconds` bounds a tick: Dagster aborts one after 60 s.
        keep_staging_on_failure: Whether files of failed Dagster runs are kept.
        interval_s: Seconds between two ticks.
    """

    @dg.sensor(
        name=REAPER,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Cancels Databricks runs whose Dagster run has ended, and removes the files they staged.",
    )
    def databricks_reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        api, staging = connect()
        reaped = reap(api, staging, context.instance, keep_staging_on_failure=keep_staging_on_failure)
        if reaped.cancelled:
            context.log.warning(f"cancelled Databricks runs whose Dagster run has ended: {reaped.cancelled}")
        done = f"{len(reaped.cancelled)} runs cancelled, {len(reaped.removed)} folders removed"
        return dg.SkipReason(done if reaped.is_complete else f"{done}, the rest at the next tick")

    return databricks_reaper
