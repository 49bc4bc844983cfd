"""Which incoming rows the raw table already has, which ones replace a row of it, and what that would change.

What belongs here: comparing staged rows with the raw table before anything is committed, and keeping the rows that did
not get in. What does not: which of two rows with the same key wins (`data/ingest/merge_frames`), how much may change
(`data/ingest/changes`), the commits (`transactions`).

Rows that lost against another write of their key are kept in `known_transactions`: if the batch of the winner is
reverted, they are what remains (`reverted_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import BATCH_ID, MERGE_OUTCOME, ROW_NUMBER
from mlops_assets.data.ingest.changes import FEW, Changed, Changes
from mlops_assets.data.ingest.manifest import BatchRecord
from mlops_assets.lakehouse.transaction_tables import KNOWN

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse


_ROWS = "_rows"


@dataclass
class NewRows:
    """Rows to write to the raw table, and how many of each batch were dropped as known.

    Attributes:
        rows: The rows to write.
        known: Number of dropped rows, by batch.
        replaces: Whether any of the rows to write replaces a row of the raw table.
        changes: What the rows to write would change.
    """

    rows: DataFrame
    known: dict[str, int] = field(default_factory=dict)
    replaces: bool = False
    changes: Changes = field(default_factory=Changes)


def without_known(
    rows: DataFrame,
    table: DataFrame | None,
    contract: Contract,
    counts: Mapping[str, int],
    *,
    key_range: tuple[Any, Any] | None,
    divided: bool = False,
    again: bool = False,
) -> NewRows:
    """Drop the rows that the raw table already has: by key, or by batch and position in a replay without a key.

    Args:
        rows: Staged rows. Within a batch no row replaces another, except in a replay or a divided one.
        table: The raw table; None before the first load.
        contract: Names the key.
        counts: Number of staged rows, by batch.
        key_range: Smallest and largest key of the rows; None when the contract has no key.
        divided: Whether a batch was staged piece by piece.
        again: Whether this is a replay.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest import merge_frames
    from mlops_assets.data.ingest.merge_frames import last_of_each_key, merge_outcomes

    key, new = contract.key, NewRows(rows)
    if key is None:
        if again and table is not None:  # without locks another replay may have taken the same rows
            place = [BATCH_ID, ROW_NUMBER]
            new.rows = rows.join(table.select(*place), place, "left_anti").select(*rows.columns)
            new.known = _lost(counts, new.rows)
        return new
    if len(counts) > 1 or divided or again:
        new.rows = last_of_each_key(rows, key, contract)
        new.known = _lost(counts, new.rows)
    if table is None:
        return new
    if key_range is not None and table.where(F.col(key).between(*map(F.lit, key_range))).select(key).isEmpty():
        return new  # new keys mostly follow the old ones, and then the log's statistics suffice
    outcomes = merge_outcomes(new.rows, table, key, contract, key_range)
    changed = [_counted(name, merge_frames.change_of(name), contract) for name in contract.column_names]
    replacing: list[Row] = []
    for row in outcomes.groupBy(BATCH_ID, MERGE_OUTCOME).agg(F.count(F.lit(1)).alias(_ROWS), *changed).collect():
        if row[MERGE_OUTCOME] == merge_frames.KNOWN:
            new.known[row[BATCH_ID]] = new.known.get(row[BATCH_ID], 0) + int(row[_ROWS])
        else:
            replacing.append(row)
    new.replaces = bool(replacing)
    if new.known:
        known = outcomes.where(F.col(MERGE_OUTCOME) == merge_frames.KNOWN).select(key)
        new.rows = new.rows.join(known, key, "left_anti").select(*rows.columns)
    if new.replaces and not again:
        new.changes = _changes(replacing, new.rows, table, contract, key)
    return new


def keep_known(lakehouse: Lakehouse, staged: DataFrame, new: NewRows, metadata: Mapping[str, Any]) -> None:
    """Keep the staged rows that did not get in because the table, or another row of the load, is a later write.

    Args:
        lakehouse: The database.
        staged: All rows of the load.
        new: What `without_known` left of them.
        metadata: Metadata of the commit.

    Raises:
        StaleBaseError: Someone else is writing.
        StorageError: A table of that name was not created by the platform.
    """
    place = [BATCH_ID, ROW_NUMBER]
    dropped = staged.join(new.rows.select(*place), place, "left_anti").select(*staged.columns)
    base = lakehouse.current(KNOWN)
    if base is not None:
        lakehouse.require_columns(base, place)
    lakehouse.append(KNOWN, dropped, base=base, metadata=metadata, new_columns=True)


def with_known(record: BatchRecord, known: Mapping[str, int]) -> BatchRecord:
    """Return the record with the rows whose key the table already has counted as known instead of accepted."""
    less = known.get(record.batch_id, 0)
    return replace(record, accepted=record.accepted - less, already_known=record.already_known + less)


def _counted(name: str, change: str, contract: Contract) -> Column:
    """Return the count of a column's changed values; of the target's, one for each label that the table has."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    if name != contract.target:
        return F.count_if(F.col(change)).alias(name)
    return F.array(*[F.count_if(F.col(change) == label) for label in (0, 1)]).alias(name)


def _changes(replacing: Sequence[Row], rows: DataFrame, table: DataFrame, contract: Contract, key: str) -> Changes:
    """Return what rows would change.

    Args:
        replacing: Counts of the rows that replace others, by batch.
        rows: The rows to write.
        table: The raw table.
        contract: Names.
        key: The contract's key.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    target = contract.target
    names = [name for name in contract.column_names if name not in (target, key)]
    columns = {name: sum(int(row[name] or 0) for row in replacing) for name in names}
    labels = {label: sum(int(row[target][label]) for row in replacing) for label in (0, 1)}
    columns = {name: changed for name, changed in columns.items() if changed > FEW}
    replaced = sum(int(row[_ROWS]) for row in replacing)
    if not columns and not any(labels.values()):
        return Changes(replaced)
    is_target = {label: F.col(target) == label for label in (0, 1)}
    of_labels = [F.count_if(condition).alias(f"label {label}") for label, condition in is_target.items()]
    known = table.agg(*[F.count(name).alias(name) for name in columns], *of_labels).collect()[0]
    after: dict[int, int] = {}
    if any(labels.values()) and contract.labels is None:
        coming = rows.agg(*of_labels).collect()[0]
        others = table.join(rows.select(key), key, "left_anti").agg(*of_labels).collect()[0]
        after = {label: int(coming[f"label {label}"]) + int(others[f"label {label}"]) for label in (0, 1)}
    return Changes(
        replaced,
        {name: Changed(changed, int(known[name])) for name, changed in columns.items()},
        {label: Changed(n, int(known[f"label {label}"])) for label, n in labels.items() if n > FEW},
        after,
    )


def _lost(counts: Mapping[str, int], after: DataFrame) -> dict[str, int]:
    """Return how many rows of each batch were dropped."""
    left = {row[BATCH_ID]: int(row["count"]) for row in after.groupBy(BATCH_ID).count().collect()}
    return {batch: count - left.get(batch, 0) for batch, count in counts.items() if count > left.get(batch, 0)}
