"""The database of Delta tables: where they are, reading them, and their locks.

What belongs here: reading a table at a version, and its lock. What does not: how a commit is made (`commits`), what
the rows mean (`data/`), Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import FILES_GONE, error_condition, spark_errors
from mlops_assets.lakehouse.commits import Commits, TableVersion
from mlops_assets.lakehouse.history import FOLLOWS
from mlops_assets.lakehouse.locks import hold, staging_folder
from mlops_assets.lakehouse.tables import CatalogTables, PathTables, Tables, spark_path

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.lakehouse.warehouse import SqlWarehouse


_ID_LENGTH = 8


@dataclass(frozen=True)
class Lakehouse(Commits):
    """The database that holds the platform's Delta tables.

    Attributes:
        spark: Returns the Spark session; called when one is first needed, not before.
        database: Its name.
        root: Its folder, for tables stored by path and for the staging folder.
        catalog: Catalog with the tables `catalog.database.table`; empty for tables in folders below `root`.
        locks: Folder of the lock files; empty where the storage itself keeps two writers apart.
        catalog_here: Whether this process's Spark can reach `catalog`.
        explorer: With a catalog: address of the pages that show its tables.
        tags: With Unity Catalog: tags of a table that is created.
        warehouse: With a catalog: what executes SQL on its tables without Spark here; None where none is named.
    """

    spark: Callable[[], SparkSession]
    database: str
    root: str
    catalog: str = ""
    locks: str = ""
    catalog_here: bool = True
    explorer: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    warehouse: SqlWarehouse | None = None

    @property
    def session(self) -> SparkSession:
        """The Spark session; the first call may start it."""
        return self.spark()

    def location(self, name: str) -> str:
        """Return the table's folder or its three-level name."""
        return self._tables.address(name)

    def url(self, name: str) -> str:
        """Return an address of the table: its page in the catalog's explorer, or its folder."""
        address = self.location(name)
        if self.catalog:
            return f"{self.explorer}/{address.replace('.', '/')}" if self.explorer else address
        path = spark_path(address)
        return path if path.startswith("dbfs:") else Path(path).absolute().as_uri()

    def data_version(self, table: TableVersion) -> str:
        """Return what identifies the rows of a table: the version that last changed them, and which table it is.

        Version numbers alone are the same in every table; a table that was created anew is another one.
        """
        return f"{table.rows_version}-{self._tables.identity(table.name).replace('-', '')[:_ID_LENGTH]}"

    def erased_below(self, name: str) -> int:
        """Return the version of a table before which everything was erased; 0 if nothing was."""
        return self._tables.erased_below(name)

    def current(self, name: str) -> TableVersion | None:
        """Return the newest version, or None when the table was never written."""
        last = self._tables.newest(name)
        return (
            None if last is None else TableVersion(name, last.version, last.metadata, last.metrics, last.rows_version)
        )

    def commit_metadata_since(self, name: str, version: int) -> list[Mapping[str, Any]]:
        """Return the metadata of the commits after a version that changed rows, oldest first.

        A table keeps it for ten years (`tables.RETENTION`), or for 30 days if it was created without that setting and
        `upkeep` has not run since.
        """
        return [commit.metadata for commit in self._tables.since(name, version)]

    def foreign_operations_since(self, name: str, version: int) -> set[str]:
        """Return what others did to rows after a version: names of operations in the table's history, in capitals."""
        return {commit.operation for commit in self._tables.since(name, version) if FOLLOWS not in commit.metadata}

    def require(self, name: str, *, made_by: str) -> TableVersion:
        """Return the newest version of a table that must exist.

        Raises:
            StorageError: The table was never written.
        """
        newest = self.current(name)
        if newest is None:
            raise StorageError("no such table yet", where=self.location(name), fix=f"materialize `{made_by}` first")
        return newest

    def require_columns(self, table: TableVersion, columns: Iterable[str]) -> None:
        """Check that the platform created a table: one of the same name from elsewhere lacks our columns.

        Raises:
            StorageError: Columns are missing.
        """
        missing = sorted(set(columns) - set(self.read(table.name, table.version).columns))
        if missing:
            raise StorageError(
                f"the platform did not create this table: it lacks {', '.join(missing)}",
                where=self.location(table.name),
                fix="rename or drop it, or keep the platform's tables elsewhere (on Databricks: "
                "MLOPS_DATABRICKS_SCHEMA, with tables in folders: MLOPS_DATABASE)",
            )

    def read(self, name: str, version: int) -> DataFrame:
        """Return the table as it was at `version`.

        Raises:
            StorageError: That version can't be read (any more).
        """
        from pyspark.errors import AnalysisException

        reader = self.session.read.format("delta").option("versionAsOf", version)
        try:
            return self._tables.load(reader, name)
        except AnalysisException as error:
            raise StorageError(
                f"version {version} can't be read: {error_condition(error)}",
                where=self.location(name),
                fix="run `upkeep` once if the table does not keep old versions yet; if the version is gone, use a "
                "newer one",
            ) from None

    def require_files(self, name: str, version: int, *, fix: str) -> None:
        """Check that a version's files are there; the log may still know a version whose files were removed.

        Args:
            name: The table.
            version: The version.
            fix: What to do if they are gone.

        Raises:
            StorageError: Files are gone, or the version can't be read.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        rows = self.read(name, version)
        try:
            # A value that depends on each row: counts and extremes come from the log without looking at a file.
            rows.agg(F.bit_xor(F.xxhash64(rows.columns[0]))).collect()
        except spark_errors() as error:
            if FILES_GONE not in str(error):
                raise
            raise StorageError(
                f"files of version {version} are gone: they were vacuumed or deleted",
                where=self.location(name),
                fix=fix,
            ) from None

    def add_columns(
        self, table: TableVersion, columns: Mapping[str, tuple[str, str]], metadata: Mapping[str, Any]
    ) -> TableVersion:
        """Add columns to a table in a commit without rows.

        Args:
            table: The version to extend.
            columns: Type and description by name.
            metadata: Metadata of the commit.

        Raises:
            StaleBaseError: Someone else has written since.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        new = [
            F.lit(None).cast(kind).alias(name, metadata={"comment": description})
            for name, (kind, description) in columns.items()
        ]
        rows = self.read(table.name, table.version).where(F.lit(False)).select("*", *new)
        return self.append(table.name, rows, base=table, metadata=metadata, new_columns=True)

    def fetch(self, table: TableVersion, columns: Sequence[str]) -> pa.Table:
        """Return columns of one of the platform's own small tables, as it was at that version."""
        return self._tables.fetch(table.name, table.version, columns)

    def counted(self, table: TableVersion, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """Return how many rows of a version of a table have which values in some columns, which are few."""
        return self._tables.counted(table.name, table.version, columns)

    def commits(self, name: str) -> dict[int, float]:
        """Return when each version in the table's log was committed, in seconds since 1970."""
        history = self.sql("DESCRIBE HISTORY {table}", name).selectExpr("version", "unix_millis(timestamp) AS at")
        return {int(row["version"]): row["at"] / 1000 for row in history.collect()}

    def sql(self, statement: str, name: str) -> DataFrame:
        """Run a statement in which `{table}` stands for a table.

        Raises:
            StorageError: The catalog refuses the request.
        """
        return self._tables.sql(self.session, statement, name)

    def staging(self, name: str) -> AbstractContextManager[Path]:
        """Create an empty folder for staging rows of a table; use it inside `exclusive`. See `staging_folder`.

        Raises:
            StorageError: The folder can't be written.
        """
        return staging_folder(Path(self.root) / "_staging" / name, locked=bool(self.locks))

    def exclusive(self, name: str, wait_seconds: float | None = None) -> AbstractContextManager[None]:
        """Hold the table's lock, so that two runs write one after the other.

        Delta's log on a local disk is not safe for two processes (`LocalLogStore` in the Delta documentation,
        "Storage configuration"). Cloud storage needs no lock: there the second of two commits fails with
        `StaleBaseError`.

        Args:
            name: The table, or a name that covers several.
            wait_seconds: How long to wait for another holder; `LOCK_TIMEOUT_SECONDS` when not given.

        Raises:
            StorageError: The lock was not free in time, or its folder can't be written.
        """
        if not self.locks:
            return nullcontext()
        path = Path(self.locks) / f"{Path(self.root).name}.{name}.lock"
        return hold(path, wait_seconds, where=self.location(name))

    @property
    def _tables(self) -> Tables:
        if self.catalog:
            return CatalogTables(self.catalog, self.database, self.spark, self.tags)
        return PathTables(self.root)
