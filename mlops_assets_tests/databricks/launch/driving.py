"""Helpers of the tests: run a job of the code location in this process, its steps on the workspace.

What belongs here: starting jobs and sorting what they tell. What does not: what should be told.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.api import execute_run

from databricks_loopback import Workspace

MODULE = "mlops_assets_tests.databricks.launch.code_location"
CHECKOUT = Path(__file__).resolve().parents[3]
VOLUME = "main.ml.staging"
PATHS = {"volume": "/Volumes/main/ml/staging/launches", "dbfs": "dbfs:/launches"}
CLUSTER = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0}
IN_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}


@dataclass
class Outcome:
    """How a job went, as the event log of its instance has it."""

    success: bool
    entries: list[EventLogEntry] = field(default_factory=list)

    def events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        found = [entry.dagster_event for entry in self.entries if entry.dagster_event is not None]
        return [event for event in found if event.event_type == kind]

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the only materialization."""
        (event,) = self.events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        return {name: value.value for name, value in event.materialization.metadata.items()}

    @property
    def failure(self) -> dg.DagsterEvent:
        """The only end of the step, a failure."""
        assert not self.success
        (event,) = self.events(dg.DagsterEventType.STEP_FAILURE)
        assert self.events(dg.DagsterEventType.STEP_SUCCESS) == []
        return event

    @property
    def failure_text(self) -> str:
        """All that the failure's row in the UI has: error with causes, description and metadata."""
        data = self.failure.step_failure_data
        shown = data.user_failure_data
        metadata = {name: value.value for name, value in shown.metadata.items()} if shown else {}
        error = data.error.to_string() if data.error else ""
        return "\n".join([error, str(shown.description if shown else ""), *map(str, metadata.items())])

    def messages(self) -> list[str]:
        return [entry.user_message for entry in self.entries]

    def says(self, text: str) -> bool:
        return any(text in message for message in self.messages())


@dataclass
class Driver:
    """Runs jobs whose steps are launched on a workspace.

    Args:
        workspace: Where to.
        kind: Staging.
        monkeypatch: Sets the variables that the code location reads.
    """

    workspace: Workspace
    kind: str
    monkeypatch: pytest.MonkeyPatch

    def fields(self, **changes: Any) -> dict[str, Any]:
        """Return the fields of the launch, as JSON."""
        return {
            "host": self.workspace.host,
            "cluster": CLUSTER,
            "staging": self.kind,
            "staging_path": PATHS[self.kind],
            "python_on_workers": False,
            "poll_seconds": 0.5,
            **changes,
        }

    def run(
        self,
        asset: str,
        *,
        watch: Callable[[EventLogEntry], None] | None = None,
        instance: dg.DagsterInstance | None = None,
        run_config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        **changes: Any,
    ) -> Outcome:
        """Run the job of an asset; `watch` gets each entry of the event log when it is stored."""
        self.monkeypatch.setenv("LAUNCH_SPEC", json.dumps(self.fields(**changes)))
        self.monkeypatch.setenv("LAUNCH_TOKEN", self.workspace.token)
        job = job_of(asset)
        made = dg.DagsterInstance.ephemeral() if instance is None else instance
        entries: list[EventLogEntry] = []

        def listen(entry: EventLogEntry) -> None:
            entries.append(entry)
            if watch is not None:
                watch(entry)

        run = made.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin(), tags=tags,
                                      run_config=run_config or IN_PROCESS)  # fmt: skip
        made.add_event_listener(run.run_id, listen)
        result = execute_run(job, run, made)
        return Outcome(result.success, entries)


def is_idle(workspace: Workspace) -> bool:
    """Whether no run is active."""
    return not any(run.is_active for run in workspace.runs)


def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def trees(workspace: Workspace) -> tuple[Path, ...]:
    """Return where launches can leave files: volumes, DBFS, workspace files."""
    return workspace.storage.volumes, workspace.storage.dbfs, workspace.storage.files


def staged(workspace: Workspace) -> list[str]:
    """Return all staged files, main scripts included, by their paths below `trees`."""
    return sorted(
        path.relative_to(tree).as_posix() for tree in trees(workspace) for path in tree.rglob("*") if path.is_file()
    )


def job_of(asset: str) -> ReconstructableJob:
    """Return the job of an asset in the form in which a step of it can be launched."""
    pointer = ModuleCodePointer(MODULE, "defs", str(CHECKOUT))
    return ReconstructableJob(ReconstructableRepository(pointer), f"{asset}_job")


def main() -> None:
    """Run the job of an asset in a process of its own, for a test to kill; the variables are set already."""
    with dg.DagsterInstance.ephemeral() as instance:
        dg.execute_job(job_of(sys.argv[1]), instance=instance, run_config=IN_PROCESS)


if __name__ == "__main__":
    main()
