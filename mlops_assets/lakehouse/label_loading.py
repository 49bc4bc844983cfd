"""Loading new label files into the table of late labels.

What belongs here: the steps, and a report on every file and row. What does not: reading and judging rows
(`data/labels`), the commit (`label_store`), how a report is shown (assets).

Hold `lakehouse.exclusive(LABELS)` around it; if another writer was faster (`StaleBaseError`), start over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops_assets.data.ingest.new_inputs import StagedInputs
from mlops_assets.data.labels.labels import label_files_readable, label_table_columns, labels_accounted, stage_labels
from mlops_assets.errors import UnreachableError, are_transient
from mlops_assets.lakehouse.label_store import LabelCounts, LabelStore
from mlops_assets.lakehouse.transaction_tables import LABELS

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.sources.base import TransactionSource
    from mlops_assets.lakehouse.commits import TableVersion

PREVIEW_ROWS, _PREVIEW_COLUMNS = 5, 4


@dataclass(frozen=True)
class LabelReport:
    """The result of a load of label files.

    Attributes:
        accounted: The verdict of `LABEL_CHECKS` on the table; it means nothing if every file was refused.
        readable: The verdict on the files.
        refusal: What was refused; the error message if a check failed.
        blames_input: Whether the same files would be refused again.
        transient: Whether files that can't be read may be readable soon.
        staged: The staged files.
        table: The table afterwards; None before the first label.
        counts: Its counts; None without a table.
        first_rows: Its first rows; None without a table.
    """

    accounted: CheckOutcome
    readable: CheckOutcome
    refusal: str
    blames_input: bool
    transient: bool
    staged: StagedInputs
    table: TableVersion | None = None
    counts: LabelCounts | None = None
    first_rows: pa.Table | None = None

    @property
    def refused_whole(self) -> bool:
        """Whether every file was refused, so that nothing was written."""
        return bool(self.staged.errors) and not (self.staged.records or self.staged.known)


def load_labels(store: LabelStore, source: TransactionSource) -> LabelReport:
    """Append the label files that the table does not have.

    Raises:
        PlatformError: The files can't be listed, or the table can't be written.
        StaleBaseError: Someone else has written since; start over.
    """
    with store.lakehouse.staging(LABELS) as folder:
        table = store.current()
        staged = stage_labels(source, store.contract, folder, store.batches(table))
        written = 0
        if staged.records:
            table = store.commit(table, staged, folder)
            written = table.rows_written
    refused = ", ".join(error.where for error in staged.errors)
    report = LabelReport(
        accounted=labels_accounted(staged, written),
        readable=label_files_readable(staged),
        refusal=f"refused {refused}; none of their rows were written" if refused else f"{LABELS} is incomplete",
        blames_input=any(not isinstance(error, UnreachableError) for error in staged.errors),
        transient=are_transient(staged.errors),
        staged=staged,
    )
    if table is None or report.refused_whole:
        return report
    names = list(label_table_columns(store.contract))[:_PREVIEW_COLUMNS]
    first = store.first(table, PREVIEW_ROWS, names)
    return replace(report, table=table, counts=store.count(table), first_rows=first)
