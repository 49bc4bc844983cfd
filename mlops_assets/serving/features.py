"""Values of a request as rows that a model can score, checked against the contract.

What belongs here: which values are accepted, and the names of what is wrong. What does not: the shapes of requests
(`mlflow_protocol`, `v2_protocol`, `events`), rows of tables (`data/contract/conform`, whose rules these are).

A finding names a column of the contract and a reason, never a value and never a name that the caller made up: what is
sent by mistake is often what must not be repeated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_assets.data.contract.casting import NO, YES
from mlops_assets.data.contract.conform import FLOAT32_OVERFLOW, INFINITE, NULL, OUT_OF_RANGE, UNREADABLE

if TYPE_CHECKING:
    from mlops_assets.data.contract.column import Column
    from mlops_assets.data.contract.contract import Contract

Matrix = npt.NDArray[np.float32]
Levels = Mapping[str, Sequence[str]]
MISSING, UNKNOWN = "missing", "unknown"
# The largest double that is a finite float32 once it is rounded.
_LARGEST: Final = math.nextafter(FLOAT32_OVERFLOW, 0.0)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_INT64 = 2**63
_MOST_TEXT = 1_000
_WORDS: Final = {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a row or a request.

    Attributes:
        name: A column of the contract, or a field of the protocol; empty for names that the contract does not have.
        reason: `missing`, `unknown`, `null`, `unreadable`, `infinite` or `out_of_range`.
    """

    name: str
    reason: str

    def to_json_dict(self) -> dict[str, str]:
        """Return the finding for an answer."""
        return {"name": self.name, "reason": self.reason}


@dataclass(frozen=True)
class CheckedRows:
    """Rows of a request.

    Attributes:
        X: What the model computes with, float32 [rows, features]; a bad row is there as well.
        values: The features as they were accepted, by name: a list of numbers, booleans, texts or None [rows].
        bad: Findings by row; a row without any is absent.
    """

    X: Matrix
    values: dict[str, list[Any]]
    bad: dict[int, list[Finding]]


class FeatureReader:
    """Reads features under a contract.

    Args:
        contract: Names, types, ranges.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.names: tuple[str, ...] = contract.features
        self.columns: tuple[Column, ...] = tuple(contract.column(name) for name in contract.features)
        bounds = [(column.min, column.max) if column.type == "double" else (None, None) for column in self.columns]
        self._low = np.array([-np.inf if low is None else low for low, _ in bounds], dtype=np.float32)
        self._high = np.array([np.inf if high is None else high for _, high in bounds], dtype=np.float32)
        self.bounded = any(pair != (None, None) for pair in bounds)

    @cached_property
    def struct(self) -> type[msgspec.Struct]:
        """The features of one row as a type that msgspec checks, in the order of the contract."""
        fields = [(column.name, field_type(column)) for column in self.columns]
        return msgspec.defstruct("Features", fields, forbid_unknown_fields=True)

    def fill(self, buffer: Matrix, values: Sequence[Any], levels: Mapping[int, Mapping[str, float]]) -> None:
        """Write one row into a buffer, float32 [1, features]: text as codes, None as NaN, within the tolerance.

        Args:
            buffer: What the scorer reads.
            values: The row, in the order of the contract, accepted by `struct`.
            levels: Codes of the categories, by position of the feature.
        """
        if levels:
            values = [levels[at].get(value, np.nan) if at in levels else value for at, value in enumerate(values)]
        buffer[0] = values  # NumPy makes NaN of None
        if self.bounded:
            np.clip(buffer, self._low, self._high, out=buffer)

    def check(
        self, columns: Mapping[str, Sequence[Any]], rows: int, levels: Levels, *, text: bool = False
    ) -> CheckedRows:
        """Check rows that came as columns.

        Args:
            columns: Values by name, each [rows]; JSON's types, or texts of a CSV file.
            rows: Number of rows.
            levels: Levels of the model's categories.
            text: Whether numbers are texts to be read.
        """
        X = np.full((rows, len(self.names)), np.nan, dtype=np.float32)
        values: dict[str, list[Any]] = {}
        bad: dict[int, list[Finding]] = {}
        if set(columns) - set(self.names):
            for row in range(max(1, rows)):  # names alone are refused as well
                bad.setdefault(row, []).append(Finding("", UNKNOWN))
        for at, column in enumerate(self.columns):
            raw = columns.get(column.name)
            if raw is None:
                for row in range(rows):
                    bad.setdefault(row, []).append(Finding(column.name, MISSING))
                continue
            if column.type == "string":
                kept = _texts(raw, column, bad)
                places = {level: float(number) for number, level in enumerate(levels.get(column.name, ()))}
                X[:, at] = [np.nan if value is None else places.get(value, np.nan) for value in kept]
            else:
                read = _flags if column.type == "boolean" else _numbers
                kept = read(raw, column, bad, text=text)
                X[:, at] = kept  # NumPy makes NaN of None
            values[column.name] = kept
        if self.bounded:
            np.clip(X, self._low, self._high, out=X)
        return CheckedRows(X, values, bad)

    def findings(self, row: Mapping[str, Any]) -> list[Finding]:
        """Return all that is wrong with one row of JSON values; `struct` stops at the first."""
        found = []
        if set(row) - set(self.names):
            found.append(Finding("", UNKNOWN))
        for column in self.columns:
            if column.name not in row:
                found.append(Finding(column.name, MISSING))
            elif reason := _wrong(row[column.name], column):
                found.append(Finding(column.name, reason))
        return found


def field_type(column: Column) -> Any:
    """Return the type of a column's values as msgspec checks them: bounds of the contract, with its tolerance."""
    kind: Any
    if column.type == "string":
        kind = Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)]
    elif column.type == "boolean":
        kind = bool
    elif column.type == "long":
        low = -_INT64 if column.min is None else max(-_INT64, math.ceil(column.min))
        high = _INT64 - 1 if column.max is None else min(_INT64 - 1, math.floor(column.max))
        kind = Annotated[int, msgspec.Meta(ge=low, le=high)]
    else:
        low_double, high_double = _bounds(column)
        kind = Annotated[float, msgspec.Meta(ge=low_double, le=high_double)]
    return kind | None if column.nullable else kind


def _bounds(column: Column) -> tuple[float, float]:
    tolerance = column.tolerance if column.type == "double" else 0.0
    low = -_LARGEST if column.min is None else max(-_LARGEST, column.min - tolerance)
    high = _LARGEST if column.max is None else min(_LARGEST, column.max + tolerance)
    return low, high


def _wrong(value: Any, column: Column) -> str:
    """Return why a JSON value does not fit a column; empty if it does."""
    if value is None:
        return "" if column.nullable else NULL
    if column.type == "string":
        return "" if isinstance(value, str) and len(value) <= _MOST_TEXT else UNREADABLE
    if column.type == "boolean":
        return "" if isinstance(value, bool) else UNREADABLE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNREADABLE
    return _wrong_number(value, column)


def _wrong_number(value: float, column: Column) -> str:
    if column.type == "long" and not (-_INT64 <= value < _INT64 and (isinstance(value, int) or value.is_integer())):
        return UNREADABLE if math.isfinite(value) else INFINITE
    if value != value:  # noqa: PLR0124 - NaN, which JSON does not have and some writers send
        return "" if column.nullable else NULL
    if not -_LARGEST <= value <= _LARGEST and column.type == "double":
        return INFINITE
    low, high = _bounds(column)
    return "" if low <= value <= high or (column.type == "long" and column.min is column.max is None) else OUT_OF_RANGE


def _numbers(raw: Sequence[Any], column: Column, bad: dict[int, list[Finding]], *, text: bool) -> list[Any]:
    """Return the numbers of a column, None where there is none or a bad one."""
    values: list[Any] = list(map(_read, raw)) if text else list(raw)
    if set(map(type, values)) <= {int, float}:
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = np.full(len(values), np.inf)
        low, high = _bounds(column)
        if bool(((array >= low) & (array <= high)).all()) and column.type == "double":
            return values
    for row, value in enumerate(values):
        if reason := _wrong(value, column):
            bad.setdefault(row, []).append(Finding(column.name, reason))
            values[row] = None
        elif value is not None and value != value:  # noqa: PLR0124 - NaN is a missing value
            values[row] = None
    return values


def _read(text: str) -> Any:
    """Return the number that a text of a CSV file is; None for an empty one, the text itself for any other."""
    if not text.strip():
        return None
    return float(text) if _NUMBER.fullmatch(text) else text


def _flags(raw: Sequence[Any], column: Column, bad: dict[int, list[Finding]], *, text: bool) -> list[Any]:
    """Return the booleans of a column, None where there is none or a bad one; in CSV in the words of an input."""
    if text:
        words = [value.strip().lower() for value in raw]
        raw = [_WORDS.get(word, word) if word else None for word in words]
    return _texts(raw, column, bad)


def _texts(raw: Sequence[Any], column: Column, bad: dict[int, list[Finding]]) -> list[Any]:
    values: list[Any] = []
    for row, value in enumerate(raw):
        reason = _wrong(value, column)
        if reason:
            bad.setdefault(row, []).append(Finding(column.name, reason))
        values.append(None if reason else value)
    return values
