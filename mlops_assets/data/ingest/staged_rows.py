"""The rows of an input, or of a piece of one: checked against the contract, and written for Spark to commit.

What belongs here: separating good from bad rows, and writing both as Parquet files. What does not: whether the input is
refused (`validation`), the account of a load (`staging`), what makes a row good (`conform`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, CONTRACT, INGESTED_AT, REPLAY, ROW_NUMBER, SOURCE
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.diff import renamed, require_columns
from mlops_assets.data.ingest.merge import key_range, last_writes
from mlops_assets.data.ingest.quarantine import bad_rows, count_reasons
from mlops_assets.data.ingest.validation import InputFindings

if TYPE_CHECKING:
    from mlops_assets.data.contract.conform import ConformedBatch
    from mlops_assets.data.contract.contract import Contract

GOOD, BAD = "good", "bad"
# A large batch is staged as files of equal size, each written by one core, and Spark then reads one file per task: its
# default of 128 MiB is about half a million rows of a wide table. Only few columns repeat their values enough to make
# dictionary encoding worthwhile in a file that is read once.
_FILE_ROWS = 524_288
_GROUP_ROWS = 131_072
_REPEATED = [BATCH_ID, SOURCE, INGESTED_AT, CONTRACT]


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

    def write(self, contract: Contract, marks: Mapping[str, pa.Scalar], folder: Path, stem: str) -> WrittenRows:
        """Write the rows as Parquet files into a staging folder.

        Args:
            contract: The data contract.
            marks: Values of the technical columns that are the same for all rows (`new_inputs.origin_columns`).
            folder: Good rows go to `good/<stem>-*.parquet` (the contract's columns, then `TECHNICAL_COLUMNS`), bad ones
                to `bad/<stem>-*.parquet` (`QUARANTINE_COLUMNS`).
            stem: Beginning of the files' names.
        """
        rows, findings = self.conformed.table, self.findings
        stays = last_writes(rows, contract, None if self.conformed.bad is None else pc.invert(self.conformed.bad))
        accepted = findings.rows if stays is None else int(pc.sum(stays).as_py() or 0)
        if accepted:
            _write(self._numbered(rows), marks, folder / GOOD / stem, chosen=stays)
        reasons: dict[str, int] = {}
        if findings.bad:
            bad = bad_rows(self.raw, self.conformed, contract)
            reasons = count_reasons(bad)
            of_bad = {CONTRACT: pa.scalar(contract.versioned_name), REPLAY: pa.scalar(None, pa.string())}
            _write(self._numbered(bad), {**marks, **of_bad}, folder / BAD / stem)
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


def _write(
    rows: pa.Table, repeated: Mapping[str, pa.Scalar], stem: Path, *, chosen: pa.ChunkedArray | None = None
) -> None:
    """Write the chosen rows as `<stem>-<number>.parquet`, one file per core at a time."""
    at_once = pa.cpu_count()
    files = min(at_once * math.ceil(rows.num_rows / (at_once * _FILE_ROWS)), math.ceil(rows.num_rows / _GROUP_ROWS))
    share = math.ceil(rows.num_rows / files)

    def write(number: int) -> None:
        mask = None if chosen is None else chosen.slice(number * share, share)
        if mask is None or pc.any(mask).as_py():
            _write_file(rows.slice(number * share, share), repeated, Path(f"{stem}-{number:05d}.parquet"), mask)

    if files == 1:  # of many small inputs, threads would cost more than the rows
        write(0)
        return
    with ThreadPoolExecutor(at_once) as cores:
        list(cores.map(write, range(files)))


def _write_file(rows: pa.Table, repeated: Mapping[str, pa.Scalar], path: Path, chosen: pa.ChunkedArray | None) -> None:
    """Write the chosen rows in groups: copying all at once would double the memory and take longer."""
    columns = [pa.field(name, values.type) for name, values in zip(rows.column_names, rows.columns, strict=True)]
    columns += [pa.field(name, value.type) for name, value in repeated.items()]
    dictionary = [name for name in _REPEATED if name in repeated]
    with pq.ParquetWriter(path, pa.schema(columns), compression="lz4", use_dictionary=dictionary) as writer:
        for start in range(0, rows.num_rows, _GROUP_ROWS):
            group = rows.slice(start, _GROUP_ROWS)
            group = group if chosen is None else group.filter(chosen.slice(start, _GROUP_ROWS))
            repeats = [pa.repeat(value, group.num_rows) for value in repeated.values()]
            writer.write_table(pa.table([*group.columns, *repeats], schema=writer.schema))
