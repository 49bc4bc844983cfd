"""Calls to the workspace: authenticated, retried after transient errors, and checked for credentials in their content.

What belongs here: one call and its retries. What does not: which calls make a launch (`staging`, `submission`,
`watch`).

Requests are plain dictionaries sent through the SDK's own client, not its data classes, so fields that the installed
SDK does not know yet can be sent too (dagster-io/dagster#18425).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests
from databricks.sdk import WorkspaceClient, errors
from databricks.sdk.errors.base import DatabricksError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

from mlops_assets.databricks.login import Credentials, held_secrets, refused_login
from mlops_assets.errors import LaunchError

__all__ = ["Api", "Credentials", "OutOfTimeError"]

Answer = TypeVar("Answer")

_DOUBLING = wait_exponential(multiplier=0.25, max=10.0)  # seconds
_HTTP_TIMEOUT_S = 60


class OutOfTimeError(LaunchError):
    """No time was left for a call."""


class Api:
    """The workspace's REST API.

    Args:
        credentials: The caller's identity.
        retry_seconds: How long a call that fails for a transient reason is retried.
        http_timeout_seconds: Timeout of one request.
        budget_seconds: Time for all calls together, from now; no call starts after it.

    Attributes:
        host: Address of the workspace.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        retry_seconds: float = 120.0,
        http_timeout_seconds: int = _HTTP_TIMEOUT_S,
        budget_seconds: float = math.inf,
    ) -> None:
        self.host = credentials.host
        self._credentials, self._retry_seconds = credentials, retry_seconds
        self._http_timeout_seconds = http_timeout_seconds
        self._out_of_time_at = time.monotonic() + budget_seconds
        self._client: Any = None
        self._held: tuple[bytes, ...] = ()

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Secrets that may leave this machine only as the credentials of a call."""
        if self._credentials.unified:  # until then nobody knows them
            self._connected()
        return (*self._credentials.secrets, *self._held)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        retry_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Return the answer of a call; it must be safe to repeat.

        Args:
            method: HTTP verb.
            path: Path, escaped.
            query: Query parameters.
            body: JSON object to send.
            data: Bytes to send instead.
            retry_seconds: As for the class, but for this call.

        Raises:
            databricks.sdk.errors.DatabricksError: The workspace rejects the call.
            LaunchError: It did not answer in time, it rejects the caller's identity, or the content has a credential.
            OutOfTimeError: The budget of all calls is used up.
        """
        content = json.dumps(body).encode() if body else data or b""
        arguments: dict[str, Any] = {"query": dict(query or {}) or None, "body": dict(body) if body else None}
        if data is not None:
            arguments["headers"] = {"Content-Type": "application/octet-stream"}

        def request() -> dict[str, Any]:
            client = self._connected()  # a login may take a call of its own, which is retried like any other
            self.require_harmless(content, path)
            stream = {} if data is None else {"data": io.BytesIO(data)}
            return dict(client.do(method, path, **arguments, **stream))

        return self._patiently(request, f"{method} {path}", retry_seconds)

    def download(self, path: str) -> bytes:
        """Return the bytes of a GET; errors as in `call`."""

        def request() -> bytes:
            with contextlib.closing(self._connected().do("GET", path, raw=True)["contents"]) as stream:
                return bytes(stream.read())

        return self._patiently(request, f"GET {path}", None)

    def _connected(self) -> Any:
        if self._client is None:
            config = self._credentials.config(
                # The SDK's own retries would wait up to 300 s without a log line. With 1 s it makes one attempt and the
                # pause that the workspace asks for (Retry-After); this class does the retrying.
                retry_timeout_seconds=1,
                http_timeout_seconds=self._http_timeout_seconds,
            )
            self._held = held_secrets(config)
            self._client = WorkspaceClient(config=config).api_client
        return self._client

    def require_harmless(self, content: bytes, where: str) -> None:
        """Refuse to send content with a credential of the caller.

        Raises:
            LaunchError: It contains one.
        """
        if any(secret in content for secret in self.secrets):
            raise LaunchError(
                "the content to be sent contains a credential of the launching side",
                where=where,
                fix="remove it from the run's config, its tags or the profile: the cluster has its own identity, and "
                "other secrets belong in a secret scope",
            )

    def _patiently(self, request: Callable[[], Answer], what: str, retry_seconds: float | None) -> Answer:
        left = self._out_of_time_at - time.monotonic()
        if left <= 0:
            raise OutOfTimeError(f"no time left for {what}", where=self.host, fix="try again, or allow more time")
        limit = min(self._retry_seconds if retry_seconds is None else retry_seconds, left)
        stop = stop_before_delay(limit)
        try:
            return Retrying(retry=retry_if_exception(_is_transient), wait=_pause, stop=stop, reraise=True)(request)
        except Exception as error:
            if _is_transient(error):
                raise LaunchError(
                    f"the workspace does not answer ({what}): tried for {limit:.0f} s, last error {_summary(error)}",
                    where=self.host,
                    fix="check the network and the status page of Databricks, then launch again",
                    transient=True,
                ) from error
            if type(error) is ValueError:  # of the SDK, when a login server refuses
                raise refused_login(self.host, error) from None
            if _is_rejected(error):
                raise LaunchError(
                    f"the workspace rejects the credentials: {_summary(error)}",
                    where=f"{self.host} ({what})",
                    fix="renew DATABRICKS_TOKEN, or check DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, or the "
                    "login that databricks-sdk was left to find",
                ) from None
            raise


def _pause(state: RetryCallState) -> float:
    """Return a doubling pause, shortened at random: callers that failed together should not retry together."""
    return _DOUBLING(state) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _is_transient(error: BaseException) -> bool:
    transient = (
        errors.InternalError,
        errors.TemporarilyUnavailable,
        errors.TooManyRequests,
        errors.DeadlineExceeded,
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        TimeoutError,  # the SDK raises it at the end of its own retries
    )
    # An answer that does not come from Databricks itself (a gateway's page) has no class of its own.
    return isinstance(error, transient) or (type(error) is DatabricksError and "unable to parse" in str(error))


def _is_rejected(error: BaseException) -> bool:
    if isinstance(error, errors.Unauthenticated):
        return True
    # A rejected token is 403 with the status as its code (databricks/databricks-sdk-go#873).
    return isinstance(error, errors.PermissionDenied) and str(error.error_code) == "403"


def _summary(error: BaseException | None) -> str:
    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
    return f"{type(cause).__name__}: {cause}"
