"""The feature matrix: rows of a split as arrays for training and evaluation.

What belongs here: turning an Arrow table into arrays, in a fixed row order. What does not: Spark, models.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.days import day_numbers, on_whole_days
from mlops_assets.training.categories import Levels, encoded, recoded, union

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class Matrix:
    """One split, ordered by event time, then batch, then position in the batch.

    Attributes:
        features: Names of the columns of `X`.
        X: float32 [rows, features]; XGBoost computes in float32, so no precision is lost; null is NaN.
        y: uint8 [rows], 1 = fraud.
        days: int64 [rows], day number of the event since 1970 or since the data's origin, in the contract's time zone.
        amounts: float64 [rows], amount of money, or None when the contract has no amount.
        on_whole_day: bool [rows], whether the split holds the row's whole day; None: it does for all rows.
        entities: int64 [rows], id of the row's card (`entity_ids`), or None when the contract has no entity.
        levels: What the codes of categories mean, by feature; the rows' own (`categories`).
        monotone: Features in which the score may only rise (1) or fall (-1).
    """

    features: tuple[str, ...]
    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.uint8]
    days: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64] | None
    on_whole_day: npt.NDArray[np.bool_] | None = None
    entities: npt.NDArray[np.int64] | None = None
    levels: Levels = field(default_factory=dict)
    monotone: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def frauds(self) -> int:
        """Number of frauds."""
        return int(self.y.sum())

    def where(self, kept: npt.NDArray[np.bool_]) -> Matrix:
        """Return the rows at which `kept` [rows] is true, in order."""
        return replace(
            self,
            X=self.X[kept],
            y=self.y[kept],
            days=self.days[kept],
            amounts=None if self.amounts is None else self.amounts[kept],
            on_whole_day=None if self.on_whole_day is None else self.on_whole_day[kept],
            entities=None if self.entities is None else self.entities[kept],
        )

    def at(self, positions: npt.NDArray[np.int64]) -> Matrix:
        """Return the rows at ascending positions."""
        kept = np.zeros(self.rows, dtype=bool)
        kept[positions] = True
        return self.where(kept)

    def in_columns(self, features: Sequence[str]) -> Matrix:
        """Return the same rows with some of the features, in this order."""
        at = [self.features.index(name) for name in features]
        levels = {name: known for name, known in self.levels.items() if name in features}
        monotone = {name: sign for name, sign in self.monotone.items() if name in features}
        return replace(self, features=tuple(features), X=self.X[:, at], levels=levels, monotone=monotone)


def joined(parts: Sequence[Matrix]) -> Matrix:
    """Return the rows of several matrices of one contract as one, in the given order.

    Days that were split between them are whole again, so all days are taken for whole.
    """
    amounts = [part.amounts for part in parts if part.amounts is not None]
    entities = [part.entities for part in parts if part.entities is not None]
    levels = union([part.levels for part in parts])
    return Matrix(
        parts[0].features,
        np.concatenate([recoded(part.X, part.features, part.levels, levels) for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.days for part in parts]),
        np.concatenate(amounts) if amounts else None,
        entities=np.concatenate(entities) if entities else None,
        levels=levels,
        monotone=parts[0].monotone,
    )


def as_declared(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return a frame of float64 with int64 and bool as pandas reads a file with the contract's columns.

    Whole numbers that may be missing stay float64, and booleans become objects, as which pandas reads them where one
    is.
    """
    columns = [contract.column(str(name)) for name in frame.columns]
    kinds = {column.name: "int64" for column in columns if column.type == "long" and not column.nullable}
    kinds |= {column.name: "bool" for column in columns if column.type == "boolean" and not column.nullable}
    flags = [column.name for column in columns if column.type == "boolean" and column.nullable]
    objects = {name: [None if value != value else bool(value) for value in frame[name]] for name in flags}  # noqa: PLR0124
    return frame.astype(kinds).assign(**{name: pd.Series(kept, frame.index, object) for name, kept in objects.items()})


def matrix_columns(contract: Contract) -> list[str]:
    """Return the columns of a split that a matrix needs, without duplicates."""
    roles = [contract.target, contract.event_time, contract.amount, contract.entity]
    named = [*contract.features, *roles, BATCH_ID, ROW_NUMBER]
    return list(dict.fromkeys(name for name in named if name is not None))


def to_matrix(table: pa.Table, contract: Contract) -> Matrix:
    """Build the matrix of a split.

    Args:
        table: The columns named by `matrix_columns`, rows in any order.
        contract: Names and roles of the columns.
    """
    table = in_order(table, contract)
    X = np.empty((table.num_rows, len(contract.features)), dtype=np.float32)
    levels: dict[str, tuple[str, ...]] = {}
    for number, name in enumerate(contract.features):
        if name in contract.categories:
            X[:, number], levels[name] = encoded(table.column(name))
        else:
            X[:, number] = doubles(table.column(name))
    at = event_seconds(table.column(contract.event_time))
    return Matrix(
        features=contract.features,
        X=X,
        y=table.column(contract.target).to_numpy().astype(np.uint8),
        days=day_numbers(at, contract.time_zone),
        amounts=None if contract.amount is None else doubles(table.column(contract.amount)),
        on_whole_day=on_whole_days(at, contract.time_zone),
        entities=None if contract.entity is None else entity_ids(hashed(table.column(contract.entity))),
        levels=levels,
        monotone=contract.monotone,
    )


def in_order(table: pa.Table, contract: Contract) -> pa.Table:
    """Return rows in the order of a `Matrix`.

    The order does not depend on the files that Spark read. Bit-for-bit reproducibility of training and evaluation
    depends on this.
    """
    keys = (contract.event_time, BATCH_ID, ROW_NUMBER)
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in keys]))


def doubles(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return a numeric column as float64 [rows]; null is NaN."""
    return values.cast(pa.float64(), safe=False).to_numpy()  # unsafe: whole numbers beyond 2^53 are rounded


def hashed(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return an entity's column as int64 >= 0 [rows], equal for equal values in any set and process; null stays null.

    Ids serve to tell entities apart and are never shown; two of a billion share one with a chance of 5 %.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = values.dictionary_encode()  # each entity is hashed once
    keys = pd.util.hash_array(encoded.dictionary.cast(pa.string()).to_numpy(zero_copy_only=False), categorize=False)
    return pa.array((keys >> np.uint64(1)).astype(np.int64)).take(encoded.indices)


def entity_ids(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the ids [rows] of a set's rows in its order; a row without an entity gets an id < 0 of its own."""
    numbers = np.require(ids.fill_null(-1).to_numpy(), requirements="W")
    missing = np.flatnonzero(numbers < 0)
    numbers[missing] = -1 - missing
    return numbers


def event_seconds(times: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return event times, given as timestamps or as seconds, in seconds [rows]."""
    if pa.types.is_timestamp(times.type):
        return times.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() / 1e6
    return doubles(times)
