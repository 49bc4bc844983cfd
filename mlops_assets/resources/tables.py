"""How a table is named and reached: by its folder, or by its name in a catalog.

What belongs here: the difference between the two, and nothing else. What does not: when to read or commit
(`lakehouse`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, DataFrameReader, DataFrameWriter, SparkSession


@dataclass(frozen=True)
class LastCommit:
    """The newest version of a table, what its writer noted, and what Delta counted."""

    version: int
    note: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> LastCommit:
        """Read an entry of a table's history."""
        counted = {
            name: int(value) for name, value in (entry.get("operationMetrics") or {}).items() if _is_count(value)
        }
        return cls(int(entry["version"]), json.loads(entry.get("userMetadata") or "{}"), counted)


class Tables(Protocol):
    """The tables of one database."""

    def address(self, name: str) -> str:
        """Return what a person or a query calls the table."""
        ...

    def newest(self, name: str) -> LastCommit | None:
        """Return the newest commit, or None when the table was never written."""
        ...

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Return the commits after a version, oldest first."""
        ...

    def sql_name(self, name: str) -> str:
        """Return what SQL calls the table, quoted."""
        ...

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table with a configured reader."""
        ...

    def save(self, writer: DataFrameWriter, name: str) -> None:
        """Write the table with a configured writer."""
        ...


def _is_count(value: object) -> bool:
    return str(value).isdigit()


def spark_path(path: str | Path) -> str:
    """Return what Spark calls a path that Python sees: DBFS is mounted for Python, and a scheme for Spark."""
    text = str(path)
    return f"dbfs:/{text.removeprefix('/dbfs/')}" if text.startswith("/dbfs/") else text


def mounted(path: str) -> str:
    """Return where Python finds a `dbfs:/` path; any other path as it is."""
    return f"/dbfs/{path.removeprefix('dbfs:').lstrip('/')}" if path.startswith("dbfs:") else path


@dataclass(frozen=True)
class PathTables:
    """Tables in folders of one root, as Python sees it: a disk, a volume, or DBFS under `/dbfs`."""

    root: str

    def address(self, name: str) -> str:
        """Return the table's folder."""
        return str(Path(self.root) / name)

    def newest(self, name: str) -> LastCommit | None:
        """Read the log by delta-rs: a tenth of a second, where a Spark session that is not started costs five."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self.address(name)):
            return None
        return LastCommit.of(DeltaTable(self.address(name)).history(1)[0])

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Read the log by delta-rs."""
        from deltalake import DeltaTable

        table = DeltaTable(self.address(name))
        found = [LastCommit.of(entry) for entry in table.history(max(1, table.version() - version))]
        return sorted((commit for commit in found if commit.version > version), key=lambda commit: commit.version)

    def sql_name(self, name: str) -> str:
        """Return the folder as a Delta table."""
        return f"delta.`{spark_path(self.address(name))}`"

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table's folder."""
        return reader.load(spark_path(self.address(name)))

    def save(self, writer: DataFrameWriter, name: str) -> None:
        """Write into the table's folder."""
        writer.save(spark_path(self.address(name)))


@dataclass(frozen=True)
class CatalogTables:
    """Tables of a catalog (Unity Catalog), under three-level names; the schema is made when it is not there."""

    catalog: str
    schema: str
    session: Callable[[], SparkSession]

    def address(self, name: str) -> str:
        """Return the three-level name."""
        return f"{self.catalog}.{self.schema}.{name}"

    def newest(self, name: str) -> LastCommit | None:
        """Ask the catalog, then the table's history."""
        if not self.session().catalog.tableExists(self.address(name)):
            return None
        last = self.session().sql(f"DESCRIBE HISTORY {self.sql_name(name)} LIMIT 1").collect()[0]
        return LastCommit.of(last.asDict())

    def since(self, name: str, version: int) -> list[LastCommit]:
        """Ask the table's history."""
        history = self.session().sql(f"DESCRIBE HISTORY {self.sql_name(name)}").where(f"version > {version}")
        found = [LastCommit.of(entry.asDict()) for entry in history.collect()]
        return sorted(found, key=lambda commit: commit.version)

    def load(self, reader: DataFrameReader, name: str) -> DataFrame:
        """Read the table by name."""
        return reader.table(self.sql_name(name))

    def save(self, writer: DataFrameWriter, name: str) -> None:
        """Write the table by name."""
        self.session().sql(f"CREATE SCHEMA IF NOT EXISTS `{self.catalog}`.`{self.schema}`")
        writer.saveAsTable(self.sql_name(name))

    def sql_name(self, name: str) -> str:
        """Return the three-level name, quoted."""
        return f"`{self.catalog}`.`{self.schema}`.`{name}`"
