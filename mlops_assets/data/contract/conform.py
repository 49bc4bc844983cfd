"""Bring one batch of rows to the contract's columns and types, and report which rows do not fit and why.

What belongs here: vectorised Arrow code that finds and counts, per column, the values that are null, unreadable,
infinite or out of range. What does not: reading a value as its type (`casting`), setting rows aside (`quarantine`),
deciding whether a batch may pass (`validation`), fetching it (`sources`), writing it.

All of it runs on Arrow arrays in the process that has just read the file, in its own order: the driver, or an executor.
So the contract is checked at memory speed before Spark sees a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import ROW_NUMBER
from mlops_assets.data.contract.casting import example, read_column
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.contract.diff import require_columns

UNREADABLE, NULL, INFINITE, OUT_OF_RANGE, NOT_BINARY = "unreadable", "null", "infinite", "out_of_range", "not_binary"
# XGBoost computes in float32: from here on (2^128 less half a step) a double becomes infinite there.
FLOAT32_OVERFLOW = float(2**128 - 2**103)


@dataclass
class ColumnFaults:
    """How many rows of one column break the contract, by reason; a row counts under one reason only.

    Attributes:
        unreadable: Values that can't be read as the column's type.
        null: Missing values, NaN included, where the contract requires one.
        infinite: Infinite numbers, and features that are too large for float32, in which models compute.
        out_of_range: Finite numbers below `min` or above `max`, except in the target.
        not_binary: Labels that are neither 0 nor 1.
        example: One of the unreadable values.
    """

    unreadable: int = 0
    null: int = 0
    infinite: int = 0
    out_of_range: int = 0
    not_binary: int = 0
    example: str = ""

    def add(self, other: ColumnFaults) -> None:
        """Add the counts of another batch."""
        self.unreadable += other.unreadable
        self.null += other.null
        self.infinite += other.infinite
        self.out_of_range += other.out_of_range
        self.not_binary += other.not_binary
        self.example = self.example or other.example


@dataclass(frozen=True)
class ConformedBatch:
    """A batch in the contract's columns and types.

    Attributes:
        table: The contract's columns in order, then `_row_number` (int64, 0-based position in the input).
        faults: Per column, what does not fit; a column without faults is absent.
        disorder: Rows whose event time is earlier than the row before, both being rows that fit.
        reasons: Which rows do not fit, by reason code: `null:<column>`, `unreadable:<column>`, `infinite:<column>`,
            `out_of_range:<column>`, and `not_binary:<target>` for a number that is neither 0 nor 1. Each mask has an
            entry that is true.
    """

    table: pa.Table
    faults: dict[str, ColumnFaults] = field(default_factory=dict)
    disorder: int = 0
    reasons: dict[str, pa.ChunkedArray] = field(default_factory=dict)

    @property
    def bad(self) -> pa.ChunkedArray | None:
        """Which rows do not fit for any reason, or None when all do."""
        return reduce(pc.or_, self.reasons.values()) if self.reasons else None


def conform(table: pa.Table, contract: Contract, *, where: str) -> ConformedBatch:
    """Cast a batch to the contract and count what does not fit.

    Args:
        table: One batch, names lower-cased, in the input's order; text columns hold the values as written.
        contract: What is expected.
        where: The input, for errors.

    Returns:
        The typed batch. A value that can't be read is null in it and counted as `unreadable`; see
        `casting.read_column` for what can be read.

    Raises:
        SchemaMismatchError: Columns are missing or unknown.
    """
    require_columns(table.schema, contract, where=where, types_too=False)
    columns: list[pa.ChunkedArray] = []
    faults: dict[str, ColumnFaults] = {}
    reasons: dict[str, pa.ChunkedArray] = {}
    for column in contract.columns:
        raw = table.column(column.name)
        binary, feature = column.name == contract.target, column.name in contract.features
        values, masks = conform_column(raw, column, binary=binary, feature=feature)
        columns.append(values)
        if masks:
            faults[column.name] = _counted(raw, masks)
            reasons |= {f"{reason}:{column.name}": mask for reason, mask in masks.items()}
    names = list(contract.column_names)
    typed = pa.table(columns, names=names)
    typed = typed.append_column(ROW_NUMBER, pa.array(np.arange(table.num_rows, dtype=np.int64)))
    batch = ConformedBatch(typed, faults, 0, reasons)
    times = typed.column(contract.event_time)
    return replace(batch, disorder=_disorder(times if batch.bad is None else times.filter(pc.invert(batch.bad))))


def conform_column(
    raw: pa.ChunkedArray, column: Column, *, binary: bool = False, feature: bool = False
) -> tuple[pa.ChunkedArray, dict[str, pa.ChunkedArray]]:
    """Cast one column and find what does not fit.

    Args:
        raw: The values as they came in.
        column: The contract's column.
        binary: Whether they are labels: 0 or 1, whatever range the column has.
        feature: Whether models compute with them, in float32.

    Returns:
        The typed values, and the rows that do not fit by reason.
    """
    reading = read_column(raw, column.type)
    values = reading.values
    masks: dict[str, pa.ChunkedArray] = {}
    if reading.unreadable is not None:
        masks[UNREADABLE] = reading.unreadable
    if reading.infinite is not None:
        masks[INFINITE] = reading.infinite
    if not column.nullable:
        missing = pc.is_null(values, nan_is_null=column.type == "double")
        for elsewhere in masks.values():  # these are null in `values` as well
            missing = pc.and_not(missing, elsewhere)
        if _count(missing):
            masks[NULL] = missing
    if binary:
        _find_strange_targets(values, masks)
    elif column.type in ("double", "long"):
        overflow = FLOAT32_OVERFLOW if feature and column.type == "double" else float("inf")
        values = _within_tolerance(values, column)
        _find_extremes(values, column, overflow, masks)
    return values, masks


def _within_tolerance(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """Return the values with those that are outside the range by at most the column's tolerance set to its bound.

    They are not kept as they are: what computes with the column (costs, logarithms) may rely on its range.
    """
    if column.type != "double" or not column.tolerance:
        return values
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is None:
        return values
    if column.min is not None and bounds["min"] < column.min:
        close = pc.and_(pc.less(values, column.min), pc.greater_equal(values, column.min - column.tolerance))
        values = pc.if_else(close, column.min, values)
    if column.max is not None and bounds["max"] > column.max:
        close = pc.and_(pc.greater(values, column.max), pc.less_equal(values, column.max + column.tolerance))
        values = pc.if_else(close, column.max, values)
    return values


def _find_extremes(values: pa.ChunkedArray, column: Column, overflow: float, masks: dict[str, pa.ChunkedArray]) -> None:
    """Find what is infinite, and what is finite and out of range; most columns are done once the bounds are known."""
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is None:
        return
    values = values.cast(pa.float64(), safe=False)  # the range is given in doubles
    if max(-bounds["min"], bounds["max"]) >= overflow:
        infinite = pc.fill_null(pc.greater_equal(pc.abs(values), overflow), False)
        values = pc.if_else(infinite, pa.scalar(None, values.type), values)
        _add_mask(masks, INFINITE, infinite)
    if column.min is not None and bounds["min"] < column.min:
        _add_mask(masks, OUT_OF_RANGE, pc.less(values, column.min))
    if column.max is not None and bounds["max"] > column.max:
        _add_mask(masks, OUT_OF_RANGE, pc.greater(values, column.max))


def _find_strange_targets(values: pa.ChunkedArray, masks: dict[str, pa.ChunkedArray]) -> None:
    """Find labels that are neither 0 nor 1, whatever range the contract gives them."""
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is not None and (bounds["min"] < 0 or bounds["max"] > 1):
        _add_mask(masks, NOT_BINARY, pc.or_(pc.less(values, 0), pc.greater(values, 1)))


def _add_mask(masks: dict[str, pa.ChunkedArray], reason: str, mask: pa.ChunkedArray) -> None:
    mask = pc.fill_null(mask, False)
    mask = pc.or_(masks[reason], mask) if reason in masks else mask
    if _count(mask):
        masks[reason] = mask


def _counted(raw: pa.ChunkedArray, masks: dict[str, pa.ChunkedArray]) -> ColumnFaults:
    return ColumnFaults(
        **{reason: _count(mask) for reason, mask in masks.items()},
        example=example(raw, masks[UNREADABLE]) if UNREADABLE in masks else "",
    )


def _disorder(times: pa.ChunkedArray) -> int:
    flat = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    if len(flat) < 2:  # noqa: PLR2004 - order needs two rows
        return 0
    return _count(pc.less(flat.slice(1), flat.slice(0, len(flat) - 1)))


def _count(mask: pa.ChunkedArray | pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
