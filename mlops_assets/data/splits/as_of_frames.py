"""The blocks of `as_of` as Spark frames: the rows of a past version, and those that came after it.

What belongs here: Spark expressions for blocks of event time. What does not: choosing the blocks (`as_of`), training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.data.labels.maturity_frames import event_seconds, left_out, maturity_of
from mlops_assets.data.splits.as_of import AsOfBlocks, as_of_blocks
from mlops_assets.data.splits.split_frames import inside

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


def cut_as_of(
    past: DataFrame,
    contract: Contract,
    *,
    validation_fraction: float,
    gap_days: float,
    days_after: float,
    where: str,
) -> AsOfBlocks:
    """Choose the blocks by the event times of a past version; see `as_of.as_of_blocks`.

    Raises:
        SplitError: The version can't be cut as asked.
    """
    counted = past.groupBy(event_seconds(contract).alias("key")).count().orderBy("key").toArrow()
    return as_of_blocks(
        counted.column("key").to_numpy().astype(np.float64),
        counted.column("count").to_numpy().astype(np.int64),
        validation_fraction=validation_fraction,
        gap_days=gap_days,
        days_after=days_after,
        where=where,
    )


def rows_as_of(past: DataFrame, today: DataFrame, contract: Contract, blocks: AsOfBlocks) -> dict[str, DataFrame]:
    """Return the rows to fit on and to choose on, of the past version, and those to score, of today's.

    Each version knows for itself which of its labels are mature; the other rows are left out.

    Returns:
        Frames by the name of the set whose part they take: train, validation and test.
    """
    time = event_seconds(contract)
    past, today = _mature(past, contract), _mature(today, contract)
    return {
        "train": past.where(inside(time, blocks.train)),
        "validation": past.where(inside(time, blocks.validation)),
        "test": today.where(inside(time, blocks.after)),
    }


def _mature(table: DataFrame, contract: Contract) -> DataFrame:
    return table.where(left_out(table, contract, maturity_of(table, contract, None)).isNull())
