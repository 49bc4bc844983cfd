"""How a table is named and reached: by its folder, or by its name in a catalog.

What belongs here: the difference between the two, and nothing else. What does not: when to read or commit
(`lakehouse`), what a history says (`history`), what a catalog's refusal means (`catalog_errors`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import spark_errors
from mlops_assets.lakehouse.checksums import require_sound_files, require_sound_log
from mlops_assets.lakehouse.history import HISTORY_COLUMNS, LastCommit, commits_after, newest_commit
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.session_settings import UnavailableSettingError, session_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, DataFrameReader, DataFrameWriter, SparkSession

logger = logging.getLogger(__name__)

COMMIT_METADATA: Final = "spark.databricks.delta.commitInfo.userMetadata"
# Models are pinned to versions. By default Delta reads no version older than a week, and by then it has forgotten which
# files it removed, so VACUUM takes them for files of unknown writers. It drops the log after a month. A catalog may run
# VACUUM on its own.
_KEPT: Final = "interval 3650 days"
# The table's property that says from which version on it can be read, after an erasure (`erased_history`).
ERASED_BELOW: Final = "mlops_assets.erasedBelow"
RETENTION: Final[Mapping[str, str]] = {
    "delta.deletedFileRetentionDuration": _KEPT,
    "delta.logRetentionDuration": _KEPT,
}


class Tables(Protocol):
    """The tables of one database."""

    def address(self, name: str) -> str:
        """Return the table's folder or its full name."""
        ...

    def identity(self, name: str) -> str:
        """Return the id that Delta gave the table when it was created."""
        ...

    def erased_below(self, name: str) -> int:
        """Return the version before which everything was erased; 0 if nothing was."""
        ...

    def newest(self, name: str) -> LastCommit | None:
        """Return the newest commit, or None when the table was never written."""
        ...

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Return the commits after a version that changed rows, oldest first."""
        ...

    def sql_name(self, name: str) -> str:
        """Return the table's name in SQL, quoted."""
        ...

    def sql(self, session: SparkSession, statement: str, name: str) -> DataFrame:
        """Run a statement in which `{table}` stands for the table."""
        ...

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table with a configured reader."""
        ...

    def fetch(self, name: str, version: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of one version of a small table."""
        ...

    def counted(self, name: str, version: int, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """Return how many rows of one version have which values in some columns."""
        ...

    def save(self, writer: DataFrameWriter, name: str, metadata: str, *, defines: bool) -> None:
        """Write the table with a configured writer.

        Args:
            writer: The writer.
            name: The table.
            metadata: The commit's `userMetadata`.
            defines: Whether this creates or replaces the table, as opposed to adding to it.
        """
        ...

    def merge(self, session: SparkSession, name: str, rows: str, on: str, then: str) -> None:
        """Merge rows into the table.

        Args:
            session: The session; its settings hold the commit metadata and the transaction number.
            name: The table.
            rows: Temporary view of the incoming rows.
            on: SQL condition under which an incoming row (`new`) matches an existing one (`old`).
            then: The WHEN clauses of the statement.
        """
        ...


def spark_path(path: str | Path) -> str:
    """Return a Python path as Spark needs it: DBFS is a mount (`/dbfs`) for Python and a scheme (`dbfs:`) for Spark."""
    text = str(path)
    return f"dbfs:/{text.removeprefix('/dbfs/')}" if text.startswith("/dbfs/") else text


def mounted(path: str) -> str:
    """Return a `dbfs:/` path as Python needs it (below `/dbfs`); any other path unchanged."""
    return f"/dbfs/{path.removeprefix('dbfs:').lstrip('/')}" if path.startswith("dbfs:") else path


@dataclass(frozen=True)
class PathTables:
    """Tables as folders below one root, a Python path: on a disk, on a volume, or on DBFS under `/dbfs`."""

    root: str

    def address(self, name: str) -> str:
        """Return the table's folder."""
        return str(Path(self.root) / name)

    def identity(self, name: str) -> str:
        """Read the table's metadata with delta-rs."""
        from deltalake import DeltaTable

        return str(DeltaTable(self.address(name)).metadata().id)

    def erased_below(self, name: str) -> int:
        """Read the table's properties with delta-rs."""
        from deltalake import DeltaTable

        return int(DeltaTable(self.address(name)).metadata().configuration.get(ERASED_BELOW, "0"))

    def newest(self, name: str) -> LastCommit | None:
        """Read the log with delta-rs: that takes 0.1 s, and starting a Spark session takes five.

        Raises:
            StorageError: The log is damaged.
        """
        from deltalake import DeltaTable

        require_sound_log(Path(self.address(name)))
        if not DeltaTable.is_deltatable(self.address(name)):
            return None
        return newest_commit(DeltaTable(self.address(name)).history)

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Read the log with delta-rs."""
        from deltalake import DeltaTable

        table = DeltaTable(self.address(name))
        return commits_after(table.history(max(1, table.version() - version)), version)

    def sql_name(self, name: str) -> str:
        """Return the folder in Delta's SQL syntax for paths."""
        return f"delta.{quoted(spark_path(self.address(name)))}"

    def sql(self, session: SparkSession, statement: str, name: str) -> DataFrame:
        """Run a statement on the table's folder."""
        return session.sql(statement.replace("{table}", self.sql_name(name)))

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table's folder."""
        return reader.load(spark_path(self.address(name)))

    def fetch(self, name: str, version: int, columns: Sequence[str]) -> pa.Table:
        """Read the columns with delta-rs, in a fraction of the time that Spark takes to plan a query.

        Raises:
            StorageError: A file is damaged.
        """
        return self._sound(name, version).to_pyarrow_table(columns=list(columns))

    def counted(self, name: str, version: int, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """Count with delta-rs, which never has all rows in memory.

        Raises:
            StorageError: A file is damaged.
        """
        import pyarrow as pa
        from deltalake import QueryBuilder

        named = ", ".join(f'"{column}"' for column in columns)
        query = QueryBuilder().register("rows", self._sound(name, version))
        found = pa.table(query.execute(f"SELECT {named}, count(*) FROM rows GROUP BY {named}"))  # noqa: S608 - our names
        *values, counts = (column.to_pylist() for column in found.columns)
        return dict(zip(zip(*values, strict=True), counts, strict=True))

    def _sound(self, name: str, version: int) -> DeltaTable:
        from deltalake import DeltaTable

        table = DeltaTable(self.address(name), version=version)
        require_sound_files(Path(self.address(name)), map(Path, table.file_uris()))
        return table

    def save(self, writer: DataFrameWriter, name: str, metadata: str, *, defines: bool) -> None:
        """Write into the table's folder."""
        writer = writer.option("userMetadata", metadata)
        if defines:
            writer = writer.options(**RETENTION)
        writer.save(spark_path(self.address(name)))

    def merge(self, session: SparkSession, name: str, rows: str, on: str, then: str) -> None:
        """Merge into the table's folder."""
        session.sql(_merge(self.sql_name(name), rows, on, then))


def _merge(table: str, rows: str, on: str, then: str) -> str:
    return f"MERGE INTO {table} AS old USING {rows} AS new ON {on} {then}"


@dataclass(frozen=True)
class CatalogTables:
    """Managed tables of a catalog (Unity Catalog), under three-level names.

    This never creates the schema: it also holds the staging volume and the model, so a missing schema is a typo.
    """

    catalog: str
    schema: str
    session: Callable[[], SparkSession]
    tags: Mapping[str, str] = field(default_factory=dict)

    def address(self, name: str) -> str:
        """Return the three-level name."""
        return f"{self.catalog}.{self.schema}.{name}"

    def identity(self, name: str) -> str:
        """Ask the table.

        Raises:
            StorageError: The catalog refuses the request.
        """
        (detail,) = self.sql(self.session(), "DESCRIBE DETAIL {table}", name).select("id").collect()
        return str(detail["id"])

    def erased_below(self, name: str) -> int:  # noqa: ARG002 - the contract
        """Return 0: tables of a catalog are not erased from here (`erasure`)."""
        return 0

    def newest(self, name: str) -> LastCommit | None:
        """Ask the catalog, then the table's history.

        Raises:
            StorageError: The catalog or schema does not exist or may not be used, or the name belongs to something
                that is not a Delta table.
        """
        from mlops_assets.lakehouse.catalog_errors import readable

        session = self.session()
        with readable(self.address(name), self.catalog, self.schema):
            if not session.catalog.tableExists(self.sql_name(name)):
                self._require_schema()
                return None
            return newest_commit(lambda limit: self._history(session, name, limit))

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Ask the table's history.

        Raises:
            StorageError: The catalog refuses the request.
        """
        from mlops_assets.lakehouse.catalog_errors import readable

        with readable(self.address(name), self.catalog, self.schema):
            history = self.session().sql(f"DESCRIBE HISTORY {self.sql_name(name)}").select(*HISTORY_COLUMNS)
            entries = history.where(f"version > {version}").collect()
        return commits_after([entry.asDict() for entry in entries], version)

    def sql_name(self, name: str) -> str:
        """Return the three-level name, quoted."""
        return quoted(self.catalog, self.schema, name)

    def sql(self, session: SparkSession, statement: str, name: str) -> DataFrame:
        """Run a statement on the table by name.

        Raises:
            StorageError: The catalog refuses the request.
        """
        from mlops_assets.lakehouse.catalog_errors import readable

        with readable(self.address(name), self.catalog, self.schema):
            return session.sql(statement.replace("{table}", self.sql_name(name)))

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table by name."""
        return reader.table(self.sql_name(name))

    def fetch(self, name: str, version: int, columns: Sequence[str]) -> pa.Table:
        """Ask Spark for the columns."""
        rows = self.load(self.session().read.option("versionAsOf", version), name)
        return rows.select(*columns).toArrow()

    def counted(self, name: str, version: int, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """Count with Spark."""
        rows = self.load(self.session().read.option("versionAsOf", version), name)
        return {tuple(row[:-1]): int(row[-1]) for row in rows.groupBy(*columns).count().collect()}

    def save(self, writer: DataFrameWriter, name: str, metadata: str, *, defines: bool) -> None:
        """Write the table by name.

        Raises:
            StorageError: The catalog refuses the request.
        """
        from mlops_assets.lakehouse.catalog_errors import readable

        writer = writer.option("userMetadata", metadata)
        with readable(self.address(name), self.catalog, self.schema):
            if not defines:
                writer.saveAsTable(self.sql_name(name))
                return
            writer = writer.options(**RETENTION)
            # When a commit creates a table by name, Delta 4.3 ignores the writer's option and uses the session setting.
            try:
                with session_settings(self.session(), {COMMIT_METADATA: metadata}, purpose="a new table"):
                    writer.saveAsTable(self.sql_name(name))
            except UnavailableSettingError:  # on serverless compute, where the platform's Delta takes the option
                writer.saveAsTable(self.sql_name(name))
            if self.tags:
                self._tag(name)

    def _tag(self, name: str) -> None:
        """Tag a new table; whether the identity may do so is no reason to fail a commit that is done."""
        tags = ", ".join(f"'{key}' = '{value}'" for key, value in self.tags.items())  # plain names
        try:
            self.session().sql(f"ALTER TABLE {self.sql_name(name)} SET TAGS ({tags})")
        except spark_errors() as error:
            logger.warning("%s has no tags: %s", self.address(name), str(error).partition("\n")[0])

    def merge(self, session: SparkSession, name: str, rows: str, on: str, then: str) -> None:
        """Merge into the table by name.

        Raises:
            StorageError: The catalog refuses the request.
        """
        from mlops_assets.lakehouse.catalog_errors import readable

        with readable(self.address(name), self.catalog, self.schema):
            session.sql(_merge(self.sql_name(name), rows, on, then))

    def _history(self, session: SparkSession, name: str, limit: int | None) -> list[dict[str, Any]]:
        newest = "" if limit is None else f" LIMIT {limit}"
        history = session.sql(f"DESCRIBE HISTORY {self.sql_name(name)}{newest}").select(*HISTORY_COLUMNS)
        return [entry.asDict() for entry in history.collect()]

    def _require_schema(self) -> None:
        if not self.session().catalog.databaseExists(quoted(self.catalog, self.schema)):
            raise StorageError(
                f"there is no schema {self.schema} in catalog {self.catalog}",
                where=f"{self.catalog}.{self.schema}",
                fix=f"correct MLOPS_DATABRICKS_SCHEMA, or create it: CREATE SCHEMA {self.catalog}.{self.schema}",
            )
