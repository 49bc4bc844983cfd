"""Dagster's own run launcher, with one thing added: it notices when the process of a run is gone.

What belongs here: telling a run that is going from one that nobody executes. What does not: what becomes of
it (Dagster's run monitoring fails it, sensors and conditions ask for it again), runs on Databricks (`databricks`).

A run is a child of the code server, which reports a child that died. When both are gone in one blow - power cut, a
killed `make ui` - nobody does: the run stays "started" for ever, it holds one of the places for runs, and whatever
waits for its end (`automation`) waits for ever as well.
"""

from __future__ import annotations

import json
import os
import subprocess

import dagster as dg

from mlops_assets.dagster_internals import GRPC_INFO_TAG, CheckRunHealthResult, WorkerStatus

_HERE = ("localhost", "127.0.0.1", "::1")
# Python starts the process of a run by this; after a restart of the machine its number may be somebody else's.
_STARTED_BY = "multiprocessing"


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Launches runs as processes of the code server, and tells whether they are still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run is there; one on another machine is believed to be."""
        process = process_of(self._instance, run.run_id)
        if process is None or not _is_here(run) or _is_there(process):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {process} is gone")


def process_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Return the id of the process that executes a run, as it has told it; None before it does."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        summary = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if summary is not None:
            return int(str(summary.value))
    return None


def _is_here(run: dg.DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return server.get("host") in _HERE


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: the number was given anew
        return False
    command = ["ps", "-ww", "-p", str(process), "-o", "args="]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no `ps`: better a run that seems to go than one that is failed while it goes
        return True
    return _STARTED_BY in shown.stdout
