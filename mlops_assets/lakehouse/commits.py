"""Commits that happen once or not at all: of two writers that have looked at the same version, one looks again.

What belongs here: a pinned version, and everything that knows how Delta commits. What does not: reading (`lakehouse`),
the locks of one machine (`locks`), which rows are written (`transactions`, `label_store`).

Data crosses a stage as a `TableVersion` (name and Delta version), never as rows: the next stage may run elsewhere.
What a commit was made from is written into its `userMetadata`, so that a later stage, or a cluster without Dagster's
history, learns it from the table itself.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops_assets.lakehouse.catalog_errors import is_conflict, spark_errors
from mlops_assets.lakehouse.tables import COMMIT_METADATA, Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One Delta application id for every writer of a table: two writers that both build on version N collide on N + 1
# (Delta protocol, "Transaction Identifiers"), so none appends what the other already has.
_WRITER = "mlops_assets"


class StaleBaseError(Exception):
    """The table changed between looking and writing; nothing was written."""


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
    def named_by_rows(self) -> TableVersion:
        """The same rows under the version that they came with: what is compared, noted and pinned."""
        return replace(self, version=self.rows_version)

    @property
    def rows_written(self) -> int:
        """Rows that an append wrote, or that a merge inserted or updated, by Delta's own count."""
        if "numTargetRowsInserted" in self.metrics:
            return self.metrics["numTargetRowsInserted"] + self.metrics["numTargetRowsUpdated"]
        return self.metrics.get("numOutputRows", 0)


class Commits(ABC):
    """Writing, for a database that can be read."""

    @abstractmethod
    def require(self, name: str, *, made_by: str) -> TableVersion:
        """Return the newest version of a table that must be there."""

    @abstractmethod
    def require_columns(self, table: TableVersion, columns: Iterable[str]) -> None:
        """Check that a table is the platform's."""

    @abstractmethod
    def read(self, name: str, version: int) -> DataFrame:
        """Return the table as it was at `version`."""

    @property
    @abstractmethod
    def _tables(self) -> Tables: ...

    def append(
        self,
        name: str,
        rows: DataFrame,
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
        rows: DataFrame,
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
        rows: DataFrame,
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
        rows: DataFrame,
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
        self, name: str, rows: DataFrame, *, base: TableVersion | None, metadata: Mapping[str, Any]
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
        rows: DataFrame,
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
