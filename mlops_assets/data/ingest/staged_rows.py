"""The rows of an input, or of a piece of one: checked against the contract, and written for Spark to commit.

What belongs here: separating good from bad rows, and writing both. What does not: how they lie in files
(`staged_files`), whether the input is refused (`validation`), the account of a load (`staging`), what makes a row good
(`conform`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import CONTRACT, REPLAY, ROW_NUMBER
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.diff import renamed, require_columns
from mlops_assets.data.ingest.merge import key_range, last_writes
from mlops_assets.data.ingest.quarantine import bad_rows, count_reasons
from mlops_assets.data.ingest.staged_files import BAD, GOOD, StagedFiles
from mlops_assets.data.ingest.validation import InputFindings

if TYPE_CHECKING:
    from mlops_assets.data.contract.conform import ConformedBatch
    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class Times:
    """Event times of good rows, in the contract's type; all None if there are none.

    Attributes:
        first: Of the first row.
        last: Of the last row.
        earliest: The smallest.
        latest: The greatest.
    """

    first: Any = None
    last: Any = None
    earliest: Any = None
    latest: Any = None


@dataclass(frozen=True)
class WrittenRows:
    """What was written.

    Attributes:
        accepted: Rows staged for the raw table; good rows that another one replaces are not.
        bad: Rows staged for the quarantine.
        reasons: Those per reason code, most frequent first; a row counts under each of its reasons.
        key_range: Smallest and largest key of the accepted rows, if there are any and the contract has a key.
    """

    accepted: int
    bad: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    key_range: tuple[Any, Any] | None = None


@dataclass(frozen=True)
class CheckedRows:
    """Rows that were checked against the contract.

    Attributes:
        raw: The rows as they were read, under the contract's names.
        conformed: The same rows, in its types; they are numbered from 0.
        findings: Findings in them.
        times: Their event times.
        first_row: Position in the input of the first one.
    """

    raw: pa.Table
    conformed: ConformedBatch
    findings: InputFindings
    times: Times
    first_row: int = 0

    @classmethod
    def of(cls, table: pa.Table, contract: Contract, *, where: str, first_row: int = 0) -> CheckedRows:
        """Check rows.

        Args:
            table: The table of a `SourceBatch`, or some rows of it that follow each other.
            contract: The data contract.
            where: The input.
            first_row: Position in the input of the first row.

        Raises:
            SchemaMismatchError: Columns are missing or unknown.
        """
        table = renamed(table, contract, where=where)
        require_columns(table.schema, contract, where=where)
        conformed = conform(table, contract, where=where)
        times = conformed.table.column(contract.event_time)
        times = times if conformed.bad is None else times.filter(pc.invert(conformed.bad))
        findings = InputFindings.of(conformed, contract, origin=where)
        return cls(table, conformed, findings, _times(times), first_row)

    def write(self, contract: Contract, marks: Mapping[str, pa.Scalar], files: StagedFiles) -> WrittenRows:
        """Write the rows into a staging folder.

        Args:
            contract: The data contract.
            marks: Values of the technical columns that are the same for all rows (`new_inputs.origin_columns`).
            files: Where to write good rows (the contract's columns, then `TECHNICAL_COLUMNS`) and bad ones
                (`QUARANTINE_COLUMNS`).
        """
        rows, findings = self.conformed.table, self.findings
        stays = last_writes(rows, contract, None if self.conformed.bad is None else pc.invert(self.conformed.bad))
        accepted = findings.rows if stays is None else int(pc.sum(stays).as_py() or 0)
        if accepted:
            files.write(GOOD, self._numbered(rows), marks, chosen=stays)
        reasons: dict[str, int] = {}
        if findings.bad:
            bad = bad_rows(self.raw, self.conformed, contract)
            reasons = count_reasons(bad)
            of_bad = {CONTRACT: pa.scalar(contract.versioned_name), REPLAY: pa.scalar(None, pa.string())}
            files.write(BAD, self._numbered(bad), {**marks, **of_bad})
        keys = key_range(rows, contract, stays) if accepted else None
        return WrittenRows(accepted, findings.bad, reasons, keys)

    def _numbered(self, rows: pa.Table) -> pa.Table:
        """Return rows with their positions in the input."""
        if not self.first_row:
            return rows
        at = rows.column_names.index(ROW_NUMBER)
        return rows.set_column(at, ROW_NUMBER, pc.add(rows.column(at), self.first_row))


def _times(times: pa.ChunkedArray) -> Times:
    if not len(times):
        return Times()
    bounds = pc.min_max(times).as_py()
    return Times(times[0].as_py(), times[-1].as_py(), bounds["min"], bounds["max"])
