"""Which incoming rows the raw table already has, and which ones replace a row of it.

What belongs here: comparing staged rows with the raw table, before anything is committed. What does not: which of two
rows with the same key wins (`data/ingest/merge_frames`), the commits (`transactions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import BATCH_ID, MERGE_OUTCOME, ROW_NUMBER
from mlops_assets.data.ingest.manifest import BatchRecord

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


@dataclass
class NewRows:
    """Rows to write to the raw table, and how many of each batch were dropped as known.

    Attributes:
        rows: The rows to write.
        known: Number of dropped rows, by batch.
        replaces: Whether any of the rows to write replaces a row of the raw table.
    """

    rows: DataFrame
    known: dict[str, int] = field(default_factory=dict)
    replaces: bool = False


def without_known(
    rows: DataFrame,
    table: DataFrame | None,
    contract: Contract,
    counts: Mapping[str, int],
    *,
    key_range: tuple[Any, Any] | None,
    again: bool = False,
) -> NewRows:
    """Drop the rows that the raw table already has: by key, or by batch and position in a replay without a key.

    Args:
        rows: Staged rows. Within a batch no row replaces another, except in a replay.
        table: The raw table; None before the first load.
        contract: Names the key.
        counts: Number of staged rows, by batch.
        key_range: Smallest and largest key of the rows; None when the contract has no key.
        again: Whether this is a replay.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest.merge_frames import KNOWN, REPLACES, last_of_each_key, merge_outcomes

    key, new = contract.key, NewRows(rows)
    if key is None:
        if again and table is not None:  # without locks another replay may have taken the same rows
            place = [BATCH_ID, ROW_NUMBER]
            new.rows = rows.join(table.select(*place), place, "left_anti").select(*rows.columns)
            new.known = _lost(counts, new.rows)
        return new
    if len(counts) > 1 or again:
        new.rows = last_of_each_key(rows, key, contract)
        new.known = _lost(counts, new.rows)
    if table is None:
        return new
    if key_range is not None and table.where(F.col(key).between(*map(F.lit, key_range))).select(key).isEmpty():
        return new  # new keys mostly follow the old ones, and then the log's statistics suffice
    outcomes = merge_outcomes(new.rows, table, key, contract, key_range)
    for row in outcomes.groupBy(BATCH_ID, MERGE_OUTCOME).count().collect():
        if row[MERGE_OUTCOME] == KNOWN:
            new.known[row[BATCH_ID]] = new.known.get(row[BATCH_ID], 0) + int(row["count"])
        new.replaces = new.replaces or row[MERGE_OUTCOME] == REPLACES
    if new.known:
        known = outcomes.where(F.col(MERGE_OUTCOME) == KNOWN).select(key)
        new.rows = new.rows.join(known, key, "left_anti").select(*rows.columns)
    return new


def with_known(record: BatchRecord, known: Mapping[str, int]) -> BatchRecord:
    """Return the record with the rows whose key the table already has counted as known instead of accepted."""
    less = known.get(record.batch_id, 0)
    return replace(record, accepted=record.accepted - less, already_known=record.already_known + less)


def _lost(counts: Mapping[str, int], after: DataFrame) -> dict[str, int]:
    """Return how many rows of each batch were dropped."""
    left = {row[BATCH_ID]: int(row["count"]) for row in after.groupBy(BATCH_ID).count().collect()}
    return {batch: count - left.get(batch, 0) for batch, count in counts.items() if count > left.get(batch, 0)}
