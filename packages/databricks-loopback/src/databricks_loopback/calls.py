"""The record of every call, for assertions about what a client did.

What belongs here: the record and queries on it. What does not: answering calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from databricks_loopback.wire import ApiError, Reply, Request

# Blocks of uploads are up to 1 MB of base64 each: their size is enough.
_LONGEST_TEXT = 4_096


@dataclass(frozen=True)
class Call:
    """One answered call.

    Attributes:
        method: HTTP verb.
        path: Decoded path.
        query: Query parameters.
        body: JSON object that was sent, long strings replaced by their length; None if it was not a JSON object.
        size: Bytes of the request's body.
        status: HTTP status of the answer; 0 if a fault dropped the connection.
        error_code: Databricks' error code, or an empty string.
        fault: Name of the injected fault, or an empty string.
        user_agent: The client's User-Agent.
        user: The user of the token; empty if the token is missing or unknown.
        seconds: Time to answer.
        at: When the answer was ready, in seconds since the epoch.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] | None
    size: int
    status: int
    error_code: str
    fault: str
    user_agent: str
    user: str
    seconds: float
    at: float = field(default_factory=time.time)


class CallLog:
    """All calls, oldest first; thread-safe."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Call]:
        with self._lock:
            return iter(list(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def matching(self, method: str = "*", path: str = "*") -> list[Call]:
        """Return the calls whose verb and path match; both are shell patterns such as `/api/2.0/dbfs/*`."""
        return [call for call in self if fnmatchcase(call.method, method) and fnmatchcase(call.path, path)]

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()

    def record(self, request: Request, reply: Reply | None, *, user: str, fault: str, seconds: float) -> None:
        """Add a call; `reply` is None if the connection was dropped."""
        call = Call(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=_shortened(_document(request)),
            size=len(request.body),
            status=reply.status if reply else 0,
            error_code=reply.error_code if reply else "",
            fault=fault,
            user_agent=request.headers.get("user-agent", ""),
            user=user,
            seconds=seconds,
        )
        with self._lock:
            self._calls.append(call)


def _document(request: Request) -> Mapping[str, Any] | None:
    if not request.body or "json" not in request.headers.get("content-type", ""):
        return None
    try:
        return request.document()
    except ApiError:
        return None  # the error is in the record's error_code


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"<{len(value)} characters>"
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return value
