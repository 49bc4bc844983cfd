"""Bring one batch of rows to the contract's columns and types, and count what does not fit.

What belongs here: vectorised Arrow code that casts columns and marks each value that is null, unreadable, infinite or
out of range. What does not: deciding whether a batch may pass (`validation`), fetching it (`sources`), writing it.

All of it runs on Arrow arrays in the driver: the file has just been read there, in its own order, so the contract is
checked at memory speed before Spark sees a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.contract import Column, ColumnType, Contract
from mlops_assets.errors import SchemaMismatchError

ROW_NUMBER = "_row_number"
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "double": pa.float64(),
    "long": pa.int64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
}
_NUMBER = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|Inf|infinity|Infinity|nan|NaN)$"


@dataclass
class ColumnFaults:
    """How many rows of one column break the contract, by reason."""

    unreadable: int = 0
    null: int = 0
    infinite: int = 0
    out_of_range: int = 0
    example: str = ""

    def add(self, other: ColumnFaults) -> None:
        """Add the counts of another batch."""
        self.unreadable += other.unreadable
        self.null += other.null
        self.infinite += other.infinite
        self.out_of_range += other.out_of_range
        self.example = self.example or other.example


@dataclass(frozen=True)
class ConformedBatch:
    """A batch in the contract's columns and types.

    Attributes:
        table: The contract's columns in order, then `_row_number` (int64, 0-based position in the input).
        faults: Per column, what does not fit; a column without faults is absent.
        disorder: Rows whose event time is earlier than the row before.
    """

    table: pa.Table
    faults: dict[str, ColumnFaults] = field(default_factory=dict)
    disorder: int = 0


def require_columns(names: list[str], contract: Contract, *, where: str) -> None:
    """Refuse input whose columns are not the contract's.

    Args:
        names: The input's column names, lower-cased.
        contract: What is expected.
        where: The input, for the error.

    Raises:
        SchemaMismatchError: Columns are missing, or there are some that the contract does not know.
    """
    missing = [name for name in contract.column_names if name not in names]
    extra = [name for name in names if name not in contract.column_names and name not in contract.ignored]
    if missing or extra:
        parts = [f"missing columns: {', '.join(missing)}"] if missing else []
        parts += [f"unknown columns: {', '.join(extra)}"] if extra else []
        raise SchemaMismatchError(
            f"{'; '.join(parts)} (contract {contract.name} v{contract.version})",
            where=where,
            mend="load the right file, choose another contract, or list columns to drop under its `ignored`",
        )


def conform(table: pa.Table, contract: Contract, *, where: str) -> ConformedBatch:
    """Cast a batch to the contract and count what does not fit.

    Args:
        table: One batch, names lower-cased, in the input's order; text columns hold the values as written.
        contract: What is expected.
        where: The input, for errors.

    Returns:
        The typed batch. A value that can't be read is null in it and counted as `unreadable`.

    Raises:
        SchemaMismatchError: See `require_columns`.
    """
    require_columns(table.column_names, contract, where=where)
    columns: list[pa.ChunkedArray] = []
    faults: dict[str, ColumnFaults] = {}
    for column in contract.columns:
        values, found = _conform_column(table.column(column.name), column)
        columns.append(values)
        if found.unreadable or found.null or found.infinite or found.out_of_range:
            faults[column.name] = found
    names = list(contract.column_names)
    typed = pa.table(columns, names=names)
    typed = typed.append_column(ROW_NUMBER, pa.array(np.arange(table.num_rows, dtype=np.int64)))
    return ConformedBatch(typed, faults, _disorder(typed.column(contract.event_time)))


def _conform_column(raw: pa.ChunkedArray, column: Column) -> tuple[pa.ChunkedArray, ColumnFaults]:
    found = ColumnFaults()
    values, unreadable = _cast(raw, ARROW_TYPES[column.type])
    found.unreadable = _count(unreadable)
    if found.unreadable:
        found.example = str(raw.filter(unreadable)[0].as_py())[:40]
    missing = pc.and_(pc.is_null(values, nan_is_null=pa.types.is_floating(values.type)), pc.invert(unreadable))
    if not column.nullable:
        found.null = _count(missing)
    if column.type == "double":
        found.infinite = _count(pc.is_inf(values))
    found.out_of_range = _out_of_range(values, column)
    return values, found


def _cast(raw: pa.ChunkedArray, wanted: pa.DataType) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the values in the wanted type, null where unreadable, and the mask of the unreadable ones."""
    none_wrong = pa.chunked_array([pa.repeat(pa.scalar(False), len(raw))])  # noqa: FBT003 - a scalar, not a flag
    try:
        return _cast_all(raw, wanted), none_wrong
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # some value does not fit: find which ones below
    if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        wrong = _unreadable_text(raw, wanted)
    elif pa.types.is_floating(raw.type) and pa.types.is_integer(wanted):
        wrong = pc.fill_null(pc.not_equal(raw, pc.floor(raw)), False)  # noqa: FBT003 - the fill value
        wrong = pc.or_(wrong, pc.fill_null(pc.invert(pc.is_finite(raw)), False))  # noqa: FBT003 - the fill value
    else:
        wrong = pc.is_valid(raw)  # a type that has no meaning as the wanted one, a list as a number say
    blanked = pc.if_else(wrong, pa.scalar(None, raw.type), raw)
    if _count(wrong) == _count(pc.is_valid(raw)):
        return pa.chunked_array([pa.nulls(len(raw), wanted)]), wrong
    return _cast_all(blanked, wanted), wrong


def _cast_all(raw: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    textual = pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type)
    if textual and not pa.types.is_string(wanted):
        raw = pc.utf8_trim_whitespace(raw)
        if pa.types.is_integer(wanted):
            try:
                return raw.cast(wanted)
            except pa.ArrowInvalid:
                raw = raw.cast(pa.float64())  # "1.0" is a whole number too; 1.5 still fails in the cast below
    if pa.types.is_timestamp(raw.type) and raw.type.tz is None and pa.types.is_timestamp(wanted):
        raw = raw.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_timestamp(wanted) and textual:
        return _as_utc(raw)
    if pa.types.is_timestamp(raw.type) and pa.types.is_floating(wanted):
        raise pa.ArrowNotImplementedError("a timestamp is no number of seconds since an origin that we know")
    return raw.cast(wanted)


def _as_utc(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read ISO 8601 text; text without a zone is UTC."""
    try:
        return text.cast(pa.timestamp("us")).cast(ARROW_TYPES["timestamp"])
    except pa.ArrowInvalid:
        return text.cast(ARROW_TYPES["timestamp"])


def _unreadable_text(raw: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(wanted):
        return pa.chunked_array([[not _is_time(value) for value in raw.to_pylist()]], pa.bool_())
    trimmed = pc.utf8_trim_whitespace(raw)
    readable = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), True)  # noqa: FBT003 - null is not unreadable
    if pa.types.is_integer(wanted):
        numbers = pc.if_else(readable, trimmed, pa.scalar(None, trimmed.type)).cast(pa.float64())
        whole = pc.and_(pc.is_finite(numbers), pc.equal(numbers, pc.floor(numbers)))
        readable = pc.and_(readable, pc.fill_null(whole, True))  # noqa: FBT003 - null is not unreadable
    return pc.invert(readable)


def _is_time(value: str | None) -> bool:
    if value is None:
        return True
    try:
        _as_utc(pa.chunked_array([[value.strip()]]))
    except pa.ArrowInvalid:
        return False
    return True


def _out_of_range(values: pa.ChunkedArray, column: Column) -> int:
    wrong = 0
    if column.min is not None:
        wrong += _count(pc.less(values, column.min))
    if column.max is not None:
        wrong += _count(pc.greater(values, column.max))
    if column.type == "double" and (column.min is not None or column.max is not None):
        wrong -= _count(pc.and_(pc.is_inf(values), _outside(values, column)))  # counted as infinite already
    return wrong


def _outside(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    below = pc.less(values, float("-inf") if column.min is None else column.min)
    return pc.or_(below, pc.greater(values, float("inf") if column.max is None else column.max))


def _disorder(times: pa.ChunkedArray) -> int:
    flat = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    if len(flat) < 2:  # noqa: PLR2004 - order needs two rows
        return 0
    return _count(pc.less(flat.slice(1), flat.slice(0, len(flat) - 1)))


def _count(mask: pa.ChunkedArray | pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
