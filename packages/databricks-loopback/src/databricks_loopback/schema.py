"""Checks a request's JSON against the SDK's own data classes.

What belongs here: names, types and enum values of fields. What does not: rules about their meaning (`api`).

The SDK's classes are generated from the platform's OpenAPI specification, so they define which fields exist. The
platform silently drops some unknown fields; this emulator rejects all of them, because a misspelt field of a cluster is
a bug that otherwise shows only on the invoice.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from databricks_loopback.wire import invalid, malformed


def check_call(document: Mapping[str, Any], method: Callable[..., Any]) -> None:
    """Check a body against the parameters of the SDK method that sends it.

    Args:
        document: The body.
        method: For example `JobsAPI.submit`.

    Raises:
        ApiError: MALFORMED_REQUEST for an unknown field or a wrong type, INVALID_PARAMETER_VALUE for a missing field
            or an unknown enum value.
    """
    fields = _parameters(method)
    required = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if name != "self" and parameter.default is inspect.Parameter.empty
    ]
    _check_object(document, fields, required, "")


def check_object(document: Mapping[str, Any], shape: type, where: str = "") -> None:
    """Check a JSON object against a data class of the SDK, as `check_call` does."""
    _check(document, shape, where)


def _check_object(value: Any, fields: Mapping[str, Any], required: list[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise malformed(f"Expected object for field {where}")
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise malformed(f"Unknown field {', '.join(_join(where, name) for name in unknown)}")
    absent = [name for name in required if value.get(name) is None]
    if absent:
        raise invalid(f"Missing required field: {', '.join(_join(where, name) for name in absent)}")
    for name, item in value.items():
        _check(item, fields[name], _join(where, name))


def _check(value: Any, shape: Any, where: str) -> None:
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return
        shape = next(argument for argument in arguments if argument is not types.NoneType)
        origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if origin is list:
        if not isinstance(value, list):
            raise malformed(f"Expected array for field {where}")
        for index, item in enumerate(value):
            _check(item, arguments[0], f"{where}[{index}]")
    elif origin is dict:
        if not isinstance(value, Mapping):
            raise malformed(f"Expected map for field {where}")
        for name, item in value.items():
            _check(item, arguments[1], _join(where, name))
    elif isinstance(shape, type) and dataclasses.is_dataclass(shape):
        _check_object(value, _fields(shape), _required(shape), where)
    else:
        _check_scalar(value, shape, where)


def _check_scalar(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        values = [member.value for member in shape]
        if value not in values:
            raise invalid(f"Invalid value {value!r} for field {where}; allowed: {', '.join(map(str, values))}")
    elif shape is bool:
        if not isinstance(value, bool):
            raise malformed(f"Expected boolean for field {where}")
    elif shape is int:
        # 64-bit numbers may be strings, which is their JSON form in protocol buffers.
        if isinstance(value, bool) or not (isinstance(value, int) or str(value).lstrip("-").isdigit()):
            raise malformed(f"Expected integer for field {where}")
    elif shape is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise malformed(f"Expected number for field {where}")
    elif shape is str and not isinstance(value, str):
        raise malformed(f"Expected string for field {where}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


@cache
def _fields(shape: type) -> Mapping[str, Any]:
    return typing.get_type_hints(shape)


@cache
def _required(shape: type) -> list[str]:
    return [
        item.name
        for item in dataclasses.fields(shape)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]


@cache
def _parameters(method: Callable[..., Any]) -> Mapping[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(method).items() if name != "return"}
