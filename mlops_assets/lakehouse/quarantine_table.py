"""Commits to the quarantine: setting rows aside, marking them for a replay, deleting them once they were accepted.

What belongs here: what each commit writes, and its metadata. What does not: the order of the commits and why
(`transactions`), which rows are bad (`data/ingest/quarantine`), which of them count (`transaction_tables`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, CONTRACT, QUARANTINE_COLUMNS, QUARANTINE_SCHEMA, REPLAY
from mlops_assets.data.ingest.staged_rows import BAD
from mlops_assets.data.ingest.staging import StagedLoad
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import QUARANTINED, RAW, Snapshot, staged_rows
from mlops_assets.lineage import DAGSTER_RUN, REPLAYS, UNSETTLED

if TYPE_CHECKING:
    from mlops_assets.lakehouse.commits import TableVersion


@dataclass(frozen=True)
class QuarantineTable:
    """The quarantine of one database.

    Attributes:
        lakehouse: The database.
        dagster_run: Run id for the commit metadata.
    """

    lakehouse: Lakehouse
    dagster_run: str = ""

    def set_aside(self, snapshot: Snapshot, load: StagedLoad, folder: Path) -> Snapshot:
        """Add the bad rows of a load, replacing what a killed load of the same batches left behind.

        Args:
            snapshot: The tables as they were when the load was staged.
            load: The staged load.
            folder: Folder of its bad rows.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        coming = [record.batch_id for record in load.records]
        orphans = [batch for batch in snapshot.orphans if batch not in coming]
        again = len(orphans) < len(snapshot.orphans)
        if snapshot.quarantined is not None and not (load.bad_rows or again):
            return snapshot
        if not load.bad_rows:
            pq.write_table(QUARANTINE_SCHEMA.empty_table(), folder / "none.parquet")
        rows = staged_rows(self.lakehouse, folder, QUARANTINE_COLUMNS)
        with_bad_rows = [record.batch_id for record in load.records if record.quarantined]
        metadata = {
            UNSETTLED: [*orphans, *with_bad_rows],
            REPLAYS: [*snapshot.replayed, *snapshot.open_replays],
            DAGSTER_RUN: self.dagster_run,
        }
        base = snapshot.quarantined
        if again and base is not None:
            others = self.lakehouse.read(QUARANTINED, base.version).where(~F.col(BATCH_ID).isin(coming))
            self.lakehouse.replace(QUARANTINED, others, base=base, metadata={**metadata, UNSETTLED: orphans})
            base = self.lakehouse.require(QUARANTINED, made_by=RAW)
            if not load.bad_rows:
                return replace(snapshot, quarantined=base)
        return replace(snapshot, quarantined=self.lakehouse.append(QUARANTINED, rows, base=base, metadata=metadata))

    def mark(
        self,
        snapshot: Snapshot,
        waiting: pa.Table,
        judged: pa.Table,
        good: pa.Array,
        replay: str,
        contract: str,
        folder: Path,
    ) -> Snapshot:
        """Rewrite the quarantine: rows to replay get their mark, the others the current contract's reasons.

        Args:
            snapshot: The tables, after `recover`.
            waiting: The rows in quarantine (`QUARANTINE_COLUMNS`).
            judged: The same rows with the reasons under the current contract.
            good: Which of them to replay, one bool per row.
            replay: Id of the replay.
            contract: Name and version of the current contract.
            folder: Empty folder to stage rows in.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        marks = pc.if_else(good, pa.scalar(replay), pa.scalar(None, pa.string()))
        # A marked row keeps its reasons: if the replay is killed, the row is still in quarantine and needs them.
        marked = _with(waiting.filter(good), REPLAY, marks.filter(good))
        stays = _with(judged.filter(pc.invert(good)), REPLAY, marks.filter(pc.invert(good)))
        stays = _with(stays, CONTRACT, pa.repeat(pa.scalar(contract), stays.num_rows))
        (folder / BAD).mkdir()
        pq.write_table(
            pa.concat_tables([part.cast(QUARANTINE_SCHEMA) for part in (marked, stays)]), folder / BAD / "00000.parquet"
        )
        rows = staged_rows(self.lakehouse, folder / BAD, QUARANTINE_COLUMNS)
        if snapshot.orphans and snapshot.quarantined is not None:
            everything = self.lakehouse.read(QUARANTINED, snapshot.quarantined.version)
            rows = rows.unionByName(everything.where(F.col(BATCH_ID).isin(snapshot.orphans)))
        metadata = {UNSETTLED: snapshot.orphans, REPLAYS: [replay], DAGSTER_RUN: self.dagster_run}
        return replace(
            snapshot,
            quarantined=self.lakehouse.replace(QUARANTINED, rows, base=snapshot.quarantined, metadata=metadata),
        )

    def forget_replayed(self, snapshot: Snapshot) -> Snapshot:
        """Delete the rows of recorded replays: the raw table has them now.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        base: TableVersion | None = snapshot.quarantined
        if base is None:
            return snapshot
        rows = self.lakehouse.read(QUARANTINED, base.version)
        rows = rows.where(F.col(REPLAY).isNull() | ~F.col(REPLAY).isin(snapshot.replayed))
        metadata = {UNSETTLED: snapshot.orphans, REPLAYS: snapshot.open_replays, DAGSTER_RUN: self.dagster_run}
        return replace(snapshot, quarantined=self.lakehouse.replace(QUARANTINED, rows, base=base, metadata=metadata))


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
