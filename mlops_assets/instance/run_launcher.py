"""Dagster's default run launcher, which here also notices when the process of a run is gone.

What belongs here: finding out whether a run's process is alive, and failing a run without one. What does not: what
follows (sensors and conditions request it again), runs on Databricks (`databricks`).

A run is a child process of the code server, which reports a child that dies. If both die at the same time (a power cut,
a killed `mlops ui`), nothing reports it: the run stays "started" and keeps its slot, and whatever waits for its end
(`automation`) waits forever. A run of the command line is executed by the command itself, and nothing at all watches
that. Such a run has a tag with its process. The daemon's monitoring asks once a minute (`home`), and every command that
starts or shows runs fails dead ones first (`fail_dead_runs`).
"""

from __future__ import annotations

import json
from typing import Final

import dagster as dg
import psutil

from mlops_assets.dagster_internals import GRPC_INFO_TAG, CheckRunHealthResult, WorkerStatus
from mlops_assets.lineage import RUN_PROCESS_TAG
from mlops_assets.processes import has_died

_HERE: Final = ("localhost", "127.0.0.1", "::1")
# Python starts the process of a run through this module, which is therefore in its command line.
_STARTED_BY: Final = "multiprocessing"
# A process that started this much later than the run reported its id is a different one. The margin allows for changes
# of the clock, which also shift the start time that the kernel reports for a running process.
_CLOCK_SECONDS: Final = 60.0


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Launches runs as processes of the code server, and checks whether they are still alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run is alive; one on another machine is assumed to be."""
        if RUN_PROCESS_TAG in run.tags and GRPC_INFO_TAG not in run.tags:
            if not has_died(run.tags[RUN_PROCESS_TAG]):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {_number(run)} is gone")
        reported = _reported_process(self._instance, run.run_id)
        if reported is None or not _is_here(run) or _is_alive(*reported):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {reported[0]} is gone")


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs in progress whose process on this machine is gone, whoever started them; return their ids.

    Args:
        instance: The embedded instance; with another run launcher nothing is done.
    """
    launcher = instance.run_launcher
    if not isinstance(launcher, LocalRunLauncher):
        return []
    failed = []
    under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    for run in instance.get_runs(filters=under_way):
        health = launcher.check_run_worker_health(run)
        if health.status is WorkerStatus.NOT_FOUND:
            instance.report_run_failed(run, f"The run was killed: {health.msg}.")
            failed.append(run.run_id)
    return failed


def process_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Return the id of the process that executes a run, which it reports when it starts; None before."""
    reported = _reported_process(instance, run_id)
    return None if reported is None else reported[0]


def _reported_process(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Return the id of a run's process, and when it was reported (seconds since the epoch)."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _number(run: dg.DagsterRun) -> str:
    return run.tags[RUN_PROCESS_TAG].split(":")[1]


def _is_here(run: dg.DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return server.get("host") in _HERE


def _is_alive(pid: int, reported_at: float) -> bool:
    """Return whether the process is alive and belongs to the run; its id may have been reused."""
    try:
        process = psutil.Process(pid)
        began, command = process.create_time(), process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # gone, a zombie, or another user's
        return False
    return began <= reported_at + _CLOCK_SECONDS and any(_STARTED_BY in word for word in command)
