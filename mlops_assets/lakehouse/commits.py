"""Commits that happen once or not at all: if two writers read the same version, the second has to start over.

What belongs here: a pinned version, and everything that knows how Delta commits. What does not: reading (`lakehouse`),
the locks of one machine (`locks`), which rows are written (`transactions`, `label_store`).

Stages pass data on as a `TableVersion` (name and Delta version), never as rows: the next stage may run elsewhere.
Each commit's `userMetadata` says what it was made from, so that a later stage, or a cluster without Dagster's history,
can read it from the table itself.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops_assets.lakehouse.catalog_errors import is_conflict, spark_errors
from mlops_assets.lakehouse.history import FOLLOWS
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.session_settings import session_settings
from mlops_assets.lakehouse.tables import COMMIT_METADATA, Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One Delta application id for every writer of a table: two writers that both build on version N collide on N + 1
# (Delta protocol, "Transaction Identifiers"), so neither appends what the other already has.
_WRITER = "mlops_assets"


class StaleBaseError(Exception):
    """The table changed between reading and writing; nothing was written."""


@dataclass(frozen=True)
class TableVersion:
    """A pinned table.

    Attributes:
        name: Name in the database.
        version: Delta version.
        metadata: `userMetadata` of the commit that last changed the rows; empty if it had none.
        metrics: `operationMetrics` of that commit.
        rows_since: The version that last changed the rows, if that is not `version`.
    """

    name: str
    version: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)
    rows_since: int | None = None

    @property
    def rows_version(self) -> int:
        """The version that last changed the rows: upkeep makes newer versions with the same rows."""
        return self.version if self.rows_since is None else self.rows_since

    @property
    def named_by_rows(self) -> TableVersion:
        """The same rows under the version that last changed them; this one is compared, recorded and pinned."""
        return replace(self, version=self.rows_version)

    @property
    def rows_written(self) -> int:
        """Rows that an append wrote, or that a merge inserted or updated, as counted by Delta."""
        if "numTargetRowsInserted" in self.metrics:
            return self.metrics["numTargetRowsInserted"] + self.metrics["numTargetRowsUpdated"]
        return self.metrics.get("numOutputRows", 0)


class Commits(ABC):
    """Writes to the tables of a database; the subclass reads them."""

    @abstractmethod
    def require(self, name: str, *, made_by: str) -> TableVersion:
        """Return the newest version of a table that must exist."""

    @abstractmethod
    def require_columns(self, table: TableVersion, columns: Iterable[str]) -> None:
        """Check that the platform created a table."""

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
        """Append rows that were chosen by reading `base`; nothing is written if the table has changed since.

        Args:
            name: The table.
            rows: What to append.
            base: The version that was read, None if there was no table.
            metadata: Commit metadata: what the commit was made from.
            new_columns: Whether to add columns that the table does not have, the platform's own included; otherwise
                they are an error.
            skip_by: If the append creates the table, the columns that readers filter by: Delta then keeps the value
                range of each file for these only. By default it does so for the first 32 columns, which takes a third
                of the time of writing a wide table.

        Raises:
            StaleBaseError: Someone else has committed since `base`; read again and repeat.
            StorageError: The platform did not create the table, or the catalog refuses the request.
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
            StorageError: The platform did not create the table, or the catalog refuses the request.
        """
        then = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        return self._merge(
            name,
            rows,
            rows.columns,
            on=f"old.{quoted(key)} = new.{quoted(key)}",
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
        """Change columns of existing rows, in one commit; see `append`.

        Args:
            name: The table.
            rows: The rows with the new values.
            on: SQL condition under which one of `rows` (`new`) matches an existing row (`old`). If several match the
                same row, `when` must hold for only one of them.
            when: SQL condition under which a match changes the row.
            values: Column of `rows` with the new value, by the column to change.
            base: The version that was read.
            metadata: Commit metadata: what the commit was made from.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The platform did not create the table, or the catalog refuses the request.
        """
        changes = ", ".join(f"old.{quoted(column)} = new.{quoted(value)}" for column, value in values.items())
        then = f"WHEN MATCHED AND {when} THEN UPDATE SET {changes}"
        return self._merge(name, rows, list(values), on=on, then=then, base=base, metadata=metadata)

    def remove(
        self,
        name: str,
        rows: DataFrame,
        *,
        on: str,
        base: TableVersion,
        metadata: Mapping[str, Any],
        removes: str = "TRUE",
        restored: Sequence[str] = (),
    ) -> TableVersion:
        """Delete rows, or put earlier rows in their place, in one commit; see `append`.

        Args:
            name: The table.
            rows: What says which rows, and holds the ones that take their place.
            on: SQL condition under which one of `rows` (`new`) matches a row of the table (`old`).
            base: The version that was read.
            metadata: Commit metadata: what the commit was made from.
            removes: SQL condition under which a matched row is deleted; the others get the values of `restored`.
            restored: Columns of `rows` that replace those of the same name.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The platform did not create the table, or the catalog refuses the request.
        """
        then = f"WHEN MATCHED AND {removes} THEN DELETE"
        if restored:
            then += " WHEN MATCHED THEN UPDATE SET " + ", ".join(
                f"old.{quoted(name)} = new.{quoted(name)}" for name in restored
            )
        return self._merge(name, rows, restored or rows.columns, on=on, then=then, base=base, metadata=metadata)

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

        Delta takes a MERGE's transaction number and metadata from the session, not from the statement.
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
                with session_settings(session, conf, purpose=f"a MERGE into {name}"):
                    self._tables.merge(session, name, view, on, then)
            finally:
                session.catalog.dropTempView(view)

        return self._commit(name, columns, statement, base=base, metadata=metadata)

    def replace(
        self, name: str, rows: DataFrame, *, base: TableVersion | None, metadata: Mapping[str, Any]
    ) -> TableVersion:
        """Replace all rows of the table (older versions stay readable); see `append` for `base`.

        Raises:
            StaleBaseError: Someone else has committed since `base`.
            StorageError: The platform did not create the table, or the catalog refuses the request.
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
        """Write under the transaction number that follows `base`, and check that the commit was made.

        Args:
            name: The table.
            columns: The columns to write.
            write: Writes with the given transaction number and metadata.
            base: The version that was read.
            metadata: Commit metadata: what the commit was made from.
        """
        if base is not None:
            # Names with an underscore are the platform's own (see `Column`). A table of ours may lack the
            # ones that this commit adds; a table from elsewhere lacks all of them.
            ours = {column for column in columns if column.startswith("_")}
            if ours.isdisjoint(self.read(name, base.version).columns):
                self.require_columns(base, ours)
        number = 0 if base is None else base.version + 1
        document = json.dumps({**metadata, FOLLOWS: number - 1}, sort_keys=True)
        try:
            write(number, document)
        except spark_errors() as error:
            if is_conflict(error):
                raise StaleBaseError(name) from None
            raise
        committed = self.require(name, made_by=name)
        if committed.metadata != json.loads(document):  # Delta silently skips a transaction number that is taken
            raise StaleBaseError(name)
        return committed
