"""The database of Delta tables: where they are, what is in them, who may write.

What belongs here: reading a table at a version, and its lock. What does not: how a commit is made (`commits`), what
the rows mean (`data/`), Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import error_condition
from mlops_assets.lakehouse.commits import Commits, TableVersion
from mlops_assets.lakehouse.locks import hold, lend_folder
from mlops_assets.lakehouse.tables import CatalogTables, PathTables, Tables

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Lakehouse(Commits):
    """The database that holds the platform's Delta tables.

    Attributes:
        spark: Returns the Spark session; called when a table is first looked at, not before.
        database: Its name.
        root: Its folder: the tables' own, and the one that rows on their way in are staged in.
        catalog: Catalog that knows the tables as `catalog.database.table`; empty for tables in folders below `root`.
        locks: Folder of the lock files; empty where the store itself keeps two writers apart.
        catalog_here: Whether this process's Spark knows `catalog`.
    """

    spark: Callable[[], SparkSession]
    database: str
    root: str
    catalog: str = ""
    locks: str = ""
    catalog_here: bool = True

    @property
    def session(self) -> SparkSession:
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

    def read(self, name: str, version: int) -> DataFrame:
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

    def fetch(self, table: TableVersion, columns: Sequence[str]) -> pa.Table:
        """Return columns of a small table of the platform's own, as it was at that version."""
        return self._tables.fetch(table.name, table.version, columns)

    def commits(self, name: str) -> dict[int, float]:
        """Return when each version of a table was committed, in seconds since 1970; only versions that have a log."""
        history = self.sql("DESCRIBE HISTORY {table}", name).selectExpr("version", "unix_millis(timestamp) AS at")
        return {int(row["version"]): row["at"] / 1000 for row in history.collect()}

    def sql(self, statement: str, name: str) -> DataFrame:
        """Run a statement in which `{table}` stands for a table.

        Raises:
            StorageError: The catalog refuses.
        """
        return self._tables.sql(self.session, statement, name)

    def staging(self, name: str) -> AbstractContextManager[Path]:
        """Lend an empty folder for rows on their way into a table; use it inside `exclusive`. See `lend_folder`.

        Raises:
            StorageError: The folder can't be written.
        """
        return lend_folder(Path(self.root) / "_staging" / name, alone=bool(self.locks))

    def exclusive(self, name: str, wait_seconds: float | None = None) -> AbstractContextManager[None]:
        """Hold the table's lock, so that two runs write one after the other.

        Delta's log on a local disk is not safe for two processes (`LocalLogStore` in the Delta documentation,
        "Storage configuration"). A cloud store needs no lock: there a commit that comes second fails, and
        `StaleBaseError` says so.

        Args:
            name: The table, or what stands for several.
            wait_seconds: How long to wait for another holder; `LOCK_TIMEOUT_SECONDS` when not given.

        Raises:
            StorageError: The lock can't be had in time, or its folder can't be written.
        """
        if not self.locks:
            return nullcontext()
        path = Path(self.locks) / f"{Path(self.root).name}.{name}.lock"
        return hold(path, wait_seconds, where=self.location(name))

    @property
    def _tables(self) -> Tables:
        if self.catalog:
            return CatalogTables(self.catalog, self.database, self.spark)
        return PathTables(self.root)
