"""Which of the rows that come in the raw table has already, and which replace one that it has.

What belongs here: holding staged rows against the raw table, before anything is committed. What does not: which of two
rows with one key wins (`data/ingest/merge_frames`), the commits (`transactions`).
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
    """Rows on their way into the raw table, and how many of each batch are not.

    Attributes:
        rows: Those that are left.
        known: Rows that were left out, by batch.
        replaces: Whether one of those that are left has the key of a row that is there.
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
    """Take the rows out that are known by their key, or, of a replay without a key, by their place.

    Args:
        rows: Staged rows, of each batch those that no other row of the batch replaces; of a replay any.
        table: The raw table; None before the first load.
        contract: Names the key.
        counts: How many there are of each batch.
        key_range: Smallest and largest key of them.
        again: Whether it is a replay.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest.merge_frames import KNOWN, REPLACES, last_of_each_key, meet

    key, new = contract.key, NewRows(rows)
    if key is None:
        if again and table is not None:  # no lock kept another replay from taking the same rows
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
        return new  # new keys follow the old ones, as they mostly do: the log alone tells it
    met = meet(new.rows, table, key, contract, key_range)
    for row in met.groupBy(BATCH_ID, MERGE_OUTCOME).count().collect():
        if row[MERGE_OUTCOME] == KNOWN:
            new.known[row[BATCH_ID]] = new.known.get(row[BATCH_ID], 0) + int(row["count"])
        new.replaces = new.replaces or row[MERGE_OUTCOME] == REPLACES
    if new.known:
        known = met.where(F.col(MERGE_OUTCOME) == KNOWN).select(key)
        new.rows = new.rows.join(known, key, "left_anti").select(*rows.columns)
    return new


def with_known(record: BatchRecord, known: Mapping[str, int]) -> BatchRecord:
    """Return the record once it is known how many of its rows the table knows by their key."""
    less = known.get(record.batch_id, 0)
    return replace(record, accepted=record.accepted - less, already_known=record.already_known + less)


def _lost(counts: Mapping[str, int], after: DataFrame) -> dict[str, int]:
    """Return per batch how many of its rows are not there any more."""
    left = {row[BATCH_ID]: int(row["count"]) for row in after.groupBy(BATCH_ID).count().collect()}
    return {batch: count - left.get(batch, 0) for batch, count in counts.items() if count > left.get(batch, 0)}
