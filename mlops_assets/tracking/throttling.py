"""Retrying requests that an MLflow server throttles.

What belongs here: telling throttling and other transient errors from lasting ones, and waiting. What does not: the
requests themselves (`tracking`, `trial_writer`).

MLflow's own client honours Retry-After, but counts each 429 as one of its few retries. It must give up soon on a server
that is down, so it gives up just as soon on one that is only busy. Rate limits of managed servers last for minutes
(see the comment at MLFLOW_HTTP_REQUEST_MAX_RETRIES in `mlflow/environment_variables.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_before_delay,
    stop_when_event_set,
    wait_exponential,
)

Answer = TypeVar("Answer")

TOO_MANY_REQUESTS = 429
_UNAVAILABLE = (TOO_MANY_REQUESTS, 502, 503, 504)
PATIENCE_SECONDS = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


def patiently(
    request: Callable[[], Answer], *, seconds: float = PATIENCE_SECONDS, stop: threading.Event | None = None
) -> Answer:
    """Make a request, and repeat it while the server throttles it.

    The server did not execute a throttled request, so repeating it is safe.

    Args:
        request: Makes the request.
        seconds: How long to keep trying.
        stop: Ends the waiting when it is set.

    Raises:
        MlflowException: Any other error, or the last throttled request.
    """
    ended = stop or threading.Event()
    retrying = Retrying(
        retry=retry_if_exception(is_throttled),
        wait=wait_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        stop=stop_before_delay(seconds) | stop_when_event_set(ended),
        sleep=sleep_using_event(ended),
        reraise=True,
    )
    return retrying(request)


def is_throttled(error: BaseException) -> bool:
    """Return whether a request failed only because of a rate limit (HTTP status 429)."""
    if not isinstance(error, MlflowException):
        return False
    if error.get_http_status_code() == TOO_MANY_REQUESTS:
        return True
    # After the last retry `requests` raises, and MLflow wraps that error without a status code.
    cause = error.__cause__ or error.__context__
    return isinstance(cause, requests.exceptions.RetryError) and f"too many {TOO_MANY_REQUESTS} error" in str(cause)


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later: the server is busy, restarts, or can't be reached.

    Status 500 does not count: MLflow also gives it to its own errors, and to any exception without a code.
    """
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in _UNAVAILABLE
    if isinstance(error, MlflowException) and error.get_http_status_code() in _UNAVAILABLE:
        return True
    unreachable = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError)
    return isinstance(error, unreachable) or isinstance(error.__cause__ or error.__context__, unreachable)
