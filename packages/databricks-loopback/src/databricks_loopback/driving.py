"""Helpers for tests that submit tasks through databricks-sdk.

What belongs here: uploading a script, submitting it, waiting until it ends. What does not: the workspace.
"""

from __future__ import annotations

import io
import textwrap
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import ClusterSpec
from databricks.sdk.service.jobs import Run, RunOutput, SparkPythonTask, SubmitTask

_POLL_S = 0.05
# `states` of a run that succeeded.
SUCCESS = ("TERMINATED", "SUCCESS", "")


def small_cluster(**fields: Any) -> ClusterSpec:
    """Return a spec of the smallest cluster, with other fields of `ClusterSpec`."""
    common: dict[str, Any] = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0}
    return ClusterSpec(**(common | fields))


def python_task(code: str, client: WorkspaceClient, *parameters: str, key: str = "main", **fields: Any) -> SubmitTask:
    """Upload a script to DBFS and return the task that runs it.

    Args:
        code: The script; common indentation is removed.
        client: The client.
        *parameters: `sys.argv[1:]` of the script.
        key: `task_key`.
        **fields: Other fields of `SubmitTask`; without a cluster it gets a small one.
    """
    path = f"/code/{uuid.uuid4().hex}.py"
    client.dbfs.upload(path, io.BytesIO(textwrap.dedent(code).encode()))
    if "existing_cluster_id" not in fields:
        fields.setdefault("new_cluster", small_cluster())
    file = SparkPythonTask(python_file=f"dbfs:{path}", parameters=list(parameters))
    return SubmitTask(task_key=key, spark_python_task=file, **fields)


def submit(client: WorkspaceClient, *tasks: SubmitTask, **fields: Any) -> int:
    """Submit tasks as one run and return its id; `fields` are those of `JobsAPI.submit`."""
    run_id: int = client.jobs.submit(tasks=list(tasks), **fields).bind()["run_id"]
    return run_id


def wait_until(client: WorkspaceClient, run_id: int, condition: Callable[[Run], bool], *, seconds: float = 60.0) -> Run:
    """Poll a run until a condition holds.

    Raises:
        AssertionError: It did not hold within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        run = client.jobs.get_run(run_id)
        if condition(run):
            return run
        assert time.monotonic() < deadline, f"after {seconds} s the run was {run.state}"
        time.sleep(_POLL_S)


def wait_for_end(client: WorkspaceClient, run_id: int, *, seconds: float = 60.0) -> Run:
    """Poll a run until it has ended."""
    return wait_until(client, run_id, lambda run: bool(run.state and run.state.result_state), seconds=seconds)


def wait_for_text(client: WorkspaceClient, path: str, *, seconds: float = 30.0) -> str:
    """Poll DBFS until a file has content, and return it; a task writes it to report its progress to a test."""
    deadline = time.monotonic() + seconds
    while not (client.dbfs.exists(path) and client.dbfs.get_status(path).file_size):
        assert time.monotonic() < deadline, f"no {path} after {seconds} s"
        time.sleep(_POLL_S)
    return client.dbfs.download(path).read().decode()


def run_code(client: WorkspaceClient, code: str, *parameters: str, **fields: Any) -> tuple[Run, RunOutput]:
    """Run a script as a task and return the ended run and the task's output; arguments as in `python_task`."""
    run = wait_for_end(client, submit(client, python_task(code, client, *parameters, **fields)))
    return run, output(client, run)


def output(client: WorkspaceClient, run: Run, index: int = 0) -> RunOutput:
    """Return the output of one task of a run."""
    assert run.tasks is not None
    run_id = run.tasks[index].run_id
    assert run_id is not None
    return client.jobs.get_run_output(run_id)


def states(run: Run) -> tuple[str, str | None, str]:
    """Return life cycle state, result state and message of a run."""
    assert run.state is not None
    assert run.state.life_cycle_state is not None
    result = run.state.result_state.value if run.state.result_state else None
    return run.state.life_cycle_state.value, result, run.state.state_message or ""


def cluster_id(run: Run) -> str:
    """Return the cluster of a run's first task."""
    assert run.tasks is not None
    instance = run.tasks[0].cluster_instance
    assert instance is not None
    assert instance.cluster_id is not None
    return instance.cluster_id


def processes(text: str) -> list[str]:
    """Return the command lines of this machine's processes that contain a text."""
    matches = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it has ended
        if text in command:
            matches.append(command)
    return matches
