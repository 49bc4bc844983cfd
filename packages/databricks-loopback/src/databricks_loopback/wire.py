"""Requests, replies and errors of the REST API.

What belongs here: the three shapes and the common errors. What does not: sockets (`server`), paths (`routing`), what a
call does (`api`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """A call that the workspace rejects, answered as `{"error_code": ..., "message": ...}`.

    Args:
        status: HTTP status.
        error_code: Databricks' code, such as `RESOURCE_DOES_NOT_EXIST`; a number if the platform sends the status
            itself (rejected tokens).
        message: Text for the user.
    """

    def __init__(self, status: int, error_code: str | int, message: str) -> None:
        self.status, self.error_code, self.message = status, error_code, message
        super().__init__(f"{status} {error_code}: {message}")

    def reply(self) -> Reply:
        """Return the error as a reply."""
        return Reply.of({"error_code": self.error_code, "message": self.message}, status=self.status)


def invalid(message: str) -> ApiError:
    """400 INVALID_PARAMETER_VALUE: a field is missing or its value is invalid."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def malformed(message: str) -> ApiError:
    """400 MALFORMED_REQUEST: the body does not have the shape of the call."""
    return ApiError(400, "MALFORMED_REQUEST", f"Could not parse request object: {message}")


def missing(message: str) -> ApiError:
    """404 RESOURCE_DOES_NOT_EXIST."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def exists(message: str) -> ApiError:
    """400 RESOURCE_ALREADY_EXISTS."""
    return ApiError(400, "RESOURCE_ALREADY_EXISTS", message)


def not_emulated(what: str) -> ApiError:
    """501 NOT_IMPLEMENTED: Databricks supports it, this emulator does not; the real platform never answers so."""
    return ApiError(501, "NOT_IMPLEMENTED", f"the loopback workspace does not emulate {what}")


@dataclass(frozen=True)
class Reply:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        body: Bytes of the body.
        headers: Header fields; Content-Length is added when it is sent.
        error_code: Databricks' code of an error, empty otherwise; for the call log.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error_code: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Return a JSON answer; `document` must be serializable as JSON."""
        fields = {"Content-Type": "application/json"} | dict(headers or {})
        return cls(status, json.dumps(document).encode(), fields, str(document.get("error_code", "")))


@dataclass(frozen=True)
class Request:
    """An HTTP request with its whole body.

    Attributes:
        method: Upper-cased verb.
        path: Path, decoded.
        query: Last value of each query parameter.
        headers: Header fields, names in lower case.
        body: Bytes of the body.
        user: The caller, once the token is checked.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str = ""

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the body; an empty body is an empty object.

        Raises:
            ApiError: MALFORMED_REQUEST: the body is not a JSON object.
        """
        if not self.body:
            return {}
        try:
            parsed = json.loads(self.body)
        except ValueError as error:
            raise malformed(f"not JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise malformed("Expected 'START_OBJECT'")
        return parsed

    def required(self, name: str) -> str:
        """Return a required query parameter.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE: it is missing.
        """
        value = self.query.get(name, "")
        if not value:
            raise invalid(f"Missing required field: {name}")
        return value

    def integer(self, name: str, default: int) -> int:
        """Return a query parameter as a number.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE: it is not a number.
        """
        value = self.query.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            raise invalid(f"Expected a number for {name}, got {value!r}") from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a query parameter as a boolean (`true` or `false`)."""
        return self.query.get(name, str(default)).lower() == "true"
