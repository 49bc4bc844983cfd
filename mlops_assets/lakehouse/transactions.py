"""The three tables that transactions go into, as one: each row in one place, whatever is killed between two commits.

What belongs here: in which order the tables are committed, what a commit notes so that the next process can finish it,
and what a reader may see. What does not: which rows are good or win (`data/`), Delta itself (`lakehouse`), Dagster.

Delta has no transaction over several tables. So one commit decides, the one of `raw_transactions`:

1. `quarantined_transactions` gets the bad rows of the load. Nobody counts them yet: their batch is not on record.
2. `raw_transactions` gets the good rows, and the commit's note gets a record of each batch. From here on the load is
   in.
3. `ingested_batches`, the manifest, gets the same records, because a note is kept for 30 days only.

A process that is killed after 1 has done nothing: the batch comes again, and its rows replace the orphans in
quarantine. One that is killed after 2 has done everything but 3, which the next writer makes up for before anything
else (`settle`). A load that brings no row to the raw table is decided by 3.

A replay takes rows out of quarantine the same way: they are marked with the replay's id, then merged into the raw
table with a record of that id, then recorded in the manifest, then deleted. A row whose mark is on record is in the raw
table and is not shown in quarantine; one whose mark is not on record is in quarantine and nowhere else.

Labels that come late are in once `transaction_labels` has them (`label_store`). `settle` brings them to the rows of the
raw table that they are about; a commit there notes the version of the label table that it has looked at, so that what
a killed process has left is seen. A row that comes after its label gets it on its way in, and so does one that
replaces a row: a merge would take the label away otherwise.

Each commit carries the transaction number that follows the version its writer looked at, so that of two writers one has
to look again (`StaleBaseError`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.contract.casting import ARROW_TYPES
from mlops_assets.data.contract.diff import table_rules
from mlops_assets.data.ingest.manifest import BatchRecord, as_table
from mlops_assets.data.ingest.staging import (
    BAD,
    BATCH_ID,
    CONTRACT,
    GOOD,
    QUARANTINE_COLUMNS,
    QUARANTINE_SCHEMA,
    REPLAY,
    TECHNICAL_COLUMNS,
    StagedLoad,
)
from mlops_assets.errors import ContractError
from mlops_assets.lakehouse.label_merge import merge_labels, with_labels
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import (
    LABELS_VERSION,
    MANIFEST,
    QUARANTINED,
    RAW,
    RECORDS,
    REPLAYS,
    UNSETTLED,
    Look,
    Totals,
    count_quarantined,
    count_rows,
    look_at,
    quarantined_rows,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class Outcome:
    """What a load or a replay did.

    Attributes:
        look: The tables afterwards.
        records: What became of each batch.
        accepted: Rows that the raw table's log counts as written.
        quarantined: Rows that the quarantine's log counts as written; after a replay, those that stay.
        known: Rows whose key is known by the same or a later write.
        counted: The tables' rows, if they were counted on the way; ask `TransactionStore.totals` for them.
    """

    look: Look
    records: Sequence[BatchRecord] = ()
    accepted: int = 0
    quarantined: int = 0
    known: int = 0
    counted: Totals | None = None


@dataclass
class _Fates:
    """Rows on their way into the raw table, and how many of each batch are not."""

    rows: DataFrame
    known: dict[str, int] = field(default_factory=dict)
    replaces: bool = False


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

    def look(self) -> Look:
        """Return the tables as they are; see `transaction_tables.look_at`."""
        return look_at(self.lakehouse, self.contract)

    def settle(self, folder: Path) -> Look:
        """Finish what a killed process has left, merge new labels, and return the tables as they are then.

        Args:
            folder: Where to stage rows.

        Raises:
            ContractError: See `look`; or the contract does not tell about the labels that the raw table has.
            StorageError: The labels that the raw table has are gone.
            StaleBaseError: Someone else is writing.
        """
        look = self.look()
        if look.pending:
            look = self._record(look, look.pending, folder / "pending.parquet")
        if look.replayed:
            look = self._forget_replayed(look)
        return merge_labels(self.lakehouse, self.contract, self._widen(look, folder), self._note([]))

    def commit(self, look: Look, load: StagedLoad, folder: Path) -> Outcome:
        """Bring a staged load in.

        Args:
            look: The tables as they were when the load was staged.
            load: What was staged.
            folder: Where.

        Raises:
            StaleBaseError: Someone else has written since; look again, and what is not in by then has to come again.
        """
        # What is done beside setting rows aside decides nothing yet, and takes as long, on another core.
        with ThreadPoolExecutor(max_workers=1) as beside:
            setting_aside = beside.submit(self._quarantine, look, load, folder / BAD)
            counts = {record.batch_id: record.accepted for record in load.records if record.accepted}
            fates = None
            if load.staged_rows:
                staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), look)
                fates = self._fates(look, staged, counts, key_range=load.key_range)
            look = setting_aside.result()
        quarantined = look.quarantined.rows_written if load.bad_rows and look.quarantined is not None else 0
        records = load.records if fates is None else [_without(record, fates.known) for record in load.records]
        known = sum(record.already_known for record in records)
        look, accepted, counted = self._accept(look, records, fates, folder)
        return Outcome(look, records, accepted, quarantined, known, counted)

    def replay(self, look: Look, folder: Path) -> Outcome:
        """Try the rows in quarantine again, under today's contract.

        Args:
            look: The settled tables.
            folder: Where to stage rows.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from mlops_assets.data.ingest.quarantine import try_again

        waiting = quarantined_rows(self.lakehouse, look)
        if not waiting.num_rows:
            return Outcome(look)
        batch, judged = try_again(waiting, self.contract)
        every = pa.array([True] * waiting.num_rows)
        good = every if batch.bad is None else pc.invert(batch.bad.combine_chunks())
        rows = batch.table.select(list(self.contract.column_names)).filter(good)
        if not rows.num_rows:
            return Outcome(look, quarantined=waiting.num_rows)
        carried = waiting.filter(good)
        for name in TECHNICAL_COLUMNS:
            rows = rows.append_column(name, carried.column(name))
        (folder / GOOD).mkdir()
        pq.write_table(rows, folder / GOOD / "00000.parquet", compression="lz4")
        replay = f"replay-{uuid.uuid4().hex}"
        look = self._mark(look, waiting, judged, good, replay, folder)
        counted = pc.value_counts(carried.column(BATCH_ID)).to_pylist()
        counts = {pair["values"]: int(pair["counts"]) for pair in counted}
        staged = with_labels(self.lakehouse, self.contract, self._staged(folder / GOOD), look)
        fates = self._fates(look, staged, counts, key_range=self._key_range(rows), again=True)
        known = sum(fates.known.values())
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
        look, accepted, counted = self._accept(look, [record], fates, folder)
        look = self._forget_replayed(look)
        return Outcome(look, [record], accepted, count_quarantined(self.lakehouse, look), known, counted)

    def totals(self, done: Outcome) -> Totals:
        """Return how many rows the tables have afterwards; they are counted if they were not on the way."""
        return done.counted or count_rows(self.lakehouse, self.contract, done.look)

    def classes(self, look: Look) -> dict[int, int]:
        """Return the raw table's rows per target value, without those that have none yet."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        if look.raw is None:
            return {}
        rows = self.lakehouse.read(RAW, look.raw.version).where(F.col(self.contract.target).isNotNull())
        counted = rows.groupBy(self.contract.target).count().collect()
        return {int(row[self.contract.target]): int(row["count"]) for row in counted}

    @property
    def _contract_name(self) -> str:
        return f"{self.contract.name} v{self.contract.version}"

    def _widen(self, look: Look, folder: Path) -> Look:
        """Add the columns that a raised version of the contract brings, in a commit without rows."""
        if look.raw is None:
            return look
        there = self.lakehouse.read(RAW, look.raw.version).columns
        missing = [name for name in self.contract.column_names if name not in there]
        if not missing:
            return look
        if look.rules is None:
            raise ContractError(
                f"the table has no columns {', '.join(missing)}, and nothing says under which contract it was written",
                where=self.lakehouse.location(RAW),
                fix="set MLOPS_DATABASE to a new database and load again",
            )
        (folder / "widen").mkdir()
        pq.write_table(_no_rows(self.contract), folder / "widen" / "none.parquet")
        records = self._new_rules(look)
        rows = self._staged(folder / "widen")
        note = self._note(records)
        written = self.lakehouse.append(RAW, rows, base=look.raw, note=note, new_columns=True)
        return self._record(replace(look, raw=written), records, folder / "widen.parquet")

    def _note(self, records: Sequence[BatchRecord]) -> dict[str, Any]:
        return {
            "batches": len([record for record in records if record.kind == "load"]),
            "contract": self.contract.fingerprint,
            "contract_version": self.contract.version,
            "dagster_run": self.dagster_run,
            RECORDS: [asdict(record) for record in records],
        }

    def _staged(self, folder: Path, columns: Mapping[str, str] | None = None) -> DataFrame:
        """Return staged rows as the table's columns, each with its description as the column's comment."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        described = {column.name: column.description for column in self.contract.columns} | TECHNICAL_COLUMNS
        comments = columns or described
        staged = self.lakehouse.spark.session.read.parquet(spark_path(folder))
        return staged.select([F.col(name).alias(name, metadata={"comment": text}) for name, text in comments.items()])

    def _quarantine(self, look: Look, load: StagedLoad, folder: Path) -> Look:
        """Add the bad rows, in the place of what a killed load of the same batches has left."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        coming = [record.batch_id for record in load.records]
        orphans = [batch for batch in look.orphans if batch not in coming]
        again = len(orphans) < len(look.orphans)
        if look.quarantined is not None and not (load.bad_rows or again):
            return look
        if not load.bad_rows:
            pq.write_table(QUARANTINE_SCHEMA.empty_table(), folder / "none.parquet")
        rows = self._staged(folder, QUARANTINE_COLUMNS)
        brought = [record.batch_id for record in load.records if record.quarantined]
        note = {
            UNSETTLED: [*orphans, *brought],
            REPLAYS: [*look.replayed, *look.open_replays],
            "dagster_run": self.dagster_run,
        }
        base = look.quarantined
        if again and base is not None:
            others = self.lakehouse.read(QUARANTINED, base.version).where(~F.col(BATCH_ID).isin(coming))
            self.lakehouse.replace(QUARANTINED, others, base=base, note={**note, UNSETTLED: orphans})
            base = self.lakehouse.require(QUARANTINED, made_by=RAW)
            if not load.bad_rows:
                return replace(look, quarantined=base)
        return replace(look, quarantined=self.lakehouse.append(QUARANTINED, rows, base=base, note=note))

    def _fates(
        self,
        look: Look,
        rows: DataFrame,
        counts: Mapping[str, int],
        *,
        key_range: tuple[Any, Any] | None,
        again: bool = False,
    ) -> _Fates:
        """Take the rows out that are known by their key, or, of a replay without a key, by their place.

        Args:
            look: The tables.
            rows: Staged rows, of each batch those that no other row of the batch replaces; of a replay any.
            counts: How many there are of each batch.
            key_range: Smallest and largest key of them.
            again: Whether it is a replay.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.contract.conform import ROW_NUMBER
        from mlops_assets.data.ingest.merge_frames import FATE, KNOWN, REPLACES, last_of_each_key, meet

        key, fates = self.contract.key, _Fates(rows)
        table = None if look.raw is None else self.lakehouse.read(RAW, look.raw.version)
        if key is None:
            if again and table is not None:  # no lock kept another replay from taking the same rows
                place = [BATCH_ID, ROW_NUMBER]
                fates.rows = rows.join(table.select(*place), place, "left_anti").select(*rows.columns)
                fates.known = _lost(counts, fates.rows)
            return fates
        if len(counts) > 1 or again:
            fates.rows = last_of_each_key(rows, key, self.contract)
            fates.known = _lost(counts, fates.rows)
        if table is None:
            return fates
        if key_range is not None and table.where(F.col(key).between(*map(F.lit, key_range))).select(key).isEmpty():
            return fates  # new keys follow the old ones, as they mostly do: the log alone tells it
        met = meet(fates.rows, table, key, self.contract, key_range)
        for row in met.groupBy(BATCH_ID, FATE).count().collect():
            if row[FATE] == KNOWN:
                fates.known[row[BATCH_ID]] = fates.known.get(row[BATCH_ID], 0) + int(row["count"])
            fates.replaces = fates.replaces or row[FATE] == REPLACES
        if fates.known:
            known = met.where(F.col(FATE) == KNOWN).select(key)
            fates.rows = fates.rows.join(known, key, "left_anti").select(*rows.columns)
        return fates

    def _accept(
        self, look: Look, records: Sequence[BatchRecord], fates: _Fates | None, folder: Path
    ) -> tuple[Look, int, Totals | None]:
        """Commit the rows that are left, with the records; return the rows that Delta says it wrote, and all there are.

        What is counted is not changed by the records' own commit, and counting takes as long as that, on another core.
        """
        records = [*self._new_rules(look), *records]
        if fates is None or not sum(record.accepted for record in records):
            return (self._record(look, records, folder / "records.parquet") if records else look), 0, None
        note = self._note(records)
        if look.labels is not None:
            note[LABELS_VERSION] = look.labels.rows_version
        if fates.replaces and look.raw is not None and self.contract.key is not None:
            written = self.lakehouse.merge(RAW, fates.rows, key=self.contract.key, base=look.raw, note=note)
        else:
            chosen_by = [self.contract.key, self.contract.event_time, self.contract.entity]  # by merges and splits
            skip_by = [name for name in chosen_by if name is not None]
            written = self.lakehouse.append(RAW, fates.rows, base=look.raw, note=note, skip_by=skip_by)
        recorded = look.recorded | {record.batch_id for record in records}
        look = replace(look, raw=written, recorded=recorded)
        with ThreadPoolExecutor(max_workers=1) as beside:
            counting = beside.submit(count_rows, self.lakehouse, self.contract, look)
            look = self._record(look, records, folder / "records.parquet")
        return look, written.rows_written, counting.result()

    def _new_rules(self, look: Look) -> list[BatchRecord]:
        rules = table_rules(self.contract)
        if rules == look.rules:
            return []
        name = f"{self._contract_name} ({self.contract.fingerprint})"
        now = datetime.now(UTC).isoformat()
        return [BatchRecord(name, "contract", self.contract.name, 0, 0, 0, 0, self._contract_name, now, rules)]

    def _record(self, look: Look, records: Sequence[BatchRecord], staged: Path) -> Look:
        """Append records to the manifest, which then accounts for the raw table as it is."""
        pq.write_table(as_table(records), staged)
        rows = self.lakehouse.spark.session.read.parquet(spark_path(staged))
        note = {"raw_version": -1 if look.raw is None else look.raw.version}
        manifest = self.lakehouse.append(MANIFEST, rows, base=look.manifest, note=note)
        recorded = look.recorded | {record.batch_id for record in records}
        rules = next((record.rules for record in reversed(records) if record.rules), look.rules)
        return replace(look, manifest=manifest, recorded=recorded, pending=(), rules=rules)

    def _mark(self, look: Look, waiting: pa.Table, judged: pa.Table, good: pa.Array, replay: str, folder: Path) -> Look:
        """Write the quarantine anew: rows to be replayed with their mark, the others with today's reasons."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        marks = pc.if_else(good, pa.scalar(replay), pa.scalar(None, pa.string()))
        # A marked row keeps its reasons: if the replay is killed, it is still in quarantine, and for these.
        marked = _with(waiting.filter(good), REPLAY, marks.filter(good))
        stays = _with(judged.filter(pc.invert(good)), REPLAY, marks.filter(pc.invert(good)))
        stays = _with(stays, CONTRACT, pa.repeat(pa.scalar(self._contract_name), stays.num_rows))
        (folder / BAD).mkdir()
        pq.write_table(
            pa.concat_tables([part.cast(QUARANTINE_SCHEMA) for part in (marked, stays)]), folder / BAD / "00000.parquet"
        )
        rows = self._staged(folder / BAD, QUARANTINE_COLUMNS)
        if look.orphans and look.quarantined is not None:
            everything = self.lakehouse.read(QUARANTINED, look.quarantined.version)
            rows = rows.unionByName(everything.where(F.col(BATCH_ID).isin(look.orphans)))
        note = {UNSETTLED: look.orphans, REPLAYS: [replay], "dagster_run": self.dagster_run}
        return replace(look, quarantined=self.lakehouse.replace(QUARANTINED, rows, base=look.quarantined, note=note))

    def _forget_replayed(self, look: Look) -> Look:
        """Delete the rows of replays that are in."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        if look.quarantined is None:
            return look
        rows = self.lakehouse.read(QUARANTINED, look.quarantined.version)
        rows = rows.where(F.col(REPLAY).isNull() | ~F.col(REPLAY).isin(look.replayed))
        note = {UNSETTLED: look.orphans, REPLAYS: look.open_replays, "dagster_run": self.dagster_run}
        return replace(look, quarantined=self.lakehouse.replace(QUARANTINED, rows, base=look.quarantined, note=note))

    def _key_range(self, rows: pa.Table) -> tuple[Any, Any] | None:
        if self.contract.key is None:
            return None
        found = pc.min_max(rows.column(self.contract.key)).as_py()
        return found["min"], found["max"]


def _without(record: BatchRecord, known: Mapping[str, int]) -> BatchRecord:
    """Return the record once it is known how many of its rows the table knows by their key."""
    less = known.get(record.batch_id, 0)
    return replace(record, accepted=record.accepted - less, already_known=record.already_known + less)


def _lost(counts: Mapping[str, int], after: DataFrame) -> dict[str, int]:
    """Return per batch how many of its rows are not there any more."""
    left = {row[BATCH_ID]: int(row["count"]) for row in after.groupBy(BATCH_ID).count().collect()}
    return {batch: count - left.get(batch, 0) for batch, count in counts.items() if count > left.get(batch, 0)}


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _no_rows(contract: Contract) -> pa.Table:
    """Return the raw table's columns without a row."""
    technical = {name: QUARANTINE_SCHEMA.field(name).type for name in TECHNICAL_COLUMNS}
    kinds = {column.name: ARROW_TYPES[column.type] for column in contract.columns} | technical
    return pa.schema(list(kinds.items())).empty_table()
