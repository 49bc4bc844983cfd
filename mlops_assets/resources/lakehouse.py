"""Delta tables: names, pinned reads, and writes that happen once or not at all.

What belongs here: everything that knows how Delta commits. What does not: what the rows mean (`data/`), Dagster events.

Data crosses a stage as a `TableVersion` (name and Delta version), never as rows: the next stage may run elsewhere.
What a commit was made from is written into its `userMetadata`, so that a later stage, or a cluster without Dagster's
history, learns it from the table itself.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.errors import StorageError
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tables import CatalogTables, PathTables, Tables

if TYPE_CHECKING:
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession

# One Delta application id for every writer of a table: two writers that both build on version N collide on N + 1
# (Delta protocol, "Transaction Identifiers"), so none appends what the other already has.
_WRITER = "mlops_assets"
LOCK_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class TableVersion:
    """A pinned table.

    Attributes:
        name: Name in the database.
        version: Delta version.
        metadata: What the commit's writer noted (`userMetadata`), empty if it noted nothing.
        metrics: What Delta counted in the commit (`operationMetrics`).
    """

    name: str
    version: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows_written(self) -> int:
        """Rows that an append wrote, or that a merge inserted or updated, by Delta's own count."""
        if "numTargetRowsInserted" in self.metrics:
            return self.metrics["numTargetRowsInserted"] + self.metrics["numTargetRowsUpdated"]
        return self.metrics.get("numOutputRows", 0)


class Lakehouse(dg.ConfigurableResource[Any]):
    """The database that holds the platform's Delta tables.

    Attributes:
        spark: The Spark session.
        database: Its name.
        root: Its folder: the tables' own, and the one that rows on their way in are staged in.
        catalog: Catalog that knows the tables as `catalog.database.table`; empty for tables in folders below `root`.
        locks: Folder of the lock files; empty where the store itself keeps two writers apart.
    """

    spark: dg.ResourceDependency[SparkResource]
    database: str
    root: str
    catalog: str = ""
    locks: str = ""

    def location(self, name: str) -> str:
        """Return what the table is called: its folder, or its three-level name."""
        return self._tables.address(name)

    def current(self, name: str) -> TableVersion | None:
        """Return the newest version, or None when the table was never written."""
        last = self._tables.newest(name)
        return None if last is None else TableVersion(name, last.version, last.note, last.metrics)

    def notes_since(self, name: str, version: int) -> list[Mapping[str, Any]]:
        """Return what the writers of the commits after a version noted, oldest first.

        The log keeps it for 30 days (`delta.logRetentionDuration`).
        """
        return [commit.note for commit in self._tables.since(name, version)]

    def require(self, name: str, *, made_by: str) -> TableVersion:
        """Return the newest version of a table that must be there.

        Raises:
            StorageError: The table was never written.
        """
        found = self.current(name)
        if found is None:
            raise StorageError("no such table yet", where=self.location(name), mend=f"materialize `{made_by}` first")
        return found

    def read(self, name: str, version: int) -> "DataFrame":
        """Return the table as it was at `version`.

        Raises:
            StorageError: That version is not there (any more).
        """
        from pyspark.errors import AnalysisException

        reader = self._session.read.format("delta").option("versionAsOf", version)
        try:
            return self._tables.load(reader, name)
        except AnalysisException as error:
            raise StorageError(
                f"version {version} can't be read: {error.getCondition()}",
                where=self.location(name),
                mend="materialize the table again; vacuum must keep the versions that models are pinned to",
            ) from None

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Lend an empty folder for rows on their way into a table.

        Use it inside `exclusive`: whatever lies there then was left by a process that was killed, and is removed.
        """
        folder = Path(self.root) / "_staging" / name
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        except OSError as error:
            raise self._unwritable(folder, error) from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold the table's lock, so that two runs write one after the other.

        Delta's log on a local disk is not safe for two processes (`LocalLogStore` in the Delta documentation,
        "Storage configuration"); the lock goes with its process, however that ends. A cloud store needs none: there a
        commit that comes second fails, and `StaleBaseError` says so.

        Raises:
            StorageError: The lock can't be had in time, or its folder can't be written.
        """
        from filelock import FileLock, Timeout

        if not self.locks:
            yield
            return
        path = Path(self.locks) / f"{Path(self.root).name}.{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=LOCK_TIMEOUT_SECONDS)
            lock.acquire()
        except Timeout:
            raise StorageError(
                f"another run has held the table for {LOCK_TIMEOUT_SECONDS:.0f} s",
                where=self.location(name),
                mend="wait for it or cancel it in the Dagster UI",
            ) from None
        except OSError as error:
            raise self._unwritable(path.parent, error) from None
        try:
            yield
        finally:
            lock.release()

    def append(
        self,
        name: str,
        rows: "DataFrame",
        *,
        base: TableVersion | None,
        note: Mapping[str, Any],
        new_columns: bool = False,
    ) -> TableVersion:
        """Append rows that were chosen by looking at `base`; nothing is written if the table has moved on since.

        Args:
            name: The table.
            rows: What to append.
            base: The version that was looked at, None for no table.
            note: What the commit was made from.
            new_columns: Whether the table takes columns that it does not have; without it they are an error.

        Raises:
            StaleBaseError: Someone else has committed since `base`; look again and repeat.
        """
        more = {"mergeSchema": "true"} if new_columns else {}
        return self._commit(name, rows, mode="append", base=base, note=note, options=more)

    def merge(
        self,
        name: str,
        rows: "DataFrame",
        *,
        key: str,
        base: TableVersion,
        note: Mapping[str, Any],
    ) -> TableVersion:
        """Replace the rows with the same key and append the others, in one commit; see `append`.

        Delta takes transaction number and note of a MERGE from the session, not from the statement; the session is
        given back as it was.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
        """
        from pyspark.errors import PySparkException

        wanted, noted = self._transaction(base, note)
        session = rows.sparkSession
        view = f"_merge_into_{name}"
        rows.createOrReplaceTempView(view)
        confs = {
            "spark.databricks.delta.write.txnAppId": _WRITER,
            "spark.databricks.delta.write.txnVersion": str(wanted),
            "spark.databricks.delta.commitInfo.userMetadata": noted,
        }
        try:
            for conf, value in confs.items():
                session.conf.set(conf, value)
            session.sql(
                f"MERGE INTO {self._tables.sql_name(name)} AS old USING {view} AS new "
                f"ON old.`{key}` = new.`{key}` WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            )
        except PySparkException as error:
            _raise_if_stale(error, name)
            raise
        finally:
            for conf in confs:
                session.conf.unset(conf)
            session.catalog.dropTempView(view)
        return self._committed(name, noted)

    def replace(
        self, name: str, rows: "DataFrame", *, base: TableVersion | None, note: Mapping[str, Any]
    ) -> TableVersion:
        """Replace the table's rows (older versions stay readable); see `append` for `base`.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
        """
        return self._commit(name, rows, mode="overwrite", base=base, note=note, options={"overwriteSchema": "true"})

    def _commit(
        self,
        name: str,
        rows: "DataFrame",
        *,
        mode: str,
        base: TableVersion | None,
        note: Mapping[str, Any],
        options: Mapping[str, str],
    ) -> TableVersion:
        from pyspark.errors import PySparkException

        wanted, noted = self._transaction(base, note)
        writer = rows.write.format("delta").mode(mode).option("userMetadata", noted).options(**options)
        writer = writer.option("txnAppId", _WRITER).option("txnVersion", wanted)
        try:
            self._tables.save(writer, name)
        except PySparkException as error:
            _raise_if_stale(error, name)
            raise
        return self._committed(name, noted)

    @staticmethod
    def _transaction(base: TableVersion | None, note: Mapping[str, Any]) -> tuple[int, str]:
        """Return transaction number and note of the commit that follows `base`."""
        wanted = 0 if base is None else base.version + 1
        return wanted, json.dumps({**note, "follows": wanted - 1}, sort_keys=True)

    def _committed(self, name: str, noted: str) -> TableVersion:
        committed = self.require(name, made_by=name)
        if committed.metadata != json.loads(noted):  # Delta skips a transaction number that is taken, silently
            raise StaleBaseError(name)
        return committed

    @property
    def _tables(self) -> Tables:
        if self.catalog:
            return CatalogTables(self.catalog, self.database, lambda: self._session)
        return PathTables(self.root)

    @property
    def _session(self) -> "SparkSession":
        return self.spark.session

    @staticmethod
    def _unwritable(folder: Path, error: OSError) -> StorageError:
        return StorageError(
            f"folder can't be written: {error.strerror}", where=str(folder), mend="set MLOPS_HOME to a writable folder"
        )


def _raise_if_stale(error: "PySparkException", name: str) -> None:
    if "DELTA_CONCURRENT" in str(error.getCondition() or error):
        raise StaleBaseError(name) from None


class StaleBaseError(Exception):
    """The table changed between looking and writing; nothing was written."""
