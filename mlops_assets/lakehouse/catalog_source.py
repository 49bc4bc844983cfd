"""Transactions from a table of Unity Catalog that someone else writes, commit by commit, read by Spark.

What belongs here: which rows a commit wrote, by the table's change data feed. What does not: tables in folders, which
need no Spark (`data.sources.delta`), our own tables (`tables`), when to look.

Spark reads it where the step runs, as the cluster's identity: delta-rs can use neither the credentials that the catalog
hands out nor deletion vectors, which new tables may have. The change data feed says of every row whether a commit
added, changed or deleted it ("Use Delta Lake change data feed" of the Databricks reference); without it only whole
files can be compared. So the table must have it: for commits that only append it writes nothing.

A commit is a batch with the identity of table and version, as in `data.sources.delta`. A table that got its feed later
begins with one more batch: all its rows as of the version before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlops_assets.data.sources.arrivals import CHANGE_DATA_FEED
from mlops_assets.data.sources.base import Division, ReadPart, SourceBatch, found_of, lower_case_columns
from mlops_assets.data.sources.large_files import ParquetFiles
from mlops_assets.errors import SourceError, UnreachableError
from mlops_assets.lakehouse.catalog_errors import brief, is_busy, spark_errors
from mlops_assets.lakehouse.history import WRITES_ROWS
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.tables import spark_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Answered = TypeVar("Answered")
_KIND, _ADDED = "_change_type", ("insert", "update_postimage")
_TECHNICAL: Final = (_KIND, "_commit_version", "_commit_timestamp")


# So many rows are written into files by Spark, and read by executors; fewer are collected.
LARGE_ROWS = 1_000_000
_FILE_ROWS: Final = 500_000


@dataclass(frozen=True)
class _Commit:
    origin: str
    content_hash: str
    count: int
    rows: Callable[[SparkSession], DataFrame]

    def collected(self, session: SparkSession) -> Any:
        return self.rows(session).toArrow()


class CatalogSource:
    """Yields one batch per commit that wrote rows.

    Args:
        name: Three-level name of the table.
        session: Returns the Spark session; called when rows are asked for.
        after_version: The last version to skip; -1 starts with the first.
        up_to_version: The last version to read; the newest when None.
        has_key: Whether rows are merged by a key, so that changed ones may come again.
    """

    def __init__(
        self,
        name: str,
        session: Callable[[], SparkSession],
        *,
        after_version: int = -1,
        up_to_version: int | None = None,
        has_key: bool = False,
    ) -> None:
        self._name, self._session = name, session
        self._sql_name = quoted(*name.split("."))
        self._after, self._up_to, self._has_key = after_version, up_to_version, has_key

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the rows that each commit added or changed, oldest commit first.

        Raises:
            SourceError: There is no such table, it has no change data feed, a commit is no longer readable, or changed
                rows that have no key.
            UnreachableError: The catalog or its storage does not answer.
        """
        return map(self._collected, self._commits(frozenset()))

    def divided(self, folder: Path, known: Collection[str]) -> Division:
        """Return what reads each new commit; if they have too many rows for the driver, Spark writes these into files.

        Positions of rows are those in what is read: rows of a table have no order of their own.
        """
        commits, refused = found_of(self._commits(known))
        large = sum(commit.count for commit in commits) >= LARGE_ROWS
        reads: list[ReadPart] = [
            self._written(commit, folder) if large else partial(self._collected, commit) for commit in commits
        ]
        return Division([*reads, *refused], "all" if large else "process")

    def _collected(self, commit: _Commit) -> SourceBatch:
        rows = lower_case_columns(self._asked(commit.collected), where=commit.origin)
        return SourceBatch(commit.origin, commit.content_hash, rows)

    def _written(self, commit: _Commit, folder: Path) -> ParquetFiles:
        place = folder / commit.content_hash

        def write(session: SparkSession) -> None:
            writer = commit.rows(session).write.option("maxRecordsPerFile", _FILE_ROWS)
            writer.parquet(spark_path(place))

        self._asked(write)
        files = tuple(sorted(str(path) for path in place.glob("*.parquet")))
        return ParquetFiles(commit.origin, commit.content_hash, files)

    def _commits(self, known: Collection[str]) -> Iterator[_Commit]:
        return (commit for commit in self._new_commits(known) if commit.count)

    def _new_commits(self, known: Collection[str]) -> Iterator[_Commit]:
        identity = self._identity()
        operations = {int(entry["version"]): entry for entry in self._history()}
        newest = max(operations)
        last = newest if self._up_to is None else self._up_to
        if last > newest:
            raise self._error(
                f"version {last} was requested but the newest is {newest}: the table was recreated",
                "load all its versions: leave after_version and up_to_version out",
            )
        recorded = _recorded_from(operations)
        if self._after < recorded - 1:
            yield from self._before_the_feed(identity, recorded - 1, known)
        for version in range(max(self._after + 1, recorded), last + 1):
            digest = _digest(identity, str(version))
            operation = str(operations.get(version, {}).get("operation"))
            if digest not in known and operation in WRITES_ROWS:
                yield _Commit(f"{self._name}@v{version}", digest, *self._changes(version, operation))

    def _before_the_feed(self, identity: str, version: int, known: Collection[str]) -> Iterator[_Commit]:
        digest, origin = _digest(identity, f"..{version}"), f"{self._name}@v0..v{version}"
        if self._after >= 0:
            raise self._error(
                f"the changes of versions {self._after + 1} to {version} were not recorded",
                f"load all versions once: leave after_version out; rows up to version {version} come as one input",
            )

        def read(session: SparkSession) -> DataFrame:
            return session.read.option("versionAsOf", version).table(self._sql_name)

        if digest not in known:
            yield _Commit(origin, digest, self._asked(lambda session: read(session).count()), read)

    def _changes(self, version: int, operation: str) -> tuple[int, Callable[[SparkSession], DataFrame]]:
        """Return how many rows a commit added or changed, and what reads them.

        They are counted with their kinds, which must be known anyway. The log's own count (`numOutputRows`) may be
        missing, and is what the other writer says of itself.
        """

        def read(session: SparkSession) -> DataFrame:
            reader = session.read.option("readChangeFeed", "true")
            return reader.option("startingVersion", version).option("endingVersion", version).table(self._sql_name)

        counted = self._asked(lambda session: read(session).groupBy(_KIND).count().collect())
        kinds = {str(row[_KIND]): int(row["count"]) for row in counted}
        if kinds.keys() - {"insert"} and not self._has_key:
            raise self._error(
                f"version {version} ({operation}) changed or deleted rows, and without a key there is no telling which "
                "ones",
                "name the key column in the contract, or have the table written by appending only",
            )
        rows = sum(kinds.get(kind, 0) for kind in _ADDED)
        return rows, lambda session: read(session).where(f"{_KIND} IN {_ADDED}").drop(*_TECHNICAL)

    def _identity(self) -> str:
        (detail,) = self._asked(
            lambda session: session.sql(f"DESCRIBE DETAIL {self._sql_name}").select("id", "properties").collect()
        )
        if (detail["properties"] or {}).get(CHANGE_DATA_FEED) != "true":
            raise self._error(
                "the table has no change data feed, so its commits can't be told apart",
                f"its owner runs ALTER TABLE {self._name} SET TBLPROPERTIES ({CHANGE_DATA_FEED} = true); what it has "
                "by then is loaded as one input",
            )
        return str(detail["id"])

    def _history(self) -> list[dict[str, Any]]:
        columns = ("version", "operation", "operationParameters")
        entries = self._asked(
            lambda session: session.sql(f"DESCRIBE HISTORY {self._sql_name}").select(*columns).collect()
        )
        return [entry.asDict() for entry in entries]

    def _asked(self, action: Callable[[SparkSession], Answered]) -> Answered:
        try:
            return action(self._session())
        except spark_errors() as error:
            message, busy = brief(error), is_busy(error)
        fix = (
            "correct the name, or grant USE CATALOG, USE SCHEMA and SELECT on it to the identity that runs the cluster"
        )
        if busy:
            raise UnreachableError(f"the catalog or its storage does not answer: {message}", where=self._name, fix=fix)
        raise self._error(f"the table can't be read: {message}", fix)

    def _error(self, what: str, fix: str) -> SourceError:
        return SourceError(what, where=self._name, fix=fix)


def _recorded_from(operations: Mapping[int, Mapping[str, Any]]) -> int:
    """Return the version from which on changes are recorded: that of the last switch to on; 0 if none is known."""
    for version in sorted(operations, reverse=True):
        properties = (operations[version]["operationParameters"] or {}).get("properties")
        if properties and json.loads(properties).get(CHANGE_DATA_FEED) == "true":
            return version
    return 0


def _digest(identity: str, version: str) -> str:
    return hashlib.sha256(f"table:{identity}:{version}".encode()).hexdigest()
