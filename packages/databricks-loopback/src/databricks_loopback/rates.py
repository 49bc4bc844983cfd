"""Rate limits of the API: calls per second and workspace, above which it answers 429.

What belongs here: the limits and counting. What does not: throttling that a test injects (`faults`).

Source: "Resource limits" of the Databricks reference, section "API rate limits".
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase

from databricks_loopback.wire import ApiError, Request

_WINDOW_S = 1.0
# Method, path and calls per second. The first that fits counts.
LIMITS = (
    ("POST", "/api/2.*/jobs/runs/submit", 35),
    ("GET", "/api/2.*/jobs/runs/get", 100),
    ("*", "/api/2.0/dbfs/*", 30),
    ("POST", "/api/2.0/workspace/import", 30),
    ("GET", "/api/2.0/workspace/export", 60),
    ("GET", "/api/2.0/permissions/*", 100),
    ("P*", "/api/2.0/permissions/*", 30),
    ("*", "/api/2.0/mlflow/*/search", 7),
    ("*", "/api/2.0/mlflow/*", 120),
)


class Rates:
    """The calls of the last second.

    Args:
        clock: Seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[tuple[str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, request: Request) -> None:
        """Count a call.

        Raises:
            ApiError: 429 REQUEST_LIMIT_EXCEEDED: there were too many in the last second.
        """
        fits = (rule for rule in LIMITS if fnmatchcase(request.method, rule[0]) and fnmatchcase(request.path, rule[1]))
        rule = next(fits, None)
        if rule is None:
            return
        method, path, limit = rule
        now = self._clock()
        with self._lock:
            calls = self._calls.setdefault((method, path), deque())
            while calls and now - calls[0] >= _WINDOW_S:
                calls.popleft()
            if len(calls) >= limit:
                raise ApiError(
                    429,
                    "REQUEST_LIMIT_EXCEEDED",
                    f"Your request was rejected since your workspace has exceeded the rate limit of {limit} per second",
                )
            calls.append(now)
