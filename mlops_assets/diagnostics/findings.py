"""How checks say what they found.

What belongs here: making findings, and what every check of a workspace shares. What does not: checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import requests
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.preflight import Finding

# What is written to see whether a folder can be written, and removed at once.
PROBE: Final = b"mlops_assets doctor: may be deleted\n"
# The SDK repeats for 5 minutes what could not connect; someone who asks what is wrong wants to know now.
PATIENCE_SECONDS: Final = 10
# What the SDK raises for an answer that is an error, and for no answer.
WORKSPACE_ERRORS: Final = (DatabricksError, OSError, TimeoutError)


def ok(subject: str, text: str) -> Finding:
    """Return that all is well with `subject`."""
    return Finding("ok", subject, text)


def wrong(subject: str, text: str) -> Finding:
    """Return what is wrong with `subject`, and what to do about it."""
    return Finding("error", subject, text)


def is_there(subject: str, identity: str, look: Callable[[], object], fix: str) -> Finding:
    """Ask the workspace for one thing by its identity; `fix` says what to do when it is not there."""
    try:
        look()
    except WORKSPACE_ERRORS as error:
        return wrong(subject, f"{identity}: {in_one_line(error)}; {fix}")
    return ok(subject, f"{identity} is there")


def in_one_line(error: BaseException) -> str:
    """Return the cause in one line, without the settings that the SDK adds and without layers of HTTP libraries."""
    cause: BaseException | None = error
    while cause is not None and isinstance(error, requests.RequestException):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = str(error).partition(". Config: ")[0].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
