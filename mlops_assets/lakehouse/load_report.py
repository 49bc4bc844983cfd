"""What a run did to the tables of transactions, and what they hold afterwards.

What belongs here: the report, which assets show. What does not: making one (`loading`), the report on labels
(`label_loading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.lakehouse.batches import Batch
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.transaction_tables import Totals


@dataclass(frozen=True)
class LoadedTables:
    """The raw table and the quarantine afterwards.

    Attributes:
        raw: Raw table.
        quarantined: Quarantine; None before the first bad row.
        totals: Their row counts.
        first_rows: First rows of the raw table or of the load, with the contract's columns.
        first_quarantined: First rows of the quarantine or of the load's bad rows (`QUARANTINE_COLUMNS`).
    """

    raw: TableVersion
    quarantined: TableVersion | None
    totals: Totals
    first_rows: pa.Table
    first_quarantined: pa.Table


@dataclass(frozen=True)
class LoadReport:
    """The result of a load, a replay, a merge of labels or a revert.

    Attributes:
        of_table: One verdict per check of `TABLE_CHECKS`, in that order; none if nothing was written.
        of_inputs: Verdicts of `INPUT_CHECKS`; none if no input was read.
        refusal: What was refused; the error message if a check failed.
        blames_input: Whether the same inputs would be refused again.
        transient: Whether inputs that can't be read may be readable soon.
        summary: The outcome in one line; empty if the whole load was refused.
        tables: The tables afterwards; None if the whole load was refused and nothing was written.
        rows: Rows read from inputs that were not refused; in a replay, the rows that were in quarantine.
        accepted: Rows written to the raw table, by its log.
        quarantined: Rows written to the quarantine, by its log; after a replay, the rows that stay there.
        known: Rows that were known already, by their input or by their key.
        set_aside: Rows added to the quarantine.
        frauds_set_aside: Frauds among them.
        reasons: Rows set aside per reason code.
        labels_merged: Rows of the raw table that got a late label.
        inputs_added: Inputs that were loaded.
        inputs_known: Inputs that were loaded before.
        inputs_refused: Inputs that were refused.
        accepted_changes: What the load changes although it is more than the contract allows, and why; empty if nothing.
        reverted: Batches that were taken out again.
        removed: Rows of the raw table that a revert took out.
        restored: Rows of the raw table that an earlier row of their key has replaced in a revert.
    """

    of_table: Sequence[CheckOutcome] = ()
    of_inputs: Sequence[CheckOutcome] = ()
    refusal: str = ""
    blames_input: bool = False
    transient: bool = False
    summary: str = ""
    tables: LoadedTables | None = None
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    known: int = 0
    set_aside: int = 0
    frauds_set_aside: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    labels_merged: int = 0
    inputs_added: Sequence[str] = ()
    inputs_known: Sequence[str] = ()
    inputs_refused: Sequence[str] = ()
    accepted_changes: str = ""
    reverted: Sequence[Batch] = ()
    removed: int = 0
    restored: int = 0

    @property
    def outcomes(self) -> list[CheckOutcome]:
        """All verdicts; if one of them failed, the run fails."""
        return [*self.of_table, *self.of_inputs]
