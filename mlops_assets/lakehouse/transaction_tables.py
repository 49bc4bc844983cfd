"""The three tables of transactions as a reader sees them: what was recorded, what was not, what is left to do.

What belongs here: their names, reading and counting them together, which rows of the quarantine count, and reading
staged rows. What does not: writing (`transactions`, which explains how the three are committed together).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import BATCH_ID, LABEL_KNOWN_AT, QUARANTINE_SCHEMA, REPLAY, SOURCE
from mlops_assets.data.contract.diff import new_columns
from mlops_assets.data.ingest.manifest import REVERT, BatchRecord, loaded
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lineage import RAW_VERSION, RECORDS, REPLAYS, UNSETTLED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


RAW = "raw_transactions"
QUARANTINED = "quarantined_transactions"
MANIFEST = "ingested_batches"
LABELS = "transaction_labels"
REPLACED = "replaced_transactions"
KNOWN = "known_transactions"
# Batch id, kind and time of a record.
_RecordId = tuple[str, str, str]


@dataclass(frozen=True)
class Snapshot:
    """The tables as they are at one moment.

    Attributes:
        raw: Raw table, None before the first load.
        quarantined: Quarantine, None before its first commit.
        manifest: Manifest, None before its first commit.
        recorded: Ids of all batches and replays that were committed and not reverted, whether the manifest has them
            yet or not.
        pending: Records in the raw table's commit metadata that the manifest does not have yet.
        rules: The contract's rules under which the newest row was accepted; None before the first row.
        labels: Label table whose labels the raw table has; None without one, and before `TransactionStore.recover`.
        labelled: Number of raw table rows that got a label in `recover`.
    """

    raw: TableVersion | None
    quarantined: TableVersion | None
    manifest: TableVersion | None
    recorded: frozenset[str]
    pending: tuple[BatchRecord, ...] = ()
    rules: str | None = None
    labels: TableVersion | None = None
    labelled: int = 0

    @property
    def reverting(self) -> list[str]:
        """Batches that the raw table has lost and the manifest has not: other tables may still have rows of them."""
        return [record.batch_id for record in self.pending if record.kind == REVERT]

    @property
    def orphans(self) -> list[str]:
        """Batches with rows in quarantine but without a record: from a killed load, or from one still running."""
        return [batch for batch in self._listed(UNSETTLED) if batch not in self.recorded]

    @property
    def replayed(self) -> list[str]:
        """Recorded replays whose rows are still in quarantine."""
        return [replay for replay in self._listed(REPLAYS) if replay in self.recorded]

    @property
    def open_replays(self) -> list[str]:
        """Replays that marked rows but are not recorded."""
        return [replay for replay in self._listed(REPLAYS) if replay not in self.recorded]

    def _listed(self, name: str) -> list[str]:
        return [] if self.quarantined is None else list(self.quarantined.metadata.get(name, []))


@dataclass(frozen=True)
class Totals:
    """Row counts of the tables.

    Attributes:
        rows: Rows of the raw table.
        with_label: Those that have a label.
        frauds: Those that are frauds.
        late_labels: Those whose label came late.
        quarantined: Rows in quarantine, as readers see it.
    """

    rows: int = 0
    with_label: int = 0
    frauds: int = 0
    late_labels: int = 0
    quarantined: int = 0


def take_snapshot(lakehouse: Lakehouse, contract: Contract) -> Snapshot:
    """Return the tables as they are.

    Raises:
        ContractError: The current contract is not compatible with the one that the tables were written under.
        StorageError: A table of that name was not created by the platform.
    """
    raw, quarantined, manifest = (lakehouse.current(name) for name in (RAW, QUARANTINED, MANIFEST))
    ours = ((raw, [BATCH_ID, contract.target]), (quarantined, [BATCH_ID, REPLAY]), (manifest, ["batch_id", "rules"]))
    for version, columns in ours:
        if version is not None:
            lakehouse.require_columns(version, columns)
    known: list[_RecordId] = []
    rules = None
    if manifest is not None:
        table = lakehouse.fetch(manifest, ["batch_id", "kind", "recorded_at", "rules"])
        known = list(zip(*(table.column(name).to_pylist() for name in table.column_names[:3]), strict=True))
        of_contract = table.filter(pc.equal(table.column("kind"), "contract")).sort_by("recorded_at")
        rules = of_contract.column("rules").to_pylist()[-1] if of_contract.num_rows else None
    pending = _pending(lakehouse, raw, manifest, known)
    for record in pending:
        rules = record.rules or rules
    if rules is not None:
        new_columns(contract, rules, where=lakehouse.location(RAW))
    named = [(batch_id, kind) for batch_id, kind, _ in known] + [(record.batch_id, record.kind) for record in pending]
    return Snapshot(raw, quarantined, manifest, frozenset(loaded(named)), pending, rules)


def in_quarantine(lakehouse: Lakehouse, snapshot: Snapshot) -> DataFrame:
    """Return the rows in quarantine, without those of unrecorded loads and recorded replays.

    Raises:
        StorageError: There is no quarantine.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    table = snapshot.quarantined or lakehouse.require(QUARANTINED, made_by=RAW)
    rows = lakehouse.read(QUARANTINED, table.version)
    if snapshot.orphans:
        rows = rows.where(~F.col(BATCH_ID).isin(snapshot.orphans))
    if snapshot.replayed:
        rows = rows.where(F.col(REPLAY).isNull() | ~F.col(REPLAY).isin(snapshot.replayed))
    return rows


def quarantined_rows(lakehouse: Lakehouse, snapshot: Snapshot, limit: int) -> pa.Table:
    """Return the first rows `in_quarantine` (`QUARANTINE_COLUMNS`)."""
    if snapshot.quarantined is None:
        return QUARANTINE_SCHEMA.empty_table()
    return in_quarantine(lakehouse, snapshot).limit(limit).toArrow().cast(QUARANTINE_SCHEMA)


def staged_rows(lakehouse: Lakehouse, folder: Path, described: Mapping[str, str]) -> DataFrame:
    """Return staged rows with each column's description as its comment."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    staged = lakehouse.session.read.parquet(spark_path(folder))
    return staged.select([F.col(name).alias(name, metadata={"comment": text}) for name, text in described.items()])


def count_rows(lakehouse: Lakehouse, contract: Contract, snapshot: Snapshot) -> Totals:
    """Count the rows of the tables."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    set_aside = count_quarantined(lakehouse, snapshot)
    if snapshot.raw is None:
        return Totals(quarantined=set_aside)
    rows = lakehouse.read(RAW, snapshot.raw.version)
    late = F.count(LABEL_KNOWN_AT) if LABEL_KNOWN_AT in rows.columns else F.lit(0)
    counted = rows.agg(F.count(F.lit(1)), F.count(contract.target), F.sum(contract.target), late).collect()[0]
    total, with_label, frauds, labelled = (int(count or 0) for count in counted)
    return Totals(total, with_label, frauds, labelled, set_aside)


def count_classes(lakehouse: Lakehouse, contract: Contract, snapshot: Snapshot) -> dict[int, int]:
    """Return the raw table's row count per target value, without the rows that have no label yet."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    if snapshot.raw is None:
        return {}
    rows = lakehouse.read(RAW, snapshot.raw.version).where(F.col(contract.target).isNotNull())
    counted = rows.groupBy(contract.target).count().collect()
    return {int(row[contract.target]): int(row["count"]) for row in counted}


def count_quarantined(lakehouse: Lakehouse, snapshot: Snapshot) -> int:
    """Count `quarantined_rows`."""
    if snapshot.quarantined is None:
        return 0
    orphans, replayed = set(snapshot.orphans), set(snapshot.replayed)
    return sum(
        rows
        for (batch, replay), rows in lakehouse.counted(snapshot.quarantined, [BATCH_ID, REPLAY]).items()
        if batch not in orphans and replay not in replayed
    )


def _pending(
    lakehouse: Lakehouse, raw: TableVersion | None, manifest: TableVersion | None, known: Collection[_RecordId]
) -> tuple[BatchRecord, ...]:
    # After a hundred upkeep commits the metadata that says up to which raw version the manifest is complete is out of
    # reach; the manifest's rows still say which batches it has.
    raw_version = None if manifest is None else manifest.metadata.get(RAW_VERSION)
    accounted = -1 if raw_version is None else int(raw_version)
    if raw is None or raw.version <= accounted:
        return ()
    commits = lakehouse.commit_metadata_since(RAW, accounted)
    pending = [BatchRecord(**record) for metadata in commits for record in metadata.get(RECORDS, [])]
    if raw_version is None:
        there = set(known)
        pending = [record for record in pending if (record.batch_id, record.kind, record.recorded_at) not in there]
    if manifest is None:
        pending = [*_without_record(lakehouse, raw, {record.batch_id for record in pending}), *pending]
    return tuple(pending)


def _without_record(lakehouse: Lakehouse, raw: TableVersion, recorded: set[str]) -> list[BatchRecord]:
    """Create records for the batches of a table that was written before the manifest existed."""
    rows = lakehouse.read(RAW, raw.version).groupBy(BATCH_ID, SOURCE).count().collect()
    now = datetime.now(UTC).isoformat()
    return [
        BatchRecord(row[BATCH_ID], "load", row[SOURCE], row["count"], row["count"], 0, 0, "", now)
        for row in rows
        if row[BATCH_ID] not in recorded
    ]
