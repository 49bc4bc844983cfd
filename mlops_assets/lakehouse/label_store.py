"""The table of labels that came late: every row of a label file, once.

What belongs here: its commit, and what a reader learns from it. What does not: what a row must look like
(`data/labels`), bringing labels to transactions (`transactions`), Dagster.

A load of label files is one append, so it is in whole or not at all, and a batch whose id the table holds is known: the
table is its own manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_assets.data.columns import BATCH_ID, KNOWN_AT, LABEL
from mlops_assets.data.labels.labels import StagedLabels, label_table_columns, require_labels
from mlops_assets.errors import ContractError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import LABELS, RAW, staged_rows
from mlops_assets.lineage import DAGSTER_RUN, RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class LabelCounts:
    """What the label table holds.

    Attributes:
        rows: Rows, bad ones among them.
        in_force: Keys that have a label.
        frauds: Keys whose label says fraud.
        waiting: Labels that are about no transaction that has come in.
    """

    rows: int
    in_force: int
    frauds: int
    waiting: int


@dataclass(frozen=True)
class LabelStore:
    """The label table of one database under one contract.

    Hold `lakehouse.exclusive(LABELS)` around what writes.

    Attributes:
        lakehouse: Where it is.
        contract: Names the columns of label files.
        dagster_run: Run id, for the notes.
    """

    lakehouse: Lakehouse
    contract: Contract
    dagster_run: str = ""

    def current(self) -> TableVersion | None:
        """Return the newest version, or None before the first label.

        Raises:
            ContractError: The contract has no `labels`, or the table holds labels by another key.
            StorageError: A table of that name is not the platform's.
        """
        key = require_labels(self.contract).key
        table = self.lakehouse.current(LABELS)
        if table is None:
            return None
        self.lakehouse.require_columns(table, [LABEL, KNOWN_AT, BATCH_ID])
        if key not in self.lakehouse.read(LABELS, table.version).columns:
            raise ContractError(
                f"the labels that came before are not about {key}",
                where=self.lakehouse.location(LABELS),
                fix="take the change of `labels.key` in the contract back, or set MLOPS_DATABASE to a new database",
            )
        return table

    def batches(self, table: TableVersion | None) -> frozenset[str]:
        """Return the ids of all files that came in."""
        if table is None:
            return frozenset()
        rows = self.lakehouse.read(LABELS, table.version).select(BATCH_ID).distinct().collect()
        return frozenset(row[BATCH_ID] for row in rows)

    def commit(self, table: TableVersion | None, staged: StagedLabels, folder: Path) -> TableVersion:
        """Append what was staged.

        Args:
            table: The version that was looked at.
            staged: At least one file.
            folder: Where its rows are.

        Raises:
            StaleBaseError: Someone else has written since; look again.
        """
        rows = staged_rows(self.lakehouse, folder, label_table_columns(self.contract))
        metadata = {RECORDS: [asdict(record) for record in staged.records], DAGSTER_RUN: self.dagster_run}
        return self.lakehouse.append(LABELS, rows, base=table, metadata=metadata)

    def count(self, table: TableVersion) -> LabelCounts:
        """Count what the table holds."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.labels.labels_frames import latest_labels, waiting

        ledger = self.lakehouse.read(LABELS, table.version)
        latest = latest_labels(ledger, self.contract)
        in_force, frauds = latest.agg(F.count(F.lit(1)), F.sum(LABEL)).collect()[0]
        raw = self.lakehouse.current(RAW)
        transactions: DataFrame | None = None if raw is None else self.lakehouse.read(RAW, raw.version)
        return LabelCounts(
            ledger.count(), int(in_force), int(frauds or 0), waiting(transactions, latest, self.contract)
        )

    def first(self, table: TableVersion, rows: int, columns: Sequence[str]) -> pa.Table:
        """Return the newest rows for a preview."""
        newest = self.lakehouse.read(LABELS, table.version).orderBy(KNOWN_AT, ascending=False)
        return newest.select(*columns).limit(rows).toArrow()
