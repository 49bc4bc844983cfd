"""From a source to Parquet files that Spark can commit: one pass over the input, one file in memory at a time.

What belongs here: separating good from bad rows, and writing both. What does not: which inputs are new (`new_inputs`),
the verdict on the findings (`validation`), the tables (`lakehouse`), Dagster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import call
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, CONTRACT, INGESTED_AT, REPLAY, SOURCE
from mlops_assets.data.contract.clock import require_seconds
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.diff import renamed, require_columns
from mlops_assets.data.ingest.merge import key_range, last_writes
from mlops_assets.data.ingest.new_inputs import StagedInputs, origin_columns, stage_new
from mlops_assets.data.ingest.quarantine import bad_rows, count_reasons
from mlops_assets.data.ingest.validation import InputFindings, LoadFindings

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import ReadPart, SourceBatch, TransactionSource

GOOD, BAD = "good", "bad"
# From so many inputs on it pays to start Python on the executors (`staging_frames`).
MANY_INPUTS = 64
# A large batch is staged as files of equal size, each written by one core, and Spark then reads one file per task: its
# default of 128 MiB is about half a million rows of a wide table. Only few columns repeat their values enough to make
# dictionary encoding worthwhile in a file that is read once.
_FILE_ROWS = 524_288
_GROUP_ROWS = 131_072
_REPEATED = [BATCH_ID, SOURCE, INGESTED_AT, CONTRACT]


@dataclass
class StagedLoad(StagedInputs):
    """The result of staging a source; rows that another row of the same input replaces count as already known.

    Attributes:
        findings: Findings in the new inputs.
        key_range: Smallest and largest key of the staged rows, if the contract has a key.
    """

    findings: LoadFindings = field(default_factory=LoadFindings)
    key_range: tuple[Any, Any] | None = None

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
    for kind in (GOOD, BAD):
        (folder / kind).mkdir()
    load = StagedLoad()

    def stage(batch: SourceBatch, arrived: datetime) -> None:
        _stage(batch, contract, folder, load, arrived, f"{len(load.records):05d}")

    stage_new(source, known, load, stage, now)
    return load


def stage_one(
    read: ReadPart, contract: Contract, folder: Path, known: Collection[str], arrived: datetime, stem: str
) -> StagedLoad:
    """Stage one input of a source as `stage_load` does, in whatever process this is.

    Args:
        read: Reads the input.
        contract: The data contract.
        folder: Folder of the load, with the subfolders `good` and `bad`.
        known: Batch ids that were loaded before.
        arrived: When it came in.
        stem: Beginning of the names of its files; another one for each try.
    """
    load = StagedLoad()
    stage_new(
        Parts([read]),
        known,
        load,
        lambda batch, moment: _stage(batch, contract, folder, load, moment, stem),
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
        whole.known += load.known
        whole.known_rows += load.known_rows
        whole.errors += load.errors
        whole.findings.inputs += load.findings.inputs
        for code, count in load.reasons.items():
            whole.reasons[code] = whole.reasons.get(code, 0) + count
        if load.key_range is not None:
            low, high = whole.key_range or load.key_range
            whole.key_range = (min(low, load.key_range[0]), max(high, load.key_range[1]))
    return whole, used


@dataclass(frozen=True)
class Parts:
    """Inputs of a source that were found before, as a source."""

    reads: Sequence[ReadPart]

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the batch of each; continues after an error."""
        return map(call, self.reads)


def first_staged(folder: Path, rows: int) -> pa.Table | None:
    """Return the first good or bad staged rows, from one batch; None if nothing was staged.

    Args:
        folder: Subfolder `good` or `bad` of the staging folder.
        rows: Maximum number of rows.
    """
    path = min(folder.glob("*.parquet"), default=None)
    if path is None:
        return None
    with pq.ParquetFile(path) as file:
        return pa.Table.from_batches([next(file.iter_batches(batch_size=rows))])


def _stage(
    batch: SourceBatch, contract: Contract, folder: Path, load: StagedLoad, arrived: datetime, stem: str
) -> None:
    batch = replace(batch, table=renamed(batch.table, contract, where=batch.origin))
    require_columns(batch.table.schema, contract, where=batch.origin)
    conformed = conform(batch.table, contract, where=batch.origin)
    times = conformed.table.column(contract.event_time)
    good = times if conformed.bad is None else times.filter(pc.invert(conformed.bad))
    require_seconds(good, contract, where=batch.origin)
    findings = InputFindings.of(conformed, contract, origin=batch.origin)
    load.findings.inputs.append(findings)
    if findings.refused(contract):
        return
    stays = last_writes(conformed.table, contract, None if conformed.bad is None else pc.invert(conformed.bad))
    accepted = findings.rows if stays is None else int(pc.sum(stays).as_py() or 0)
    technical = origin_columns(batch, arrived)
    if accepted:
        _widen(load, conformed.table, stays, contract)
        _write(conformed.table, technical, folder / GOOD / stem, chosen=stays)
    reasons: dict[str, int] = {}
    if findings.bad:
        bad = bad_rows(batch.table, conformed, contract)
        reasons = count_reasons(bad)
        marks = {CONTRACT: pa.scalar(contract.versioned_name), REPLAY: pa.scalar(None, pa.string())}
        _write(bad, technical | marks, folder / BAD / stem)
    load.add(batch, contract, arrived, kind="load", accepted=accepted, bad=findings.bad, reasons=reasons)


def _widen(load: StagedLoad, rows: pa.Table, stays: pa.ChunkedArray | None, contract: Contract) -> None:
    bounds = key_range(rows, contract, stays)
    if bounds is not None:
        low, high = load.key_range or bounds
        load.key_range = (min(low, bounds[0]), max(high, bounds[1]))


def _write(
    rows: pa.Table, repeated: dict[str, pa.Scalar], stem: Path, *, chosen: pa.ChunkedArray | None = None
) -> None:
    """Write the chosen rows as `<stem>-<number>.parquet`, one file per core at a time."""
    at_once = pa.cpu_count()
    files = min(at_once * math.ceil(rows.num_rows / (at_once * _FILE_ROWS)), math.ceil(rows.num_rows / _GROUP_ROWS))
    share = math.ceil(rows.num_rows / files)

    def write(number: int) -> None:
        mask = None if chosen is None else chosen.slice(number * share, share)
        if mask is None or pc.any(mask).as_py():
            _write_file(rows.slice(number * share, share), repeated, Path(f"{stem}-{number:05d}.parquet"), mask)

    with ThreadPoolExecutor(at_once) as cores:
        list(cores.map(write, range(files)))


def _write_file(rows: pa.Table, repeated: dict[str, pa.Scalar], path: Path, chosen: pa.ChunkedArray | None) -> None:
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
