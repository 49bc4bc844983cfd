"""Commits to the quarantine: setting rows aside, marking them for a replay, deleting them once they were accepted.

What belongs here: what each commit writes, and its metadata. What does not: the order of the commits and why
(`transactions`), which rows are bad (`data/ingest/quarantine`), which of them count (`transaction_tables`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, QUARANTINE_COLUMNS, QUARANTINE_SCHEMA, REPLAY
from mlops_assets.data.ingest.retried_rows import RetriedRows, retry
from mlops_assets.data.ingest.staged_files import BAD, StagedFiles, make_folders
from mlops_assets.data.ingest.staging import StagedLoad
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import (
    QUARANTINED,
    RAW,
    Snapshot,
    count_quarantined,
    in_quarantine,
    quarantined_rows,
    staged_rows,
)
from mlops_assets.lineage import DAGSTER_RUN, REPLAYS, UNSETTLED

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.commits import TableVersion

# Of a wide table so many take about 200 MB as Arrow columns, and starting Python on executors pays beyond.
FEW_ROWS = 100_000


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

    def tried_again(self, snapshot: Snapshot, contract: Contract, replay: str, folder: Path) -> RetriedRows:
        """Try the rows in quarantine again: few in this process, many on the executors; see `retried_rows.retry`.

        Args:
            snapshot: The tables, after `recover`.
            contract: The current contract.
            replay: Id of the replay.
            folder: Empty folder to stage the rows in.

        Raises:
            StorageError: The executors do not write where the driver looks, or not all rows were tried.
        """
        make_folders(folder)
        waiting = count_quarantined(self.lakehouse, snapshot)
        if waiting <= FEW_ROWS:
            tried = retry(
                quarantined_rows(self.lakehouse, snapshot, waiting), contract, replay, StagedFiles(folder, "0")
            )
        else:
            from mlops_assets.data.ingest.staging_frames import retry_over_cluster

            written = folder / "waiting"
            rows = in_quarantine(self.lakehouse, snapshot)
            rows.write.option("maxRecordsPerFile", FEW_ROWS).parquet(spark_path(written))
            files = sorted(written.glob("*.parquet"))
            tried = retry_over_cluster(self.lakehouse.session, files, contract, replay, folder)
        if tried.rows != waiting:  # `mark` puts what was tried in place of all
            raise StorageError(
                f"{waiting:,} rows are in quarantine, and {tried.rows:,} were tried again",
                where=self.lakehouse.location(QUARANTINED),
                fix="run again; if it stays so, `mlops verify` says whether files are damaged",
            )
        return tried

    def mark(self, snapshot: Snapshot, replay: str, folder: Path) -> Snapshot:
        """Rewrite the quarantine: rows to replay get their mark, the others the current contract's reasons.

        Args:
            snapshot: The tables, after `recover`.
            replay: Id of the replay.
            folder: Where the rows were staged by `tried_again`.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

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
