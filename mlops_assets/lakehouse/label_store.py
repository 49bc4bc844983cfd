"""The table of late labels: every row of every label file, once.

What belongs here: its commit, reading and counting it. What does not: what a row must look like (`data/labels`),
merging labels into transactions (`transactions`), Dagster.

A load of label files is one append, so it succeeds as a whole or not at all. A batch is known if the table has its id:
the table is its own manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_assets.data.columns import BATCH_ID, KNOWN_AT, LABEL
from mlops_assets.data.ingest.manifest import REVERT, BatchRecord
from mlops_assets.data.ingest.new_inputs import StagedInputs
from mlops_assets.data.labels.labels import label_table_columns, require_labels
from mlops_assets.errors import ContractError
from mlops_assets.lakehouse.batches import Batch, remove_batches
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import LABELS, RAW, staged_rows
from mlops_assets.lineage import DAGSTER_RUN, RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class LabelCounts:
    """Counts of the label table.

    Attributes:
        rows: All rows, including bad ones.
        in_force: Keys that have a label.
        frauds: Keys whose last label says fraud.
        waiting: Keys whose labels are about no transaction that has come in.
    """

    rows: int
    in_force: int
    frauds: int
    waiting: int


@dataclass(frozen=True)
class LabelStore:
    """The label table of one database under one contract.

    Hold `lakehouse.exclusive(LABELS)` around everything that writes.

    Attributes:
        lakehouse: The database.
        contract: Names the columns of label files.
        dagster_run: Run id for the commit metadata.
    """

    lakehouse: Lakehouse
    contract: Contract
    dagster_run: str = ""

    def current(self) -> TableVersion | None:
        """Return the newest version, or None before the first label.

        Raises:
            ContractError: The contract has no `labels`, or the table's labels have another key.
            StorageError: A table of that name was not created by the platform.
        """
        key = require_labels(self.contract).key
        table = self.lakehouse.current(LABELS)
        if table is None:
            return None
        self.lakehouse.require_columns(table, [LABEL, KNOWN_AT, BATCH_ID])
        if key not in self.lakehouse.read(LABELS, table.version).columns:
            raise ContractError(
                f"the labels in the table have another key than {key}",
                where=self.lakehouse.location(LABELS),
                fix="undo the change of `labels.key` in the contract, or set MLOPS_DATABASE to a new database",
            )
        return table

    def batches(self, table: TableVersion | None) -> frozenset[str]:
        """Return the batch ids of all label files in the table."""
        if table is None:
            return frozenset()
        rows = self.lakehouse.read(LABELS, table.version).select(BATCH_ID).distinct().collect()
        return frozenset(row[BATCH_ID] for row in rows)

    def commit(self, table: TableVersion | None, staged: StagedInputs, folder: Path) -> TableVersion:
        """Append staged label files.

        Args:
            table: The version that the files were staged against.
            staged: At least one file.
            folder: Folder of the staged rows.

        Raises:
            StaleBaseError: Someone else has written since; start over.
        """
        rows = staged_rows(self.lakehouse, folder, label_table_columns(self.contract))
        metadata = {RECORDS: [asdict(record) for record in staged.records], DAGSTER_RUN: self.dagster_run}
        return self.lakehouse.append(LABELS, rows, base=table, metadata=metadata)

    def revert(self, table: TableVersion, batches: Sequence[Batch]) -> TableVersion:
        """Delete the rows of label files; the labels in the raw table follow with the next `recover`.

        Raises:
            StaleBaseError: Someone else has written since; start over.
        """
        now = datetime.now(UTC).isoformat()
        records = [
            asdict(BatchRecord(batch.batch_id, REVERT, batch.source, batch.rows, 0, 0, 0, "", now)) for batch in batches
        ]
        metadata = {RECORDS: records, DAGSTER_RUN: self.dagster_run}
        return remove_batches(self.lakehouse, table, [batch.batch_id for batch in batches], metadata)

    def count(self, table: TableVersion) -> LabelCounts:
        """Count the table's rows and labels."""
        from mlops_assets.data.labels.labels_frames import count_keys, waiting

        ledger = self.lakehouse.read(LABELS, table.version)
        in_force, frauds = count_keys(ledger, self.contract).collect()[0]
        raw = self.lakehouse.current(RAW)
        transactions: DataFrame | None = None if raw is None else self.lakehouse.read(RAW, raw.version)
        return LabelCounts(
            ledger.count(), int(in_force), int(frauds or 0), waiting(transactions, ledger, self.contract)
        )

    def first(self, table: TableVersion, rows: int, columns: Sequence[str]) -> pa.Table:
        """Return the newest rows for a preview."""
        newest = self.lakehouse.read(LABELS, table.version).orderBy(KNOWN_AT, ascending=False)
        return newest.select(*columns).limit(rows).toArrow()
