"""How checks report their findings.

What belongs here: making findings, and code that all checks of a workspace share. What does not: checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import requests
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.preflight import Finding

# Content of the file that tests whether a folder is writable; the file is removed at once.
PROBE: Final = b"mlops_assets doctor: may be deleted\n"
# By default the SDK retries a failed connection for 5 minutes, too long for a check that someone is waiting for.
PATIENCE_SECONDS: Final = 10
# Errors of the SDK for an error response, and for no response.
WORKSPACE_ERRORS: Final = (DatabricksError, OSError, TimeoutError)


def ok(subject: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding("ok", subject, text)


def wrong(subject: str, text: str) -> Finding:
    """Return a finding with a problem; `text` says what is wrong and how to fix it."""
    return Finding("error", subject, text)


def is_there(subject: str, identity: str, look: Callable[[], object], fix: str) -> Finding:
    """Check that an object of the workspace exists; `fix` says what to do if it does not."""
    try:
        look()
    except WORKSPACE_ERRORS as error:
        return wrong(subject, f"{identity}: {in_one_line(error)}; {fix}")
    return ok(subject, f"{identity} exists")


def in_one_line(error: BaseException) -> str:
    """Return the cause in one line, without the settings that the SDK appends and without wrapping HTTP errors."""
    cause: BaseException | None = error
    while cause is not None and isinstance(error, requests.RequestException):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = str(error).partition(". Config: ")[0].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
