"""Fault injection: each fault happens a limited number of times.

What belongs here: faults of the REST API (what a call gets instead of its answer), faults of compute (what happens to a
cluster), and the queue of pending faults. What does not: the calls and clusters themselves.

A fault that never happened proves nothing: `Faults.unmet` lists those, so that a test can assert that there are none.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from databricks_loopback.start_failures import StartFailure
from databricks_loopback.wire import ApiError, Reply, Request

Proceed = Callable[[], Reply]
Play = Callable[[Request, Proceed], Reply]


class ConnectionDropped(Exception):  # noqa: N818 - an instruction for the server, not a failure of it
    """Close the connection without an answer."""


@dataclass(kw_only=True)
class Fault:
    """One fault; as a context manager it is removed at the end of the block.

    Attributes:
        name: Its name in the call log.
        times: How often it happens; None means until it is removed.
        after: How many occasions are left alone first.
        met: How often it has happened.
    """

    name: str
    times: int | None = 1
    after: int = 0
    met: int = 0
    queue: Faults = field(repr=False)

    def remove(self) -> None:
        """Remove it from the queue."""
        self.queue.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


@dataclass(kw_only=True)
class CallFault(Fault):
    """A fault of the REST API.

    Attributes:
        fits: Whether the fault applies to a request.
        play: Takes the request and a function that answers it normally; returns the reply for the caller.
    """

    fits: Callable[[Request], bool]
    play: Play


@dataclass(kw_only=True)
class ComputeFault(Fault):
    """A fault of a cluster, which happens to the next task that is placed on one.

    Attributes:
        delay_s: Seconds that a new cluster stays PENDING.
        failure: Why a new cluster fails to start.
        lost_after_s: Seconds in RUNNING after which the cloud reclaims the machines.
    """

    delay_s: float = 0.0
    failure: StartFailure | None = None
    lost_after_s: float | None = None


@dataclass(frozen=True)
class Fate:
    """The faults that apply to one cluster; fields as in `ComputeFault`."""

    delay_s: float = 0.0
    failure: StartFailure | None = None
    lost_after_s: float | None = None


class Faults:
    """The pending faults. Paths are shell patterns, such as `/api/2.0/dbfs/*`."""

    def __init__(self) -> None:
        self._calls: list[CallFault] = []
        self._compute: list[ComputeFault] = []
        self._lock = threading.Lock()

    # What a call gets -------------------------------------------------------------------------------------------------

    def on_call(
        self, name: str, play: Play, *, method: str = "*", path: str = "*", times: int | None = 1, after: int = 0
    ) -> CallFault:
        """Inject any fault of the API; the methods below are the common ones.

        Args:
            name: Its name in the log.
            play: See `CallFault`.
            method: Shell pattern of the verb.
            path: Shell pattern of the path.
            times: How often; None means until removed.
            after: How many matching calls are left alone first.
        """

        def fits(request: Request) -> bool:
            return fnmatchcase(request.method, method) and fnmatchcase(request.path, path)

        return self._queue(CallFault(name=name, fits=fits, play=play, times=times, after=after, queue=self))

    def throttle(self, path: str = "*", *, times: int = 3, retry_after_s: int = 1, method: str = "*") -> CallFault:
        """A burst of 429; the SDK waits for `retry_after_s` and up to 1 s more, and retries."""
        error = ApiError(429, "REQUEST_LIMIT_EXCEEDED", "Current request has to be retried")
        limited = replace(error.reply(), headers={"Retry-After": str(retry_after_s)} | dict(error.reply().headers))
        return self.on_call("throttle", lambda _request, _proceed: limited, method=method, path=path, times=times)

    def server_error(self, path: str = "*", *, times: int = 1, method: str = "*", after: int = 0) -> CallFault:
        """500 before the call has any effect; the SDK does not retry it."""
        reply = ApiError(500, "INTERNAL_ERROR", "Internal server error").reply()
        return self.on_call(
            "server_error", lambda _request, _proceed: reply, method=method, path=path, times=times, after=after
        )

    def unavailable(self, path: str = "*", *, times: int = 1, method: str = "*") -> CallFault:
        """503, as during a deployment of the platform; the SDK retries it."""
        error = ApiError(503, "TEMPORARILY_UNAVAILABLE", "The service is temporarily unavailable").reply()
        reply = replace(error, headers={"Retry-After": "0"} | dict(error.headers))
        return self.on_call("unavailable", lambda _request, _proceed: reply, method=method, path=path, times=times)

    def lose_answer(self, path: str = "*", *, times: int = 1, method: str = "*") -> CallFault:
        """The call takes effect, but the connection breaks before the answer; the SDK repeats the call."""

        def play(_request: Request, proceed: Proceed) -> Reply:
            proceed()
            raise ConnectionDropped

        return self.on_call("lose_answer", play, method=method, path=path, times=times)

    def drop(self, path: str = "*", *, times: int = 1, method: str = "*") -> CallFault:
        """The connection breaks before the call takes effect."""

        def play(_request: Request, _proceed: Proceed) -> Reply:
            raise ConnectionDropped

        return self.on_call("drop", play, method=method, path=path, times=times)

    def slow_answer(self, seconds: float, path: str = "*", *, times: int = 1, method: str = "*") -> CallFault:
        """The answer comes late."""

        def play(_request: Request, proceed: Proceed) -> Reply:
            time.sleep(seconds)
            return proceed()

        return self.on_call("slow_answer", play, method=method, path=path, times=times)

    def expired_token(self, path: str = "*", *, times: int | None = None, after: int = 0) -> CallFault:
        """The caller's token is no longer accepted (use `Tokens.revoke` to revoke it for good)."""
        reply = ApiError(403, 403, "Invalid access token.").reply()
        return self.on_call("expired_token", lambda _request, _proceed: reply, path=path, times=times, after=after)

    def no_dbfs(self) -> CallFault:
        """DBFS root is disabled in the account, until removed; `Workspace(dbfs=...)` decides about the mount."""

        def play(request: Request, _proceed: Proceed) -> Reply:
            path = request.query.get("path") or request.document().get("path", "/")
            message = f"Public DBFS root is disabled. Access is denied on path: {path}"
            return ApiError(403, "PERMISSION_DENIED", message).reply()

        return self.on_call("no_dbfs", play, path="/api/2.0/dbfs/*", times=None)

    def truncate_reads(self, file: str, *, keep: float = 0.5, times: int = 1) -> CallFault:
        """DBFS reads of a file return only its beginning, as while it is being written.

        Args:
            file: Shell pattern of the DBFS path, such as `*_events.pkl`.
            keep: Fraction of the bytes that is returned, 0 to 1.
            times: How many reads.
        """

        def fits(request: Request) -> bool:
            return request.path == "/api/2.0/dbfs/read" and fnmatchcase(request.query.get("path", ""), file)

        def play(_request: Request, proceed: Proceed) -> Reply:
            reply = proceed()
            if reply.error_code:
                return reply
            whole = base64.b64decode(json.loads(reply.body)["data"])
            part = whole[: int(len(whole) * keep)]
            return Reply.of({"bytes_read": len(part), "data": base64.b64encode(part).decode()})

        return self._queue(CallFault(name="truncate_reads", fits=fits, play=play, times=times, queue=self))

    # What happens to a cluster ----------------------------------------------------------------------------------------

    def slow_start(self, seconds: float, *, times: int = 1) -> ComputeFault:
        """A new cluster stays PENDING for some seconds."""
        return self._queue_compute(ComputeFault(name="slow_start", delay_s=seconds, times=times, queue=self))

    def start_failure(self, failure: StartFailure, *, times: int = 1) -> ComputeFault:
        """A new cluster fails to start; see `start_failures` for the common reasons."""
        return self._queue_compute(ComputeFault(name="start_failure", failure=failure, times=times, queue=self))

    def spot_loss(self, after_s: float = 0.0, *, times: int = 1) -> ComputeFault:
        """The cloud reclaims the machines after some seconds in RUNNING: all processes are killed.

        To lose a cluster at a certain point of a task, call `Cluster.lose` once the task has reached it.
        """
        return self._queue_compute(ComputeFault(name="spot_loss", lost_after_s=after_s, times=times, queue=self))

    # The queue --------------------------------------------------------------------------------------------------------

    def match(self, request: Request) -> CallFault | None:
        """Return the fault that applies to a call, and count it."""
        with self._lock:
            for fault in list(self._calls):
                if fault.fits(request) and self._due(fault):
                    return fault
        return None

    def fate(self, *, starting: bool) -> Fate:
        """Return the faults that apply to a cluster with a new task, and count them.

        Args:
            starting: Whether the cluster has to start first; a running one can only be lost.
        """
        delay_s, failure, lost_after_s = 0.0, None, None
        with self._lock:
            for fault in list(self._compute):
                if (starting or fault.lost_after_s is not None) and self._due(fault):
                    delay_s += fault.delay_s
                    failure = fault.failure or failure
                    lost_after_s = fault.lost_after_s if fault.lost_after_s is not None else lost_after_s
        return Fate(delay_s, failure, lost_after_s)

    def unmet(self) -> list[str]:
        """Return the names of pending faults that happened less often than requested."""
        with self._lock:
            waiting: list[Fault] = [*self._calls, *self._compute]
        return [fault.name for fault in waiting if fault.met < (1 if fault.times is None else fault.times)]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._calls.clear()
            self._compute.clear()

    def discard(self, fault: Fault) -> None:
        """Remove one fault if it is pending."""
        with self._lock:
            self._calls = [other for other in self._calls if other is not fault]
            self._compute = [other for other in self._compute if other is not fault]

    def _queue(self, fault: CallFault) -> CallFault:
        with self._lock:
            self._calls.append(fault)
        return fault

    def _queue_compute(self, fault: ComputeFault) -> ComputeFault:
        with self._lock:
            self._compute.append(fault)
        return fault

    @staticmethod
    def _due(fault: Fault) -> bool:
        """Count an occasion, and return whether the fault happens on it."""
        if fault.after > 0:
            fault.after -= 1
            return False
        if fault.times is not None and fault.met >= fault.times:
            return False
        fault.met += 1
        return True
