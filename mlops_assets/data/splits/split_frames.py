"""The cuts of `split` as Spark column expressions, and counts of the sets that come out.

What belongs here: Spark expressions for row identity and set membership, and counts over sets. What does not: choosing
cut points (`split`), which rows are old enough (`maturity_frames`), verdicts (`split_checks`), reading and writing
tables (`lakehouse`), Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.days import day_numbers
from mlops_assets.data.labels.maturity import Maturity
from mlops_assets.data.labels.maturity_frames import event_seconds, label_age_days, left_out
from mlops_assets.data.splits.split import (
    GAP,
    SET_NAMES,
    Block,
    Cuts,
    SplitSpec,
    cut_days,
    cut_points,
    in_seconds,
    rows_before_cuts,
)
from mlops_assets.data.splits.split_checks import SetSummary

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_QUARTER = 900  # seconds
# A row hash without its lowest bits: 65,536 buckets, in the order of the hashes.
_HASH_BITS = 48


def row_hash(contract: Contract, seed: int) -> Column:
    """Hash of all of the contract's columns: equal rows share it, other rows only by chance.

    Spark's hashes treat -0.0 as 0.0 (SPARK-35207). They skip nulls, so a null and a 5 would hash like a 5 and a null:
    where nulls are allowed, the hash includes which values are null.
    """
    values = [F.col(c.name) for c in contract.columns]
    nulls = [F.col(c.name).isNull() for c in contract.columns if c.nullable]
    return F.xxhash64(F.lit(seed), *values, *nulls)


def assign_sets(
    table: DataFrame, contract: Contract, spec: SplitSpec, maturity: Maturity | None = None, *, where: str
) -> DataFrame:
    """Return the table with a column `_set`: train, validation, test, gap, or why a row is left out.

    Args:
        table: The pinned raw table.
        contract: Names and types.
        spec: How to cut; the cuts are chosen along the rows that are not left out.
        maturity: When a label is mature; None leaves out what has no label at all.
        where: The table, for the error.

    Raises:
        SplitError: The table can't be cut as asked.
    """
    reason = left_out(contract, maturity)
    usable = table.where(reason.isNull())
    if spec.strategy == "time":
        key = event_seconds(contract)
        membership = _membership(key, _cuts_in_time(usable, key, contract.time_zone, spec, where=where))
        return table.withColumn(SET_COLUMN, F.coalesce(reason, membership))
    key, target = row_hash(contract, spec.seed), F.col(contract.target)
    membership = F.when(F.lit(False), F.lit(GAP))  # an empty CASE to extend
    for label in (0, 1):
        of_class = usable.where(target == label)
        bucket = F.shiftright(key, _HASH_BITS)
        cuts = _cuts_along(of_class, key, bucket, spec, where=f"{where}, {contract.target} = {label}")
        membership = membership.when(target == label, _membership(key, cuts))
    return table.withColumn(SET_COLUMN, F.coalesce(reason, membership))


def _cuts_in_time(table: DataFrame, key: Column, zone: str, spec: SplitSpec, *, where: str) -> Cuts:
    days, per_day = rows_per_day(table, key, zone)
    if len(days) < len(SET_NAMES) and not spec.gap_days:
        # Too short for days, such as the two of the ULB set: budgets count parts of days, and reports say so.
        return _cuts_along(table, key, F.floor(key / F.lit(_QUARTER)), spec, where=where)
    return in_seconds(cut_days(days, per_day, spec, where=where), zone)


def rows_per_day(table: DataFrame, key: Column, zone: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the days that have rows, ascending, and their rows.

    Args:
        table: The rows.
        key: Event time in seconds; rows without one are not counted.
        zone: IANA name of the zone whose days they are.
    """
    # Days of every zone in use today begin on a quarter of an hour; counting by it keeps the choice of the zone's rules
    # in one place (`data/days`), and what is collected small. Rows are assigned by their exact time.
    counted = _counted(table, F.floor(key / F.lit(_QUARTER)))
    quarters, rows = counted.column("bucket").to_numpy(), counted.column("rows").to_numpy()
    days, day_of_quarter = np.unique(day_numbers(quarters * _QUARTER, zone), return_inverse=True)
    return days, np.bincount(day_of_quarter, weights=rows, minlength=len(days)).astype(np.int64)


def _cuts_along(table: DataFrame, key: Column, bucket: Column, spec: SplitSpec, *, where: str) -> Cuts:
    """Cut along a key with many distinct values, of which only those near a cut leave the cluster.

    A bucket stands for its keys by its smallest one, which is exact. Only in the bucket in which a block fills up can
    the cut be another key, so that bucket's keys are all counted.
    """
    coarse = _counted(table, bucket, key)
    rows = coarse.column("rows").to_numpy()
    before = np.concatenate(([0], np.cumsum(rows)))[:-1]
    near = {int(np.searchsorted(before, wanted)) - 1 for wanted in rows_before_cuts(int(rows.sum()), spec)}
    chosen = pa.array([at in near for at in range(len(rows))], pa.bool_())
    fine = _counted(table.where(bucket.isin(coarse.filter(chosen).column("bucket").to_pylist())), key, key)
    counted = pa.concat_tables(
        [found.select(["first", "rows"]) for found in (coarse.filter(pc.invert(chosen)), fine)]
    ).sort_by("first")
    return cut_points(counted.column("first").to_numpy(), counted.column("rows").to_numpy(), spec, where=where)


def _counted(table: DataFrame, bucket: Column, key: Column | None = None) -> pa.Table:
    """Return the distinct buckets, ascending, with their rows and smallest keys; a row without one is not counted."""
    first = [] if key is None else [F.min(key).alias("first")]
    counts = (
        table.where(bucket.isNotNull()).groupBy(bucket.alias("bucket")).agg(F.count(F.lit(1)).alias("rows"), *first)
    )
    return counts.orderBy("bucket").toArrow()


def _membership(key: Column, cuts: Cuts) -> Column:
    chosen = F.when(F.lit(False), F.lit(GAP))  # an empty CASE to extend
    for name, block in zip(SET_NAMES, cuts.blocks, strict=True):
        chosen = chosen.when(inside(key, block), F.lit(name))
    return chosen.when(
        key.isNotNull(), F.lit(GAP)
    )  # a row without a key stays without a set, and the checks must see that


def inside(key: Column, block: Block) -> Column:
    """Return whether a key lies in a block."""
    inside = F.lit(True)  # the neutral element of AND
    if block.start is not None:
        inside = inside & (key >= F.lit(block.start))
    if block.end is not None:
        inside = inside & (key < F.lit(block.end))
    return inside


def within_times(contract: Contract, summary: SetSummary) -> Column:
    """Return whether the event time is one that a set has, so plainly that Delta can tell by a file's statistics.

    Of timestamps it lets in a part of a second more on both sides.
    """
    if summary.first is None or summary.last is None:
        return F.lit(True)  # the neutral element of AND
    key = F.col(contract.event_time)
    if contract.column(contract.event_time).type != "timestamp":
        return key.between(summary.first, summary.last)
    first, last = F.lit(floor(summary.first)), F.lit(ceil(summary.last))
    return key.between(F.timestamp_seconds(first), F.timestamp_seconds(last))


def summarize(
    table: DataFrame, contract: Contract, by: Column, maturity: Maturity | None = None, *, content: bool = False
) -> dict[str, SetSummary]:
    """Return, per value of `by`, counts, bounds in time and, with a maturity rule, ages of labels.

    Args:
        table: The rows.
        contract: Names and roles of the columns.
        by: What the rows are grouped by.
        maturity: What counts as a mature label.
        content: Whether to hash the rows too, which reads all of their columns.
    """
    age = F.lit(None).cast("double") if maturity is None else label_age_days(table, contract, maturity)
    late = F.col(LABEL_KNOWN_AT).isNotNull() if LABEL_KNOWN_AT in table.columns else F.lit(False)
    # A decimal, because a sum of 64-bit hashes overflows.
    hashed = row_hash(contract, 0).cast("decimal(20, 0)") if content else F.lit(None).cast("decimal(20, 0)")
    rows = (
        table.groupBy(by.alias("name"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.sum(F.col(contract.target)).alias("frauds"),
            F.min(event_seconds(contract)).alias("first"),
            F.max(event_seconds(contract)).alias("last"),
            F.count_if(late).alias("late"),
            F.min(age).alias("youngest"),
            F.percentile_approx(age, 0.5).alias("age"),
            F.sum(hashed).alias("content"),
        )
        .collect()
    )
    return {
        r["name"]: SetSummary(
            int(r["rows"]),
            int(r["frauds"] or 0),
            r["first"],
            r["last"],
            int(r["late"]),
            r["youngest"],
            r["age"],
            None if r["content"] is None else int(r["content"]),
        )
        for r in rows
    }


def union_of(sets: Mapping[str, DataFrame]) -> DataFrame:
    """Return the rows of several tables as one, with a column `_set` that names the table of each."""
    tagged = [table.withColumn(SET_COLUMN, F.lit(name)) for name, table in sets.items()]
    return reduce(lambda left, right: left.unionByName(right), tagged)


def count_shared(union: DataFrame, contract: Contract) -> int:
    """Return how many distinct rows, by content, stand in more than one set of a `union_of` sets."""
    per_row = union.groupBy(row_hash(contract, 0).alias("row")).agg(
        F.min(SET_COLUMN).alias("first"), F.max(SET_COLUMN).alias("last")
    )
    return per_row.where(F.col("first") != F.col("last")).count()
