"""From a source to Parquet files that Spark can commit: one pass over the input, one file in memory at a time.

What belongs here: what becomes of each input, and the account of a load. What does not: which inputs are new
(`new_inputs`), separating and writing the rows of one (`staged_rows`), many or large inputs (`staging_frames`), the
verdict on the findings (`validation`), the tables (`lakehouse`), Dagster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import call
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.data.contract.clock import require_seconds
from mlops_assets.data.ingest.merge import spanned
from mlops_assets.data.ingest.new_inputs import StagedInputs, origin_columns, stage_new
from mlops_assets.data.ingest.staged_files import StagedFiles, make_folders
from mlops_assets.data.ingest.staged_rows import CheckedRows, WrittenRows
from mlops_assets.data.ingest.validation import InputFindings, LoadFindings

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import ReadPart, SourceBatch, TransactionSource

# From so many inputs on it pays to start Python on the executors (`staging_frames`).
MANY_INPUTS = 64


@dataclass
class StagedLoad(StagedInputs):
    """The result of staging a source; rows that another row of the same input replaces count as already known.

    Attributes:
        findings: Findings in the new inputs.
        key_range: Smallest and largest key of the staged rows, if the contract has a key.
        divided: Whether an input was staged piece by piece, so that one of its staged rows may replace another.
    """

    findings: LoadFindings = field(default_factory=LoadFindings)
    key_range: tuple[Any, Any] | None = None
    divided: bool = False

    @property
    def staged_rows(self) -> int:
        """Rows staged for the raw table."""
        return sum(record.accepted for record in self.records)

    @property
    def bad_rows(self) -> int:
        """Rows staged for the quarantine."""
        return sum(record.quarantined for record in self.records)


def stage_load(
    source: TransactionSource,
    contract: Contract,
    folder: Path,
    known: Collection[str],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> StagedLoad:
    """Write the source's new batches as Parquet files into `folder`.

    An input that can't be read or is refused (see `InputFindings.refused`) leaves no file, and the others are still
    staged.

    Args:
        source: The source to read.
        contract: The data contract.
        folder: Empty folder. Good rows go to `good/*.parquet` (the contract's columns, then `TECHNICAL_COLUMNS`), bad
            ones to `bad/*.parquet` (`QUARANTINE_COLUMNS`); no file has rows of two batches.
        known: Batch ids that were loaded before.
        now: The clock; each batch gets a distinct timestamp.

    Raises:
        SourceError: The source as a whole can't be read.
    """
    make_folders(folder)
    load = StagedLoad()

    def stage(batch: SourceBatch, arrived: datetime) -> None:
        _stage(batch, contract, StagedFiles(folder, f"{len(load.records):05d}"), load, arrived)

    stage_new(source, known, load, stage, now)
    return load


def stage_one(
    read: ReadPart, contract: Contract, files: StagedFiles, known: Collection[str], arrived: datetime
) -> StagedLoad:
    """Stage one input of a source as `stage_load` does, in whatever process this is.

    Args:
        read: Reads the input.
        contract: The data contract.
        files: Where to write its rows.
        known: Batch ids that were loaded before.
        arrived: When it came in.
    """
    load = StagedLoad()
    stage_new(
        Parts([read]),
        known,
        load,
        lambda batch, moment: _stage(batch, contract, files, load, moment),
        lambda: arrived,
    )
    return load


def merged(loads: Iterable[StagedLoad]) -> tuple[StagedLoad, set[int]]:
    """Return loads of single inputs as one load, and the positions of those whose files are a part of it.

    Content that came in twice counts once, as in `stage_load`.

    Args:
        loads: What `stage_one` returned, in the order of the inputs.
    """
    whole, used, ids = StagedLoad(), set(), set()
    for at, load in enumerate(loads):
        record = next(iter(load.records), None)
        if record is not None and record.batch_id in ids:
            whole.known.append(record.source)
            whole.known_rows += record.rows
            continue
        if record is not None:
            used.add(at)
            ids.add(record.batch_id)
            whole.records.append(record)
            whole.divided |= load.divided
        whole.known += load.known
        whole.known_rows += load.known_rows
        whole.errors += load.errors
        whole.findings.inputs += load.findings.inputs
        for code, count in load.reasons.items():
            whole.reasons[code] = whole.reasons.get(code, 0) + count
        whole.key_range = spanned([whole.key_range, load.key_range])
    return whole, used


@dataclass(frozen=True)
class Parts:
    """Inputs of a source that were found before, as a source."""

    reads: Sequence[ReadPart]

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the batch of each; continues after an error."""
        return map(call, self.reads)


def first_staged(folder: Path, rows: int) -> pa.Table | None:
    """Return the first good or bad staged rows, of whichever input; None if nothing was staged.

    Args:
        folder: Subfolder `good` or `bad` of the staging folder.
        rows: Maximum number of rows.
    """
    path = min(folder.glob("*.parquet"), default=None)
    if path is None:
        return None
    with pq.ParquetFile(path) as file:
        return pa.Table.from_batches([next(file.iter_batches(batch_size=rows))])


def _stage(batch: SourceBatch, contract: Contract, files: StagedFiles, load: StagedLoad, arrived: datetime) -> None:
    rows = CheckedRows.of(batch.table, contract, where=batch.origin)
    require_seconds(rows.times.earliest, rows.times.latest, contract, where=batch.origin)
    load.findings.inputs.append(rows.findings)
    if not rows.findings.refused(contract):
        marks = origin_columns(batch.origin, batch.content_hash, arrived)
        written = [rows.write(contract, marks, files)]
        add_written(load, batch.origin, batch.content_hash, rows.findings, written, contract, arrived)


def add_written(
    load: StagedLoad,
    origin: str,
    content_hash: str,
    findings: InputFindings,
    written: Sequence[WrittenRows],
    contract: Contract,
    arrived: datetime,
) -> None:
    """Record an input whose rows are staged.

    Args:
        load: The load.
        origin: The input.
        content_hash: Its identity.
        findings: Findings in it.
        written: What was written of it, piece by piece.
        contract: The contract that it was checked against.
        arrived: When it came in.
    """
    reasons: Counter[str] = Counter()
    for piece in written:
        reasons.update(piece.reasons)
        load.key_range = spanned([load.key_range, piece.key_range])
    load.add(
        origin,
        content_hash,
        contract,
        arrived,
        kind="load",
        rows=findings.rows,
        accepted=sum(piece.accepted for piece in written),
        bad=findings.bad,
        reasons=dict(sorted(reasons.items(), key=lambda counted: (-counted[1], counted[0]))),
    )
