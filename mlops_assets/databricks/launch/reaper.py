"""Ending what a dead launcher has left: runs on the cluster whose Dagster run is over, and their staged files.

What belongs here: deciding what is left over, and a sensor that acts on it. What does not: the watchdog on the cluster,
which ends a step whose launcher is silent (`cluster_main`); this is the second net, for what has not even started.

A run is only touched when this Dagster instance knows its Dagster run and that run has ended: several instances may
share a workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.databricks.launch.attempt import Attempt

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.staging import Staging

# Whether a Dagster run has ended; None if it is not known here.
HasEnded = Callable[[str], bool | None]
_DEFAULT_INTERVAL_S = 120


def orphans(active_runs: Iterable[Mapping[str, Any]], has_ended: HasEnded) -> Iterator[tuple[int, str]]:
    """Yield run id and Dagster run of each run that nobody watches any more.

    Args:
        active_runs: Runs of the workspace, as `runs/list` has them.
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
        is_kept: Whether the files of an ended Dagster run are to stay.
    """
    for folder in folders:
        if has_ended(folder) and not is_kept(folder):
            yield folder


def reap(
    api: Api, staging: Staging, instance: dg.DagsterInstance, *, keep_staging_on_failure: bool
) -> tuple[list[int], list[str]]:
    """Cancel left-over runs and remove left-over files.

    Args:
        api: The workspace.
        staging: Where launches put their files.
        instance: What knows which Dagster runs have ended.
        keep_staging_on_failure: Whether files of failed Dagster runs stay.

    Returns:
        Ids of the cancelled runs, and the folders that were removed.

    Raises:
        LaunchError: The workspace does not answer.
    """
    # The SDK takes a second to import, which loading the code location, with the sensor in it, should not pay.
    from mlops_assets.databricks.launch import submission

    def status(run_id: str) -> dg.DagsterRunStatus | None:
        run = instance.get_run_by_id(run_id)
        return run.status if run else None

    def has_ended(run_id: str) -> bool | None:
        found = status(run_id)
        return None if found is None else found in _ENDED

    cancelled = []
    for run_id, _ in orphans(submission.active_runs(api), has_ended):
        submission.cancel(api, run_id)
        cancelled.append(run_id)
    removed = []
    kept = keep_staging_on_failure
    for folder in litter(staging.names(""), has_ended, lambda run: kept and status(run) != dg.DagsterRunStatus.SUCCESS):
        staging.remove(folder)
        staging.remove_scripts(folder)
        removed.append(folder)
    return cancelled, removed


_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def reaper_sensor(
    connect: Callable[[], tuple[Api, Staging]], *, keep_staging_on_failure: bool, interval_s: int = _DEFAULT_INTERVAL_S
) -> dg.SensorDefinition:
    """Return a sensor that reaps.

    Args:
        connect: Returns the workspace and the staging; called at each tick, not when the code location is loaded.
        keep_staging_on_failure: Whether files of failed Dagster runs stay.
        interval_s: Seconds between two ticks.
    """

    @dg.sensor(
        name="databricks_reaper",
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Cancels Databricks runs whose Dagster run has ended, and removes what such runs have staged.",
    )
    def databricks_reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        api, staging = connect()
        cancelled, removed = reap(api, staging, context.instance, keep_staging_on_failure=keep_staging_on_failure)
        if cancelled:
            context.log.warning(f"cancelled Databricks runs whose Dagster run has ended: {cancelled}")
        return dg.SkipReason(f"{len(cancelled)} runs cancelled, {len(removed)} folders removed")

    return databricks_reaper
