"""Delta tables: names, pinned reads, and writes that happen once or not at all.

What belongs here: everything that knows how Delta commits. What does not: what the rows mean (`data/`), Dagster.

Data crosses a stage as a `TableVersion` (name and Delta version), never as rows: the next stage may run elsewhere.
What a commit was made from is written into its `userMetadata`, so that a later stage, or a cluster without Dagster's
history, learns it from the table itself.
"""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import error_condition, is_conflict, spark_errors
from mlops_assets.lakehouse.tables import COMMIT_METADATA, CatalogTables, PathTables, Tables

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

# One Delta application id for every writer of a table: two writers that both build on version N collide on N + 1
# (Delta protocol, "Transaction Identifiers"), so none appends what the other already has.
_WRITER = "mlops_assets"
LOCK_TIMEOUT_SECONDS = 900.0
_ABANDONED_SECONDS = 7 * 86_400.0  # longer than a run may take


@dataclass(frozen=True)
class TableVersion:
    """A pinned table.

    Attributes:
        name: Name in the database.
        version: Delta version.
        metadata: What the writer of its rows noted (`userMetadata`), empty if it noted nothing.
        metrics: What Delta counted in that writer's commit (`operationMetrics`).
        rows_since: The version that its rows came with, if that is not `version`.
    """

    name: str
    version: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)
    rows_since: int | None = None

    @property
    def rows_version(self) -> int:
        """The version that its rows came with: upkeep makes newer ones of the same rows."""
        return self.version if self.rows_since is None else self.rows_since

    @property
    def named_by_rows(self) -> "TableVersion":
        """The same rows under the version that they came with: what is compared, noted and pinned."""
        return replace(self, version=self.rows_version)

    @property
    def rows_written(self) -> int:
        """Rows that an append wrote, or that a merge inserted or updated, by Delta's own count."""
        if "numTargetRowsInserted" in self.metrics:
            return self.metrics["numTargetRowsInserted"] + self.metrics["numTargetRowsUpdated"]
        return self.metrics.get("numOutputRows", 0)


@dataclass(frozen=True)
class Lakehouse:
    """The database that holds the platform's Delta tables.

    Attributes:
        spark: Returns the Spark session; called when a table is first looked at, not before.
        database: Its name.
        root: Its folder: the tables' own, and the one that rows on their way in are staged in.
        catalog: Catalog that knows the tables as `catalog.database.table`; empty for tables in folders below `root`.
        locks: Folder of the lock files; empty where the store itself keeps two writers apart.
        catalog_here: Whether this process's Spark knows `catalog`.
    """

    spark: "Callable[[], SparkSession]"
    database: str
    root: str
    catalog: str = ""
    locks: str = ""
    catalog_here: bool = True

    @property
    def session(self) -> "SparkSession":
        """The Spark session; the first call may start it."""
        return self.spark()

    def location(self, name: str) -> str:
        """Return what the table is called: its folder, or its three-level name."""
        return self._tables.address(name)

    def current(self, name: str) -> TableVersion | None:
        """Return the newest version, or None when the table was never written."""
        last = self._tables.newest(name)
        return (
            None if last is None else TableVersion(name, last.version, last.metadata, last.metrics, last.rows_version)
        )

    def commit_metadata_since(self, name: str, version: int) -> list[Mapping[str, Any]]:
        """Return what the writers of rows after a version noted, oldest first.

        A table keeps it for ten years (`tables.RETENTION`); one in a folder that was made before, and that upkeep has
        not seen yet, for 30 days.
        """
        return [commit.metadata for commit in self._tables.since(name, version)]

    def require(self, name: str, *, made_by: str) -> TableVersion:
        """Return the newest version of a table that must be there.

        Raises:
            StorageError: The table was never written.
        """
        found = self.current(name)
        if found is None:
            raise StorageError("no such table yet", where=self.location(name), fix=f"materialize `{made_by}` first")
        return found

    def require_columns(self, table: TableVersion, columns: Iterable[str]) -> None:
        """Check that a table is the platform's: one of the same name that someone else has made lacks our columns.

        Raises:
            StorageError: Columns are missing.
        """
        missing = sorted(set(columns) - set(self.read(table.name, table.version).columns))
        if missing:
            raise StorageError(
                f"a table of this name is there, and is not the platform's: it lacks {', '.join(missing)}",
                where=self.location(table.name),
                fix="rename or drop it, or keep the platform's tables elsewhere (on Databricks: "
                "MLOPS_DATABRICKS_SCHEMA, with tables in folders: MLOPS_DATABASE)",
            )

    def read(self, name: str, version: int) -> "DataFrame":
        """Return the table as it was at `version`.

        Raises:
            StorageError: That version is not there (any more).
        """
        from pyspark.errors import AnalysisException

        reader = self.session.read.format("delta").option("versionAsOf", version)
        try:
            return self._tables.load(reader, name)
        except AnalysisException as error:
            raise StorageError(
                f"version {version} can't be read: {error_condition(error)}",
                where=self.location(name),
                fix="run `upkeep` once if the table does not keep its past yet; from a version that is gone nothing "
                "can be made any more",
            ) from None

    def fetch(self, table: TableVersion, columns: Sequence[str]) -> "pa.Table":
        """Return columns of a small table of the platform's own, as it was at that version."""
        return self._tables.fetch(table.name, table.version, columns)

    def commits(self, name: str) -> dict[int, float]:
        """Return when each version of a table was committed, in seconds since 1970; only versions that have a log."""
        history = self.sql("DESCRIBE HISTORY {table}", name).selectExpr("version", "unix_millis(timestamp) AS at")
        return {int(row["version"]): row["at"] / 1000 for row in history.collect()}

    def sql(self, statement: str, name: str) -> "DataFrame":
        """Run a statement in which `{table}` stands for a table.

        Raises:
            StorageError: The catalog refuses.
        """
        return self._tables.sql(self.session, statement, name)

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Lend an empty folder for rows on their way into a table.

        Use it inside `exclusive`. Whatever lies there then was left by a process that was killed, and is removed. Where
        there are no locks, each has a folder of its own, and what is left behind is removed after a week.
        """
        shared = Path(self.root) / "_staging" / name
        folder = shared if self.locks else shared / uuid.uuid4().hex
        try:
            if self.locks:
                shutil.rmtree(shared, ignore_errors=True)
            else:
                _remove_abandoned(shared)
            folder.mkdir(parents=True)
        except OSError as error:
            raise self._unwritable(folder, error) from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def exclusive(self, name: str, wait_seconds: float | None = None) -> Iterator[None]:
        """Hold the table's lock, so that two runs write one after the other.

        Delta's log on a local disk is not safe for two processes (`LocalLogStore` in the Delta documentation,
        "Storage configuration"); the lock goes with its process, however that ends. A cloud store needs none: there a
        commit that comes second fails, and `StaleBaseError` says so.

        Args:
            name: The table, or what stands for several.
            wait_seconds: How long to wait for another holder; `LOCK_TIMEOUT_SECONDS` when not given.

        Raises:
            StorageError: The lock can't be had in time, or its folder can't be written.
        """
        from filelock import FileLock, Timeout

        if not self.locks:
            yield
            return
        patience = LOCK_TIMEOUT_SECONDS if wait_seconds is None else wait_seconds
        path = Path(self.locks) / f"{Path(self.root).name}.{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=patience)
            lock.acquire()
        except Timeout:
            raise StorageError(
                f"another run has held the table for {patience:.0f} s",
                where=self.location(name),
                fix="wait for it or cancel it in the Dagster UI",
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
        metadata: Mapping[str, Any],
        new_columns: bool = False,
        skip_by: Sequence[str] = (),
    ) -> TableVersion:
        """Append rows that were chosen by looking at `base`; nothing is written if the table has moved on since.

        Args:
            name: The table.
            rows: What to append.
            base: The version that was looked at, None for no table.
            metadata: What the commit was made from.
            new_columns: Whether the table takes columns that it does not have, the platform's own among them; without
                it they are an error.
            skip_by: When the append makes the table, the columns that readers choose rows by: Delta keeps the range of
                these alone for each file. By default it does so for the first 32, which takes a third of the time of
                writing a wide table.

        Raises:
            StaleBaseError: Someone else has committed since `base`; look again and repeat.
            StorageError: The table is not the platform's, or the catalog refuses.
        """
        more = {"mergeSchema": "true"} if new_columns else {}
        if skip_by and base is None:
            more["delta.dataSkippingStatsColumns"] = ",".join(skip_by)
        return self._write(name, rows, mode="append", base=base, metadata=metadata, options=more)

    def merge(
        self,
        name: str,
        rows: "DataFrame",
        *,
        key: str,
        base: TableVersion,
        metadata: Mapping[str, Any],
    ) -> TableVersion:
        """Replace the rows with the same key and append the others, in one commit; see `append`.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The table is not the platform's, or the catalog refuses.
        """
        then = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        return self._merge(
            name,
            rows,
            rows.columns,
            on=f"old.`{key}` = new.`{key}`",
            then=then,
            base=base,
            metadata=metadata,
        )

    def update(
        self,
        name: str,
        rows: "DataFrame",
        *,
        on: str,
        when: str,
        values: Mapping[str, str],
        base: TableVersion,
        metadata: Mapping[str, Any],
    ) -> TableVersion:
        """Change columns of rows that are there, in one commit; see `append`.

        Args:
            name: The table.
            rows: What they are changed by.
            on: SQL condition under which one of `rows` (`new`) is about a row that is there (`old`); of all that are
                about one row, `when` may hold for one alone.
            when: SQL condition under which it changes it.
            values: Column of `rows` by the column that takes its value.
            base: The version that was looked at.
            metadata: What the commit was made from.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The table is not the platform's, or the catalog refuses.
        """
        changes = ", ".join(f"old.`{column}` = new.`{value}`" for column, value in values.items())
        then = f"WHEN MATCHED AND {when} THEN UPDATE SET {changes}"
        return self._merge(name, rows, list(values), on=on, then=then, base=base, metadata=metadata)

    def _merge(
        self,
        name: str,
        rows: "DataFrame",
        columns: Sequence[str],
        *,
        on: str,
        then: str,
        base: TableVersion,
        metadata: Mapping[str, Any],
    ) -> TableVersion:
        """Merge in one commit that writes the given columns.

        Delta takes transaction number and note of a MERGE from the session, not from the statement; the session is
        given back as it was.
        """
        session = rows.sparkSession
        view = f"_merge_into_{name}"

        def statement(number: int, document: str) -> None:
            conf = {
                "spark.databricks.delta.write.txnAppId": _WRITER,
                "spark.databricks.delta.write.txnVersion": str(number),
                COMMIT_METADATA: document,
            }
            rows.createOrReplaceTempView(view)
            try:
                for setting, value in conf.items():
                    session.conf.set(setting, value)
                self._tables.merge(session, name, view, on, then)
            finally:
                for setting in conf:
                    session.conf.unset(setting)
                session.catalog.dropTempView(view)

        return self._commit(name, columns, statement, base=base, metadata=metadata)

    def replace(
        self, name: str, rows: "DataFrame", *, base: TableVersion | None, metadata: Mapping[str, Any]
    ) -> TableVersion:
        """Replace the table's rows (older versions stay readable); see `append` for `base`.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The table is not the platform's, or the catalog refuses.
        """
        return self._write(
            name,
            rows,
            mode="overwrite",
            base=base,
            metadata=metadata,
            options={"overwriteSchema": "true"},
        )

    def _write(
        self,
        name: str,
        rows: "DataFrame",
        *,
        mode: str,
        base: TableVersion | None,
        metadata: Mapping[str, Any],
        options: Mapping[str, str],
    ) -> TableVersion:
        def save(number: int, document: str) -> None:
            writer = rows.write.format("delta").mode(mode).options(**options)
            writer = writer.option("txnAppId", _WRITER).option("txnVersion", number)
            self._tables.save(writer, name, document, defines=base is None or mode == "overwrite")

        return self._commit(name, rows.columns, save, base=base, metadata=metadata)

    def _commit(
        self,
        name: str,
        columns: Sequence[str],
        write: Callable[[int, str], None],
        *,
        base: TableVersion | None,
        metadata: Mapping[str, Any],
    ) -> TableVersion:
        """Write under the transaction number that follows `base`, and check that it was written.

        Args:
            name: The table.
            columns: What is written.
            write: Writes with that number and that note.
            base: The version that was looked at.
            metadata: What the commit was made from.
        """
        if base is not None:
            # Names with an underscore are the platform's own (see `Column`). A table of ours may lack the
            # ones that it is about to get; one of someone else lacks all.
            ours = {column for column in columns if column.startswith("_")}
            if ours.isdisjoint(self.read(name, base.version).columns):
                self.require_columns(base, ours)
        wanted = 0 if base is None else base.version + 1
        document = json.dumps({**metadata, "follows": wanted - 1}, sort_keys=True)
        try:
            write(wanted, document)
        except spark_errors() as error:
            if is_conflict(error):
                raise StaleBaseError(name) from None
            raise
        committed = self.require(name, made_by=name)
        if committed.metadata != json.loads(document):  # Delta skips a transaction number that is taken, silently
            raise StaleBaseError(name)
        return committed

    @property
    def _tables(self) -> Tables:
        if self.catalog:
            return CatalogTables(self.catalog, self.database, self.spark)
        return PathTables(self.root)

    @staticmethod
    def _unwritable(folder: Path, error: OSError) -> StorageError:
        return StorageError(
            f"folder can't be written: {error.strerror}", where=str(folder), fix="set MLOPS_HOME to a writable folder"
        )


def _remove_abandoned(shared: Path) -> None:
    """Remove the staging folders whose owners can't be running any more."""
    for folder in shared.iterdir() if shared.is_dir() else ():
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:  # its owner has just removed it
            continue
        if age > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


class StaleBaseError(Exception):
    """The table changed between looking and writing; nothing was written."""
