"""The three tables that transactions go into, as one: each row in one place, whatever is killed between two commits.

What belongs here: in which order the tables are committed, and what a commit notes so that the next process can finish
it. What does not: which rows are good or win (`data/`), what each commit of the quarantine writes (`quarantine_table`),
Delta itself (`commits`).

Delta has no transaction over several tables. So one commit decides, the one of `raw_transactions`:

1. `quarantined_transactions` gets the bad rows of the load. Nobody counts them yet: their batch is not on record.
2. `raw_transactions` gets the good rows, and the commit's note gets a record of each batch. From here on the load is
   in.
3. `ingested_batches`, the manifest, gets the same records, because a note is kept for 30 days only.

A process that is killed after 1 has done nothing: the batch comes again, and its rows replace the orphans in
quarantine. One that is killed after 2 has done everything but 3, which the next writer makes up for before anything
else (`recover`). A load that brings no row to the raw table is decided by 3.

A replay takes rows out of quarantine the same way: they are marked with the replay's id, then merged into the raw
table with a record of that id, then recorded in the manifest, then deleted. A row whose mark is on record is in the raw
table and is not shown in quarantine; one whose mark is not on record is in quarantine and nowhere else.

Labels that come late are in once `transaction_labels` has them (`label_store`). `recover` brings them to the rows of
the raw table that they are about; a commit there notes which version of the label table it has looked at, so that what
a killed process has left is seen. A row that comes after its label gets it on its way in, and so does one that
replaces a row: a merge would take the label away otherwise.

Each commit carries the transaction number that follows the version its writer looked at, so that of two writers one has
to look again (`StaleBaseError`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import (
    BATCH_ID,
    QUARANTINE_SCHEMA,
    TECHNICAL_COLUMNS,
)
from mlops_assets.data.contract.casting import ARROW_TYPES
from mlops_assets.data.contract.diff import table_rules
from mlops_assets.data.ingest.manifest import BatchRecord, as_table
from mlops_assets.data.ingest.staging import BAD, GOOD, StagedLoad
from mlops_assets.errors import ContractError
from mlops_assets.lakehouse.known_rows import NewRows, with_known, without_known
from mlops_assets.lakehouse.label_merge import merge_labels, with_labels
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.quarantine_table import QuarantineTable
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import (
    MANIFEST,
    QUARANTINED,
    RAW,
    Snapshot,
    Totals,
    count_quarantined,
    count_rows,
    quarantined_rows,
    staged_rows,
    take_snapshot,
)
from mlops_assets.lineage import DAGSTER_RUN, LABELS_VERSION, RAW_VERSION, RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class Outcome:
    """What a load or a replay did.

    Attributes:
        snapshot: The tables afterwards.
        records: What became of each batch.
        accepted: Rows that the raw table's log counts as written.
        quarantined: Rows that the quarantine's log counts as written; after a replay, those that stay.
        known: Rows whose key is known by the same or a later write.
        counted: The tables' rows, if they were counted on the way; ask `TransactionStore.totals` for them.
    """

    snapshot: Snapshot
    records: Sequence[BatchRecord] = ()
    accepted: int = 0
    quarantined: int = 0
    known: int = 0
    counted: Totals | None = None


@dataclass(frozen=True)
class TransactionStore:
    """The tables of one database under one contract.

    Hold `lakehouse.exclusive(RAW)` around everything that writes.

    Attributes:
        lakehouse: Where they are.
        contract: What rows must look like today.
        dagster_run: Run id, for the notes.
    """

    lakehouse: Lakehouse
    contract: Contract
    dagster_run: str = ""

    def snapshot(self) -> Snapshot:
        """Return the tables as they are; see `transaction_tables.take_snapshot`."""
        return take_snapshot(self.lakehouse, self.contract)

    def recover(self, folder: Path) -> Snapshot:
        """Finish what a killed process has left, merge new labels, and return the tables as they are then.

        Args:
            folder: Where to stage rows.

        Raises:
            ContractError: See `snapshot`; or the contract does not tell about the labels that the raw table has.
            StorageError: The labels that the raw table has are gone.
            StaleBaseError: Someone else is writing.
        """
        snapshot = self.snapshot()
        if snapshot.pending:
            snapshot = self._record(snapshot, snapshot.pending, folder / "pending.parquet")
        if snapshot.replayed:
            snapshot = self._quarantine.forget_replayed(snapshot)
        return merge_labels(self.lakehouse, self.contract, self._widen(snapshot, folder), self._note([]))

    def commit(self, snapshot: Snapshot, load: StagedLoad, folder: Path) -> Outcome:
        """Bring a staged load in.

        Args:
            snapshot: The tables as they were when the load was staged.
            load: What was staged.
            folder: Where.

        Raises:
            StaleBaseError: Someone else has written since; look again, and what is not in by then has to come again.
        """
        # Rows are set aside on another core meanwhile: neither decides anything yet, and both take as long.
        with ThreadPoolExecutor(max_workers=1) as beside:
            setting_aside = beside.submit(self._quarantine.set_aside, snapshot, load, folder / BAD)
            counts = {record.batch_id: record.accepted for record in load.records if record.accepted}
            new = None
            if load.staged_rows:
                staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), snapshot)
                new = without_known(staged, self._raw_rows(snapshot), self.contract, counts, key_range=load.key_range)
            snapshot = setting_aside.result()
        quarantined = snapshot.quarantined.rows_written if load.bad_rows and snapshot.quarantined is not None else 0
        records = load.records if new is None else [with_known(record, new.known) for record in load.records]
        known = sum(record.already_known for record in records)
        snapshot, accepted, counted = self._accept(snapshot, records, new, folder)
        return Outcome(snapshot, records, accepted, quarantined, known, counted)

    def replay(self, snapshot: Snapshot, folder: Path) -> Outcome:
        """Try the rows in quarantine again, under today's contract.

        Args:
            snapshot: The tables, after `recover`.
            folder: Where to stage rows.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from mlops_assets.data.ingest.quarantine import try_again

        waiting = quarantined_rows(self.lakehouse, snapshot)
        if not waiting.num_rows:
            return Outcome(snapshot)
        batch, judged = try_again(waiting, self.contract)
        every = pa.array([True] * waiting.num_rows)
        good = every if batch.bad is None else pc.invert(batch.bad.combine_chunks())
        rows = batch.table.select(list(self.contract.column_names)).filter(good)
        if not rows.num_rows:
            return Outcome(snapshot, quarantined=waiting.num_rows)
        carried = waiting.filter(good)
        for name in TECHNICAL_COLUMNS:
            rows = rows.append_column(name, carried.column(name))
        (folder / GOOD).mkdir()
        pq.write_table(rows, folder / GOOD / "00000.parquet", compression="lz4")
        replay = f"replay-{uuid.uuid4().hex}"
        snapshot = self._quarantine.mark(snapshot, waiting, judged, good, replay, self._contract_name, folder)
        counted = pc.value_counts(carried.column(BATCH_ID)).to_pylist()
        counts = {pair["values"]: int(pair["counts"]) for pair in counted}
        staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), snapshot)
        new = without_known(
            staged, self._raw_rows(snapshot), self.contract, counts, key_range=self._key_range(rows), again=True
        )
        known = sum(new.known.values())
        record = BatchRecord(
            batch_id=replay,
            kind="replay",
            source=QUARANTINED,
            rows=waiting.num_rows,
            accepted=rows.num_rows - known,
            quarantined=waiting.num_rows - rows.num_rows,
            already_known=known,
            contract=self._contract_name,
            recorded_at=datetime.now(UTC).isoformat(),
        )
        snapshot, accepted, counted = self._accept(snapshot, [record], new, folder)
        snapshot = self._quarantine.forget_replayed(snapshot)
        return Outcome(snapshot, [record], accepted, count_quarantined(self.lakehouse, snapshot), known, counted)

    def totals(self, done: Outcome) -> Totals:
        """Return how many rows the tables have afterwards; they are counted if they were not on the way."""
        return done.counted or count_rows(self.lakehouse, self.contract, done.snapshot)

    def classes(self, snapshot: Snapshot) -> dict[int, int]:
        """Return the raw table's rows per target value, without those that have none yet."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        if snapshot.raw is None:
            return {}
        rows = self.lakehouse.read(RAW, snapshot.raw.version).where(F.col(self.contract.target).isNotNull())
        counted = rows.groupBy(self.contract.target).count().collect()
        return {int(row[self.contract.target]): int(row["count"]) for row in counted}

    @property
    def _quarantine(self) -> QuarantineTable:
        return QuarantineTable(self.lakehouse, self.dagster_run)

    @property
    def _contract_name(self) -> str:
        return f"{self.contract.name} v{self.contract.version}"

    def _widen(self, snapshot: Snapshot, folder: Path) -> Snapshot:
        """Add the columns that a raised version of the contract brings, in a commit without rows."""
        if snapshot.raw is None:
            return snapshot
        there = self.lakehouse.read(RAW, snapshot.raw.version).columns
        missing = [name for name in self.contract.column_names if name not in there]
        if not missing:
            return snapshot
        if snapshot.rules is None:
            raise ContractError(
                f"the table has no columns {', '.join(missing)}, and nothing says under which contract it was written",
                where=self.lakehouse.location(RAW),
                fix="set MLOPS_DATABASE to a new database and load again",
            )
        (folder / "widen").mkdir()
        pq.write_table(_no_rows(self.contract), folder / "widen" / "none.parquet")
        records = self._new_rules(snapshot)
        rows = self._staged(folder / "widen")
        metadata = self._note(records)
        written = self.lakehouse.append(RAW, rows, base=snapshot.raw, metadata=metadata, new_columns=True)
        return self._record(replace(snapshot, raw=written), records, folder / "widen.parquet")

    def _note(self, records: Sequence[BatchRecord]) -> dict[str, Any]:
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
        self, snapshot: Snapshot, records: Sequence[BatchRecord], new: NewRows | None, folder: Path
    ) -> tuple[Snapshot, int, Totals | None]:
        """Commit the rows that are left, with the records; return the rows that Delta says it wrote, and all there are.

        What is counted is not changed by the records' own commit, and counting takes as long as that, on another core.
        """
        records = [*self._new_rules(snapshot), *records]
        if new is None or not sum(record.accepted for record in records):
            return (self._record(snapshot, records, folder / "records.parquet") if records else snapshot), 0, None
        metadata = self._note(records)
        if snapshot.labels is not None:
            metadata[LABELS_VERSION] = snapshot.labels.rows_version
        if new.replaces and snapshot.raw is not None and self.contract.key is not None:
            written = self.lakehouse.merge(RAW, new.rows, key=self.contract.key, base=snapshot.raw, metadata=metadata)
        else:
            chosen_by = [self.contract.key, self.contract.event_time, self.contract.entity]  # by merges and splits
            skip_by = [name for name in chosen_by if name is not None]
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
        name = f"{self._contract_name} ({self.contract.fingerprint})"
        now = datetime.now(UTC).isoformat()
        return [BatchRecord(name, "contract", self.contract.name, 0, 0, 0, 0, self._contract_name, now, rules)]

    def _record(self, snapshot: Snapshot, records: Sequence[BatchRecord], staged: Path) -> Snapshot:
        """Append records to the manifest, which then accounts for the raw table as it is."""
        pq.write_table(as_table(records), staged)
        rows = self.lakehouse.session.read.parquet(spark_path(staged))
        metadata = {RAW_VERSION: -1 if snapshot.raw is None else snapshot.raw.version}
        manifest = self.lakehouse.append(MANIFEST, rows, base=snapshot.manifest, metadata=metadata)
        recorded = snapshot.recorded | {record.batch_id for record in records}
        rules = next((record.rules for record in reversed(records) if record.rules), snapshot.rules)
        return replace(snapshot, manifest=manifest, recorded=recorded, pending=(), rules=rules)

    def _key_range(self, rows: pa.Table) -> tuple[Any, Any] | None:
        if self.contract.key is None:
            return None
        found = pc.min_max(rows.column(self.contract.key)).as_py()
        return found["min"], found["max"]


def _no_rows(contract: Contract) -> pa.Table:
    """Return the raw table's columns without a row."""
    technical = {name: QUARANTINE_SCHEMA.field(name).type for name in TECHNICAL_COLUMNS}
    kinds = {column.name: ARROW_TYPES[column.type] for column in contract.columns} | technical
    return pa.schema(list(kinds.items())).empty_table()
