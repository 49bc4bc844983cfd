"""Dagster's own run launcher, with one thing added: it notices when the process of a run is gone.

What belongs here: telling a run that is going from one that nobody executes. What does not: what becomes of
it (Dagster's run monitoring fails it, sensors and conditions ask for it again), runs on Databricks (`databricks`).

A run is a child of the code server, which reports a child that died. When both are gone in one blow - power cut, a
killed `make ui` - nobody does: the run stays "started" for ever, it holds one of the places for runs, and whatever
waits for its end (`automation`) waits for ever as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import DagsterRun

_HERE: Final = ("localhost", "127.0.0.1", "::1")
# Python starts the process of a run by this module, and the command line shows it.
_STARTED_BY: Final = "multiprocessing"
# A process that began so long after the run told its id is another one. Not less: when the clock is set, what the
# kernel says of a living process moves with it.
_CLOCK_SECONDS: Final = 60.0


class LocalRunLauncher(DefaultRunLauncher):
    """Launches runs as processes of the code server, and tells whether they are still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run is there; one on another machine is believed to be."""
        told = _told(self._instance, run.run_id)
        if told is None or not _is_here(run) or _is_there(*told):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {told[0]} is gone")


def process_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Return the id of the process that executes a run, as it has told it; None before it does."""
    told = _told(instance, run_id)
    return None if told is None else told[0]


def _told(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Return the id of a run's process, and when it was told (seconds since the epoch)."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _is_here(run: DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return server.get("host") in _HERE


def _is_there(pid: int, told_at: float) -> bool:
    """Return whether the process is there and is the run's; a number may have been given to another process since."""
    try:
        process = psutil.Process(pid)
        began, command = process.create_time(), process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # gone, a zombie, or another user's
        return False
    return began <= told_at + _CLOCK_SECONDS and any(_STARTED_BY in word for word in command)
