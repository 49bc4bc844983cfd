"""One transaction over the three tables of transactions: every row ends up in one place, even if a process is killed.

What belongs here: the order of the commits, and the commit metadata from which the next process can finish them. What
does not: which rows are good or win (`data/`), what each commit to the quarantine writes (`quarantine_table`), Delta
itself (`commits`).

Delta has no transaction over several tables. So one commit decides, the one to `raw_transactions`:

1. `quarantined_transactions` gets the bad rows of the load. They do not count yet: their batch is not recorded.
2. `raw_transactions` gets the good rows, and the commit's metadata gets a record of each batch. From here on the load
   counts as done.
3. `ingested_batches`, the manifest, gets the same records, because commit metadata is not kept forever.

If a process is killed after 1, nothing has happened: the batch is loaded again, and its rows replace the orphans in
quarantine. If it is killed after 2, only 3 is missing, and the next writer does that first (`recover`). If a load
writes no row to the raw table, 3 decides.

A replay takes rows out of quarantine the same way: it marks them with the replay's id, merges them into the raw table
with a record of that id, records the id in the manifest, and deletes them. A row whose mark is recorded is in the raw
table and is not shown in quarantine; a row whose mark is not recorded is in quarantine and nowhere else.

Late labels count once `transaction_labels` has them (`label_store`). `recover` merges them into the rows of the raw
table that they are about, and the commit's metadata says which version of the label table it used, so the next process
sees what a killed one left undone. A row that comes after its label gets the label before it is written. So does a row
that replaces another one: the merge would drop the label otherwise.

Before a row replaces another one, `replaced_transactions` gets a copy of the old one (`replaced_rows`), and rows that
lose against another write of their key go to `known_transactions` (`known_rows`).

A revert is decided by the raw table, too: one commit takes the rows of the batches out, puts earlier rows in their
place, and records the batches as reverted. The other tables lose their rows afterwards, and the manifest gets the
record last; `recover` finishes both.

Each commit carries the transaction number that follows the version its writer read, so of two concurrent writers one
has to start over (`StaleBaseError`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, TECHNICAL_COLUMNS
from mlops_assets.data.contract.diff import table_rules
from mlops_assets.data.ingest.changes import judge_changes
from mlops_assets.data.ingest.manifest import REVERT, BatchRecord, as_table
from mlops_assets.data.ingest.staged_files import BAD, GOOD
from mlops_assets.data.ingest.staging import StagedLoad
from mlops_assets.errors import ContractError
from mlops_assets.lakehouse.batches import Batch, of_batches, remove_batches
from mlops_assets.lakehouse.completeness import missing_batches, require_whole
from mlops_assets.lakehouse.known_rows import NewRows, keep_known, with_known, without_known
from mlops_assets.lakehouse.label_merge import merge_labels, merged_labels, with_labels
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.quarantine_table import QuarantineTable
from mlops_assets.lakehouse.replaced_rows import keep_replaced
from mlops_assets.lakehouse.reverted_rows import GONE, forget, taken_out
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import (
    MANIFEST,
    QUARANTINED,
    RAW,
    Snapshot,
    Totals,
    count_quarantined,
    count_rows,
    staged_rows,
    take_snapshot,
)
from mlops_assets.lineage import ACCEPTED_CHANGES, DAGSTER_RUN, RAW_VERSION, RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class Outcome:
    """What a load or a replay did.

    Attributes:
        snapshot: The tables afterwards.
        records: One record per batch.
        accepted: Rows written to the raw table, by its log.
        quarantined: Rows written to the quarantine, by its log; after a replay, the rows that stay there.
        known: Rows whose key the raw table already has from the same or a later write.
        counted: Row counts of the tables, if they were counted on the way; use `TransactionStore.totals` to read them.
        refused: Why nothing was written: the load would change too much of what is known.
        changes: The verdict on what the load changes; None if it replaces no row.
    """

    snapshot: Snapshot
    records: Sequence[BatchRecord] = ()
    accepted: int = 0
    quarantined: int = 0
    known: int = 0
    counted: Totals | None = None
    refused: bool = False
    changes: CheckOutcome | None = None


@dataclass(frozen=True)
class Reverted:
    """What a revert did.

    Attributes:
        snapshot: The tables afterwards.
        removed: Rows of the raw table that are gone.
        restored: Rows of the raw table in whose place an earlier row stands again.
    """

    snapshot: Snapshot
    removed: int = 0
    restored: int = 0


@dataclass(frozen=True)
class TransactionStore:
    """The tables of one database under one contract.

    Hold `lakehouse.exclusive(RAW)` around everything that writes.

    Attributes:
        lakehouse: The database.
        contract: The current data contract.
        dagster_run: Run id for the commit metadata.
    """

    lakehouse: Lakehouse
    contract: Contract
    dagster_run: str = ""

    def snapshot(self) -> Snapshot:
        """Return the tables as they are; see `transaction_tables.take_snapshot`.

        Raises:
            ContractError: The contract is not compatible with the one that the tables were written under.
            StorageError: A table was not created by the platform, or the raw table lacks batches that the manifest has.
        """
        snapshot = take_snapshot(self.lakehouse, self.contract)
        require_whole(self.lakehouse, snapshot.raw, snapshot.manifest)
        return snapshot

    def drop_missing(self, folder: Path) -> list[str]:
        """Take batches that the raw table lacks out of the manifest, so that they may be loaded again.

        Args:
            folder: Where to stage rows.

        Returns:
            Their ids; none if the table has all of them.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        snapshot = take_snapshot(self.lakehouse, self.contract)
        lost = missing_batches(self.lakehouse, snapshot.raw, snapshot.manifest)
        if lost:
            # The manifest goes last: a repair that is killed before is simply wanted again.
            forget(self.lakehouse, snapshot, list(lost), {DAGSTER_RUN: self.dagster_run})
            now, by = datetime.now(UTC).isoformat(), self.contract.versioned_name
            records = [BatchRecord(name, REVERT, source, 0, 0, 0, 0, by, now) for name, source in lost.items()]
            self._record(snapshot, records, folder / "dropped.parquet")
        return list(lost)

    def recover(self, folder: Path) -> Snapshot:
        """Finish what a killed process left undone, merge new labels, and return the tables as they are then.

        Args:
            folder: Where to stage rows.

        Raises:
            ContractError: See `snapshot`; or the raw table has late labels, but the contract has no `labels`.
            StorageError: The raw table has late labels, but the table they came from is gone.
            StaleBaseError: Someone else is writing.
        """
        snapshot = self.snapshot()
        if snapshot.reverting:
            snapshot = forget(self.lakehouse, snapshot, snapshot.reverting, {DAGSTER_RUN: self.dagster_run})
        if snapshot.pending:
            snapshot = self._record(snapshot, snapshot.pending, folder / "pending.parquet")
        if snapshot.replayed:
            snapshot = self._quarantine.forget_replayed(snapshot)
        return merge_labels(self.lakehouse, self.contract, self._widen(snapshot, folder), self.commit_metadata([]))

    def commit(self, snapshot: Snapshot, load: StagedLoad, folder: Path, accept_changes: str = "") -> Outcome:
        """Commit a staged load, unless it would change too much (`data/ingest/changes`).

        Args:
            snapshot: The tables as they were when the load was staged.
            load: The staged load.
            folder: Where it was staged.
            accept_changes: Why all that it changes is right; kept in the commit's metadata.

        Raises:
            StaleBaseError: Someone else has written since; take a new snapshot and stage again.
        """
        # The quarantine is written on another core meanwhile: neither step decides anything yet, and both are slow.
        with ThreadPoolExecutor(max_workers=1) as beside:
            setting_aside = beside.submit(self._quarantine.set_aside, snapshot, load, folder / BAD)
            counts = {record.batch_id: record.accepted for record in load.records if record.accepted}
            new, staged = None, None
            if load.staged_rows:
                staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), snapshot)
                new = without_known(
                    staged,
                    self._raw_rows(snapshot),
                    self.contract,
                    counts,
                    key_range=load.key_range,
                    divided=load.divided,
                )
            snapshot = setting_aside.result()
        more: dict[str, Any] = {}
        changes = None
        if new is not None and new.replaces:
            changes = judge_changes(new.changes, self.contract, accept_changes)
            if not changes.passed:  # bad rows that were set aside don't count without a record of their batch
                return Outcome(snapshot, refused=True, changes=changes)
            if accept_changes:
                more = {ACCEPTED_CHANGES: {"reason": accept_changes, "changes": changes.description}}
        quarantined = snapshot.quarantined.rows_written if load.bad_rows and snapshot.quarantined is not None else 0
        records = load.records if new is None else [with_known(record, new.known) for record in load.records]
        known = sum(record.already_known for record in records)
        if new is not None and staged is not None and new.known:
            keep_known(self.lakehouse, staged, new, self.commit_metadata(records))
        snapshot, accepted, counted = self._accept(snapshot, records, new, folder, more)
        return Outcome(snapshot, records, accepted, quarantined, known, counted, changes=changes)

    def revert(self, snapshot: Snapshot, batches: Sequence[Batch], folder: Path) -> Reverted:
        """Take batches of transactions out again, as if they had never come (`reverted_rows`).

        Args:
            snapshot: The tables, after `recover`; there is a raw table.
            batches: The batches.
            folder: Where to stage rows.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        raw = snapshot.raw
        if raw is None:
            raise ValueError("there is no raw table to revert")
        names = [batch.batch_id for batch in batches]
        table = self.lakehouse.read(RAW, raw.version)
        held = {
            row[BATCH_ID]: int(row["count"])
            for row in table.where(of_batches(names)).groupBy(BATCH_ID).count().collect()
        }
        now = datetime.now(UTC).isoformat()
        records = [
            BatchRecord(
                b.batch_id, REVERT, b.source, held.get(b.batch_id, 0), 0, 0, 0, self.contract.versioned_name, now
            )
            for b in batches
        ]
        metadata = self.commit_metadata(records)
        if snapshot.labels is not None:
            metadata |= merged_labels(self.contract, snapshot.labels)
        key = self.contract.key
        if not held:  # a commit without rows decides, too
            written = self.lakehouse.append(RAW, table.where("FALSE"), base=raw, metadata=metadata)
        elif key is None:
            written = remove_batches(self.lakehouse, raw, names, metadata)
        else:
            written = self.lakehouse.remove(
                RAW,
                taken_out(self.lakehouse, self.contract, snapshot, names),
                on=f"old.{quoted(key)} = new.{quoted(key)}",
                removes=f"new.{quoted(GONE)}",
                restored=table.columns,
                base=raw,
                metadata=metadata,
            )
        pending = tuple(records)
        snapshot = forget(self.lakehouse, replace(snapshot, raw=written), names, {DAGSTER_RUN: self.dagster_run})
        snapshot = self._record(snapshot, pending, folder / "reverted.parquet")
        restored = written.metrics.get("numTargetRowsUpdated", 0)
        return Reverted(snapshot, sum(held.values()) - restored, restored)

    def replay(self, snapshot: Snapshot, folder: Path) -> Outcome:
        """Retry the rows in quarantine under the current contract.

        Args:
            snapshot: The tables, after `recover`.
            folder: Where to stage rows.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        replay = f"replay-{uuid.uuid4().hex}"
        tried = self._quarantine.tried_again(snapshot, self.contract, replay, folder)
        good = sum(tried.accepted.values())
        if not good:
            return Outcome(snapshot, quarantined=tried.rows)
        snapshot = self._quarantine.mark(snapshot, replay, folder)
        staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), snapshot)
        new = without_known(
            staged,
            self._raw_rows(snapshot),
            self.contract,
            tried.accepted,
            key_range=tried.key_range,
            again=True,
        )
        known = sum(new.known.values())
        if known and self.contract.key is not None:
            keep_known(self.lakehouse, staged, new, self.commit_metadata([]))
        record = BatchRecord(
            batch_id=replay,
            kind="replay",
            source=QUARANTINED,
            rows=tried.rows,
            accepted=good - known,
            quarantined=tried.rows - good,
            already_known=known,
            contract=self.contract.versioned_name,
            recorded_at=datetime.now(UTC).isoformat(),
        )
        snapshot, accepted, counted = self._accept(snapshot, [record], new, folder)
        snapshot = self._quarantine.forget_replayed(snapshot)
        return Outcome(snapshot, [record], accepted, count_quarantined(self.lakehouse, snapshot), known, counted)

    def totals(self, done: Outcome) -> Totals:
        """Return how many rows the tables have afterwards; counts them unless that was already done."""
        return done.counted or count_rows(self.lakehouse, self.contract, done.snapshot)

    @property
    def _quarantine(self) -> QuarantineTable:
        return QuarantineTable(self.lakehouse, self.dagster_run)

    def _widen(self, snapshot: Snapshot, folder: Path) -> Snapshot:
        """Add the columns that a newer version of the contract brings, in a commit without rows."""
        if snapshot.raw is None:
            return snapshot
        present = self.lakehouse.read(RAW, snapshot.raw.version).columns
        missing = [name for name in self.contract.column_names if name not in present]
        if not missing:
            return snapshot
        if snapshot.rules is None:
            raise ContractError(
                f"the table has no columns {', '.join(missing)}, and nothing records the contract it was written under",
                where=self.lakehouse.location(RAW),
                fix="set MLOPS_DATABASE to a new database and load again",
            )
        records = self._new_rules(snapshot)
        new = {name: self.contract.column(name) for name in missing}
        columns = {name: (column.type, column.description) for name, column in new.items()}
        written = self.lakehouse.add_columns(snapshot.raw, columns, self.commit_metadata(records))
        return self._record(replace(snapshot, raw=written), records, folder / "widen.parquet")

    def commit_metadata(self, records: Sequence[BatchRecord]) -> dict[str, Any]:
        """Return the metadata of a commit to the raw table."""
        return {
            "batches": len([record for record in records if record.kind == "load"]),
            "contract": self.contract.fingerprint,
            "contract_version": self.contract.version,
            DAGSTER_RUN: self.dagster_run,
            RECORDS: [asdict(record) for record in records],
        }

    def _staged(self, folder: Path) -> DataFrame:
        described = {column.name: column.description for column in self.contract.columns} | TECHNICAL_COLUMNS
        return staged_rows(self.lakehouse, folder, described)

    def _raw_rows(self, snapshot: Snapshot) -> DataFrame | None:
        return None if snapshot.raw is None else self.lakehouse.read(RAW, snapshot.raw.version)

    def _accept(
        self,
        snapshot: Snapshot,
        records: Sequence[BatchRecord],
        new: NewRows | None,
        folder: Path,
        more: Mapping[str, Any] | None = None,
    ) -> tuple[Snapshot, int, Totals | None]:
        """Commit the remaining rows with their records; return the snapshot, Delta's count of written rows, the totals.

        Committing the records to the manifest does not change the counts, so the counting runs beside it.
        """
        records = [*self._new_rules(snapshot), *records]
        if new is None or not sum(record.accepted for record in records):
            return (self._record(snapshot, records, folder / "records.parquet") if records else snapshot), 0, None
        metadata = self.commit_metadata(records) | dict(more or {})
        if snapshot.labels is not None:
            metadata |= merged_labels(self.contract, snapshot.labels)
        if new.replaces and snapshot.raw is not None and self.contract.key is not None:
            keep_replaced(self.lakehouse, snapshot.raw, new.rows, self.contract.key, metadata)
            written = self.lakehouse.merge(RAW, new.rows, key=self.contract.key, base=snapshot.raw, metadata=metadata)
        else:
            filtered_by = [self.contract.key, self.contract.event_time, self.contract.entity]  # by merges and splits
            skip_by = [name for name in filtered_by if name is not None]
            written = self.lakehouse.append(RAW, new.rows, base=snapshot.raw, metadata=metadata, skip_by=skip_by)
        recorded = snapshot.recorded | {record.batch_id for record in records}
        snapshot = replace(snapshot, raw=written, recorded=recorded)
        with ThreadPoolExecutor(max_workers=1) as beside:
            counting = beside.submit(count_rows, self.lakehouse, self.contract, snapshot)
            snapshot = self._record(snapshot, records, folder / "records.parquet")
        return snapshot, written.rows_written, counting.result()

    def _new_rules(self, snapshot: Snapshot) -> list[BatchRecord]:
        rules = table_rules(self.contract)
        if rules == snapshot.rules:
            return []
        name = f"{self.contract.versioned_name} ({self.contract.fingerprint})"
        now = datetime.now(UTC).isoformat()
        return [BatchRecord(name, "contract", self.contract.name, 0, 0, 0, 0, self.contract.versioned_name, now, rules)]

    def _record(self, snapshot: Snapshot, records: Sequence[BatchRecord], staged: Path) -> Snapshot:
        """Append records to the manifest, which then covers the raw table up to its current version."""
        pq.write_table(as_table(records), staged)
        rows = self.lakehouse.session.read.parquet(spark_path(staged))
        metadata = {RAW_VERSION: -1 if snapshot.raw is None else snapshot.raw.version}
        manifest = self.lakehouse.append(MANIFEST, rows, base=snapshot.manifest, metadata=metadata)
        gone = {record.batch_id for record in records if record.kind == REVERT}
        recorded = (snapshot.recorded | {record.batch_id for record in records}) - gone
        rules = next((record.rules for record in reversed(records) if record.rules), snapshot.rules)
        return replace(snapshot, manifest=manifest, recorded=recorded, pending=(), rules=rules)
