"""Batches that are taken out again: which rows go, and which earlier rows stand again.

What belongs here: what a revert changes in each table. What does not: which write of a key wins
(`data/ingest/merge_frames`), the order of the commits (`transactions`), naming batches (`batches`).

After a revert the tables are as if the batches had never come. A key whose last write was reverted gets its last write
among the batches that stay. It stood in the raw table once (`replaced_rows`), or never got in (`known_rows`). Rows that
lost before `known_transactions` was kept can't come back; their file is loaded again after a revert of its own. Its
copy stays where it was: a copy of a row that stands says nothing new (`replaced_rows`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.data.columns import HISTORY_COLUMNS, LABEL_COLUMNS
from mlops_assets.lakehouse.batches import of_batches, remove_batches
from mlops_assets.lakehouse.label_merge import with_labels
from mlops_assets.lakehouse.transaction_tables import KNOWN, QUARANTINED, RAW, REPLACED, Snapshot

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse

# In the frame of `taken_out`: whether a key has no earlier row that stands again.
GONE: Final = "_gone"


def taken_out(lakehouse: Lakehouse, contract: Contract, snapshot: Snapshot, names: Collection[str]) -> DataFrame:
    """Return one row for each key whose row of the raw table is of the batches, for `Commits.remove`.

    Args:
        lakehouse: The database.
        contract: The contract; it has a key.
        snapshot: The tables, after `TransactionStore.recover`.
        names: Ids of the batches.

    Returns:
        The columns of the raw table, and `GONE`. Where that is true, only the key is set; otherwise it is the row that
        stands again, with its labels of today.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest.merge_frames import last_of_each_key

    key, raw = contract.key, snapshot.raw
    if key is None or raw is None:
        raise ValueError("a contract with a key and a raw table are needed")
    table = lakehouse.read(RAW, raw.version)
    going = table.where(of_batches(names)).select(key)
    stays = [batch for batch in snapshot.recorded if batch not in set(names)]
    earlier = None
    for other in (REPLACED, KNOWN):
        kept = lakehouse.current(other)
        if kept is not None:
            rows = lakehouse.read(other, kept.version).where(of_batches(stays)).join(going, key, "left_semi")
            earlier = rows if earlier is None else earlier.unionByName(rows, allowMissingColumns=True)
    if earlier is None:
        return table.where(of_batches(names)).withColumn(GONE, F.lit(True))
    again = _as_delivered(lakehouse, contract, last_of_each_key(earlier, key, contract), snapshot)
    missing = [
        F.lit(None).cast(table.schema[name].dataType).alias(name) for name in table.columns if name not in again.columns
    ]
    standing = again.select("*", *missing, F.lit(False).alias(GONE))
    return going.join(standing, key, "left").select(*table.columns, F.coalesce(GONE, F.lit(True)).alias(GONE))


def forget(lakehouse: Lakehouse, snapshot: Snapshot, names: Collection[str], metadata: Mapping[str, Any]) -> Snapshot:
    """Delete the rows of reverted batches from the tables beside the raw table; harmless when repeated.

    Args:
        lakehouse: The database.
        snapshot: The tables.
        names: Ids of the batches.
        metadata: Metadata of each commit; the quarantine keeps its own marks.

    Raises:
        StaleBaseError: Someone else is writing.
    """
    for name in (QUARANTINED, REPLACED, KNOWN):
        base = snapshot.quarantined if name == QUARANTINED else lakehouse.current(name)
        if base is None or lakehouse.read(name, base.version).where(of_batches(names)).isEmpty():
            continue
        marks = base.metadata if name == QUARANTINED else {}
        written = remove_batches(lakehouse, base, names, {**marks, **metadata})
        if name == QUARANTINED:
            snapshot = replace(snapshot, quarantined=written)
    return snapshot


def _as_delivered(lakehouse: Lakehouse, contract: Contract, rows: DataFrame, snapshot: Snapshot) -> DataFrame:
    """Return earlier rows with the labels of today: those that came since they were replaced are missing in them."""
    from mlops_assets.data.labels.labels_frames import own_label

    if snapshot.labels is None:
        return rows
    bare = rows.withColumn(contract.target, own_label(rows, contract)).drop(*LABEL_COLUMNS, *HISTORY_COLUMNS)
    return with_labels(lakehouse, contract, bare, snapshot)
