"""One-time runs and their tasks: submission, state, end.

What belongs here: the records and their JSON. What does not: ways to end (`run_states`), starting and killing processes
(`runner`, `attempt`), checking a submission (`submission`), the REST API (`api.jobs`).

Shapes: `databricks.sdk.service.jobs.Run`, `RunTask`, `RunOutput`, and the recorded run in flyteorg/flytekit PR 1935.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from databricks_loopback.clusters import Cluster, now_ms
from databricks_loopback.run_states import (
    CANCELED,
    SUCCESS,
    TIMED_OUT,
    UPSTREAM_FAILED,
    End,
    LifeCycle,
    state_document,
    status_document,
)
from databricks_loopback.wire import invalid

# The platform returns the last 5 MB of a task's output.
LOG_LIMIT = 5 * 1024 * 1024


@dataclass
class TaskRun:
    """One task of a run.

    Attributes:
        id: Its own run id, for `runs/get-output`.
        key: `task_key`.
        spec: The submitted `SubmitTask`.
        folder: Local folder of its logs and control files.
        cluster: Its cluster, once it has one.
        phase: Its state; after its end, the last state before.
        end: How it ended, or None.
        error: Exception in one line, such as `ValueError: no`.
        error_trace: Traceback of the exception.
    """

    id: int
    key: str
    spec: Mapping[str, Any]
    folder: Path
    cluster: Cluster | None = None
    phase: LifeCycle = "PENDING"
    end: End | None = None
    error: str = ""
    error_trace: str = ""
    started_at: int = field(default_factory=now_ms)
    running_at: int = 0
    ended_at: int = 0
    finished: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)

    def running(self) -> None:
        """Record that its process starts."""
        self.phase, self.running_at = "RUNNING", now_ms()

    def finish(self, end: End) -> None:
        """Record how it ended."""
        self.ended_at, self.end = now_ms(), end
        self.finished.set()

    def document(self, url: str) -> dict[str, Any]:
        """Return the task in the shape of `runs/get`; `url` is its page."""
        asked = {name: value for name, value in self.spec.items() if name not in ("health", "task_key")}
        end = self.end  # read once: the task may end while this document is made
        life_cycle = self.phase if end is None else end.life_cycle
        document = {
            "run_id": self.id,
            "task_key": self.key,
            "run_if": "ALL_SUCCESS",
            **asked,
            "state": state_document(life_cycle, end),
            "status": status_document(life_cycle, end),
            "run_page_url": url,
            "start_time": self.started_at,
            "setup_duration": (self.running_at - self.started_at) if self.running_at else 0,
            "execution_duration": (self.ended_at - self.running_at) if self.running_at and self.ended_at else 0,
            "cleanup_duration": 0,
            "end_time": self.ended_at,
            "attempt_number": 0,
        }
        if self.cluster is not None:
            document["cluster_instance"] = {
                "cluster_id": self.cluster.id,
                **({"spark_context_id": str(self.cluster.spark_context_id)} if self.running_at else {}),
            }
        return document

    def logs(self) -> tuple[str, bool]:
        """Return its output, stdout before stderr, and whether the beginning was cut off."""
        files = [self.folder / "stdout", self.folder / "stderr"]
        text = b"".join(path.read_bytes() for path in files if path.exists())
        return text[-LOG_LIMIT:].decode("utf-8", "replace"), len(text) > LOG_LIMIT


@dataclass
class Run:
    """A one-time run (`runs/submit`).

    Attributes:
        id: Run id.
        job_id: The hidden job that the platform creates for it.
        name: `run_name`.
        request: The whole submission.
        tasks: Its tasks, in submitted order.
        creator: The user that submitted it.
    """

    id: int
    job_id: int
    name: str
    request: Mapping[str, Any]
    tasks: list[TaskRun]
    creator: str
    started_at: int = field(default_factory=now_ms)

    @property
    def is_active(self) -> bool:
        """Whether a task has not ended yet."""
        return not all(task.finished.is_set() for task in self.tasks)

    def life_cycle(self, end: End | None) -> LifeCycle:
        """Return its life cycle state.

        Args:
            end: The value of `end` that the caller has read; a task that ends afterwards does not change the result.
        """
        if end is not None:
            return end.life_cycle
        states = {task.phase if task.end is None else "TERMINATING" for task in self.tasks}
        if states == {"PENDING"}:
            return "PENDING"
        return "TERMINATING" if states == {"TERMINATING"} else "RUNNING"

    @property
    def end(self) -> End | None:
        """How it ended, taken from the first task that did not succeed; None while it is active."""
        if self.is_active:
            return None
        for task in self.tasks:
            end = task.end
            if end is not None and not end.is_success and end is not UPSTREAM_FAILED:
                if end in (CANCELED, TIMED_OUT):
                    return end
                skipped = any(other.end is UPSTREAM_FAILED for other in self.tasks)
                tail = " This caused all downstream tasks to get skipped." if skipped else ""
                message = f"Task {task.key} failed with message: {end.message.rstrip('.')}.{tail}"
                return End("INTERNAL_ERROR", end.result, message, end.code, end.type)
        return SUCCESS

    @property
    def ended_at(self) -> int:
        """When its last task ended, 0 while it is active."""
        return 0 if self.is_active else max(task.ended_at for task in self.tasks)

    def document(self, host: str, workspace_id: int, *, with_tasks: bool = True) -> dict[str, Any]:
        """Return the run in the shape of `runs/get`.

        Args:
            host: Address of the workspace, for the links.
            workspace_id: Number of the workspace, for the links.
            with_tasks: Whether to include the tasks.
        """
        page = f"{host}/?o={workspace_id}#job/{self.job_id}/run"
        end = self.end
        document: dict[str, Any] = {
            "job_id": self.job_id,
            "run_id": self.id,
            "number_in_job": self.id,
            "original_attempt_run_id": self.id,
            "creator_user_name": self.creator,
            "run_name": self.name,
            "run_type": "SUBMIT_RUN",
            "trigger": "ONE_TIME",
            "format": "MULTI_TASK",
            "state": state_document(self.life_cycle(end), end),
            "status": status_document(self.life_cycle(end), end),
            "run_page_url": f"{page}/{self.id}",
            "start_time": self.started_at,
            "end_time": self.ended_at,
            "setup_duration": 0,
            "execution_duration": 0,
            "cleanup_duration": 0,
            "run_duration": (self.ended_at or now_ms()) - self.started_at,
        }
        if with_tasks:
            document["tasks"] = [task.document(f"{page}/{task.id}") for task in self.tasks]
        return document


class Runs:
    """All runs, and their idempotency tokens.

    Args:
        folder: Parent of the tasks' folders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[int, Run] = {}
        self._by_token: dict[str, int] = {}
        self._ids = itertools.count(secrets.randbelow(10**14) + 10**14, 7)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter(list(self._runs.values()))

    def add(self, request: Mapping[str, Any], creator: str) -> tuple[Run, bool]:
        """Create the run of a checked submission, or return the one with the same idempotency token.

        Returns:
            The run, and whether it is new.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE: the token's run was deleted.
        """
        token = str(request.get("idempotency_token") or "")
        with self._lock:
            if token in self._by_token:
                known = self._runs.get(self._by_token[token])
                if known is None:
                    raise invalid(f"The run with idempotency token {token} was deleted.")
                return known, False
            run_id, job_id = next(self._ids), next(self._ids)
            run = Run(run_id, job_id, str(request.get("run_name") or "Untitled"), request, [], creator)
            for spec in request["tasks"]:
                task_id = next(self._ids)
                folder = self._folder / str(task_id)
                folder.mkdir(mode=0o700, parents=True)  # the task's description has the token
                run.tasks.append(TaskRun(task_id, spec["task_key"], spec, folder))
            self._runs[run.id] = run
            if token:
                self._by_token[token] = run.id
            return run, True

    def get(self, run_id: int) -> Run:
        """Return a run, by its id or a task's.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE, with a message that the SDK maps to ResourceDoesNotExist.
        """
        for run in self:
            if run.id == run_id or any(task.id == run_id for task in run.tasks):
                return run
        raise invalid(f"Run {run_id} does not exist.")

    def delete(self, run_id: int) -> None:
        """Delete a run that has ended; errors as in `get`."""
        run = self.get(run_id)
        if run.is_active:
            raise invalid(f"Cannot delete run {run_id} because it is still active.")
        with self._lock:
            del self._runs[run.id]
