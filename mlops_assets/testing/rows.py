"""A tiny contract, and transactions drawn for it or for a user's own.

What belongs here: rows that pass a contract and have something to learn. What does not: rows that look like real ones
(`data/sources/synthetic`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_assets.data.contract.casting import ARROW_TYPES
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import SECONDS_PER_DAY, Contract, parse_contract
from mlops_assets.errors import SettingsError

_ORIGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
_NULL_SHARE = 0.05
_ROWS_PER_ENTITY = 10

TINY: Final[Contract] = parse_contract(
    """
name: tiny
version: 1
description: Every role that a contract can give, in six columns.
event_time: at
target: fraud
key: id
entity: card
amount: amount
features: [amount, risk]
columns:
  - {name: id, type: long, min: 0}
  - {name: at, type: timestamp}
  - {name: card, type: string}
  - {name: amount, type: double, min: 0}
  - {name: risk, type: double, min: 0, max: 1, nullable: true}
  - {name: fraud, type: long, min: 0, max: 1}
""",
    where="mlops_assets.testing",
)


def draw_transactions(
    contract: Contract,
    rows: int = 600,
    *,
    days: float = 6.0,
    fraud_rate: float = 0.05,
    seed: int = 7,
    first_day: float = 0.0,
    first_row: int = 0,
) -> pa.Table:
    """Draw transactions that a contract accepts. The same arguments give the same rows.

    Features of frauds are higher than those of genuine rows, but overlap with them. One value in twenty of a nullable
    column, other than the target, is null. For a second batch, give `first_day` and `first_row` of the rows after it.

    Args:
        contract: Any contract, such as `TINY`.
        rows: Number of transactions, at least 1.
        days: Days they span, above 0.
        fraud_rate: Share of frauds, 0 to 1; with a rate above 0 there is at least one.
        seed: Seed, 0 or more.
        first_day: Days from the origin (1 January 2026, or on a clock of seconds its `min` or 0) to the first day.
        first_row: Number of the first row, from which its key is made.

    Returns:
        `rows` rows in the order of event time, with the contract's columns in its order: long as int64, double as
        float64, string, boolean, timestamp in microseconds UTC.

    Raises:
        SettingsError: An argument is out of its range.
    """
    if rows < 1 or not days > 0 or not 0 <= fraud_rate <= 1:
        raise SettingsError(
            f"rows={rows}, days={days}, fraud_rate={fraud_rate}",
            where="draw_transactions",
            fix="give at least 1 row, more than 0 days and a rate from 0 to 1",
        )
    random = np.random.default_rng(seed)
    fraud = np.zeros(rows, dtype=bool)
    fraud[random.permutation(rows)[: max(round(rows * fraud_rate), int(fraud_rate > 0))]] = True
    seconds = np.sort(np.floor((first_day + days * random.random(rows)) * SECONDS_PER_DAY))
    entity = random.integers(0, rows // _ROWS_PER_ENTITY + 1, rows)

    def values(column: Column) -> npt.NDArray[Any]:
        if column.name == contract.target:
            return fraud.astype(np.int64)
        if column.name == contract.event_time:
            return seconds + np.ceil(column.min or 0)
        if column.name == contract.key:
            return np.arange(first_row, first_row + rows) + int(column.min or 0)
        if column.name == contract.entity:
            return entity + int(column.min or 0)
        if column.type in ("timestamp", "string"):
            return seconds if column.type == "timestamp" else random.integers(0, 3, rows)
        return _drawn(random, column, fraud if column.name in contract.features else np.zeros(rows, dtype=bool))

    def nulls(column: Column) -> npt.NDArray[np.bool_] | None:
        is_whole = not column.nullable or column.name in (contract.target, contract.entity)
        return None if is_whole else random.random(rows) < _NULL_SHARE

    return pa.table({column.name: _arrow(column, values(column), nulls(column)) for column in contract.columns})


def _drawn(random: np.random.Generator, column: Column, higher: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Draw booleans, or numbers within a column's range, shape (rows,)."""
    count = len(higher)
    if column.type == "boolean":
        return random.random(count) < np.where(higher, 0.7, 0.3)
    if column.min is not None and column.max is not None:
        drawn = column.min + (column.max - column.min) * random.beta(np.where(higher, 4.0, 2.0), 3.0, count)
    elif column.min is not None:
        drawn = column.min + random.gamma(np.where(higher, 6.0, 2.0), 10.0, count)
    elif column.max is not None:
        drawn = column.max - random.gamma(np.where(higher, 1.0, 3.0), 10.0, count)
    else:
        drawn = random.normal(np.where(higher, 2.0, 0.0), 1.0, count)
    if column.type != "long":
        return drawn
    whole = np.round(drawn)  # which may leave a range whose bounds are no whole numbers
    low = -np.inf if column.min is None else np.ceil(column.min)
    return np.clip(whole, low, np.inf if column.max is None else np.floor(column.max))


def _arrow(column: Column, values: npt.NDArray[Any], nulls: npt.NDArray[np.bool_] | None) -> pa.Array:
    if column.type == "string":
        return pa.array([f"{column.name}_{value}" for value in values], pa.string(), mask=nulls)
    if column.type == "timestamp":
        values = (values.astype(np.int64) + _ORIGIN) * 1_000_000
    if column.type == "boolean":
        return pa.array(values, pa.bool_(), mask=nulls)
    return pa.array(values.astype(np.float64 if column.type == "double" else np.int64), mask=nulls).cast(
        ARROW_TYPES[column.type]
    )
