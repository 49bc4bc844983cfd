"""The blocks of `as_of` as Spark frames: the rows of a past version, and those that came after it.

What belongs here: Spark expressions for blocks of event time. What does not: choosing the blocks (`as_of`), training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import SET_COLUMN
from mlops_assets.data.labels.as_known import labels_known_by
from mlops_assets.data.labels.maturity_frames import event_seconds, left_out, maturity_of
from mlops_assets.data.splits.as_of import AsOfBlocks, as_of_blocks, mature_until
from mlops_assets.data.splits.split_frames import inside, rows_per_day
from mlops_assets.errors import SplitError

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
    time = event_seconds(contract)
    (newest,) = past.agg(F.max(time)).collect()[0]
    if newest is None:
        raise SplitError("the version has no rows", where=where, fix="choose a later day")
    usable = past.where(time < F.lit(mature_until(float(newest), gap_days)))
    days, counts = rows_per_day(usable, time, contract.time_zone)
    return as_of_blocks(
        days,
        counts,
        float(newest),
        zone=contract.time_zone,
        validation_fraction=validation_fraction,
        gap_days=gap_days,
        days_after=days_after,
        where=where,
    )


def rows_as_of(
    past: DataFrame, today: DataFrame, contract: Contract, blocks: AsOfBlocks, replaced: DataFrame | None = None
) -> dict[str, DataFrame]:
    """Return the rows to fit on and to choose on, of the past version, and those to score, of today's.

    Each version knows for itself which of its labels are mature; the other rows are left out. Rows to fit on have the
    labels that were known when the validation block begins.

    Args:
        past: The version of that day.
        today: The newest version.
        contract: Names.
        blocks: The blocks of `cut_as_of`.
        replaced: Rows that later writes of their key replaced; None if there are none.

    Returns:
        Frames by the name of the set whose part they take: train, validation and test.
    """
    time = event_seconds(contract)
    past, today = _mature(past, contract), _mature(today, contract)
    train = past.where(inside(time, blocks.train))
    if blocks.validation.start is not None:
        train = train.withColumn(SET_COLUMN, F.lit("train"))
        train = labels_known_by(train, replaced, contract, {"train": blocks.validation.start})
        train = train.where(F.col(SET_COLUMN) == "train").drop(SET_COLUMN)
    return {
        "train": train,
        "validation": past.where(inside(time, blocks.validation)),
        "test": today.where(inside(time, blocks.after)),
    }


def waiting_after(today: DataFrame, contract: Contract, blocks: AsOfBlocks) -> tuple[int, int]:
    """Return how many rows of the block to score can't be used yet, and how many of them are known as frauds."""
    waiting = left_out(contract, maturity_of(today, contract, None)).isNotNull()
    rows = today.where(inside(event_seconds(contract), blocks.after) & waiting)
    counted, frauds = rows.agg(F.count(F.lit(1)), F.sum(contract.target)).collect()[0]
    return int(counted), int(frauds or 0)


def frauds_until(today: DataFrame, contract: Contract, newest: float) -> DataFrame:
    """Return the rows known as frauds today whose event time is not later than the newest event of the past version.

    Whether one was known on a day that is scored follows from its age (`evaluation/cards`).
    """
    return today.where((F.col(contract.target) == 1) & (event_seconds(contract) <= F.lit(newest)))


def _mature(table: DataFrame, contract: Contract) -> DataFrame:
    return table.where(left_out(contract, maturity_of(table, contract, None)).isNull())
