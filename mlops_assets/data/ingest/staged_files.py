"""The Parquet files from which Spark commits the rows of a load.

What belongs here: how staged rows lie in files, writing them, and leaving some out again. What does not: which rows
they are (`staged_rows`, `retried_rows`), the commits (`lakehouse`).

Rows of many small inputs share a file where they are staged one after another: Spark takes some milliseconds for each
file, whatever is in it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, CONTRACT, INGESTED_AT, SOURCE

GOOD, BAD = "good", "bad"
# A large batch is staged as files of equal size, each written by one core, and Spark then reads one file per task: its
# default of 128 MiB is about half a million rows of a wide table. Only few columns repeat their values enough to make
# dictionary encoding worthwhile in a file that is read once.
_FILE_ROWS: Final = 524_288
_GROUP_ROWS: Final = 131_072
_REPEATED: Final = (BATCH_ID, SOURCE, INGESTED_AT, CONTRACT)


def make_folders(folder: Path) -> None:
    """Make the subfolders of an empty staging folder."""
    for kind in (GOOD, BAD):
        (folder / kind).mkdir()


@dataclass
class StagedFiles:
    """Files of one writer: `good/<stem>-*.parquet` and `bad/<stem>-*.parquet`.

    Attributes:
        folder: The staging folder.
        stem: Beginning of the files' names, without a hyphen; each writer has its own.
        shared: Whether rows of several small inputs lie in one file; all of them are there after `close`.
    """

    folder: Path
    stem: str
    shared: bool = False
    _held: dict[str, list[pa.Table]] = field(default_factory=lambda: {GOOD: [], BAD: []})
    _files: int = 0

    def write(
        self,
        kind: str,
        rows: pa.Table,
        repeated: Mapping[str, pa.Scalar],
        *,
        chosen: pa.ChunkedArray | None = None,
    ) -> None:
        """Write rows of an input, some of which are chosen.

        Args:
            kind: `good` or `bad`.
            rows: The rows.
            repeated: More columns, with one value for all rows.
            chosen: Which of them to write, one bool per row; None for all.
        """
        if not self.shared or rows.num_rows >= _GROUP_ROWS:
            _write(rows, repeated, self._next(kind), chosen)
            return
        held = self._held[kind]
        held.append(_completed(rows, repeated, chosen))
        if sum(table.num_rows for table in held) >= _GROUP_ROWS:
            self._write_held(kind)

    def close(self) -> None:
        """Write what is still in memory."""
        for kind, held in self._held.items():
            if held:
                self._write_held(kind)

    def _write_held(self, kind: str) -> None:
        _write_file(pa.concat_tables(self._held[kind]), {}, f"{self._next(kind)}-0.parquet", None)
        self._held[kind] = []

    def _next(self, kind: str) -> Path:
        self._files += 1
        return self.folder / kind / f"{self.stem}-{self._files:05d}"


def stem_of(file: Path) -> str:
    """Return the beginning of a staged file's name that its writer has chosen."""
    return file.name.partition("-")[0]


def leave_out(file: Path, arrivals: Collection[datetime]) -> None:
    """Leave out of a shared file the rows of the inputs that arrived at these moments, which no two inputs share."""
    with pq.ParquetFile(file) as reader:
        rows = reader.read()
    moments = pa.array(arrivals, rows.schema.field(INGESTED_AT).type)
    rows = rows.filter(pc.invert(pc.is_in(rows.column(INGESTED_AT), moments)))
    if rows.num_rows:
        _write_file(rows, {}, str(file), None)
    else:
        file.unlink()


def _write(rows: pa.Table, repeated: Mapping[str, pa.Scalar], stem: Path, chosen: pa.ChunkedArray | None) -> None:
    """Write the chosen rows as `<stem>-<number>.parquet`, one file per core at a time."""
    at_once = pa.cpu_count()
    files = min(at_once * math.ceil(rows.num_rows / (at_once * _FILE_ROWS)), math.ceil(rows.num_rows / _GROUP_ROWS))
    share = math.ceil(rows.num_rows / files)

    def write(number: int) -> None:
        mask = None if chosen is None else chosen.slice(number * share, share)
        if mask is None or pc.any(mask).as_py():
            _write_file(rows.slice(number * share, share), repeated, f"{stem}-{number:05d}.parquet", mask)

    if files == 1:  # of a small input, threads would cost more than the rows
        write(0)
        return
    with ThreadPoolExecutor(at_once) as cores:
        list(cores.map(write, range(files)))


def _write_file(rows: pa.Table, repeated: Mapping[str, pa.Scalar], path: str, chosen: pa.ChunkedArray | None) -> None:
    """Write the chosen rows in groups: copying all at once would double the memory and take longer."""
    schema = _completed(rows.slice(0, 0), repeated, None).schema
    dictionary = [name for name in _REPEATED if name in schema.names]
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=dictionary) as writer:
        for start in range(0, rows.num_rows, _GROUP_ROWS):
            mask = None if chosen is None else chosen.slice(start, _GROUP_ROWS)
            writer.write_table(_completed(rows.slice(start, _GROUP_ROWS), repeated, mask))


def _completed(rows: pa.Table, repeated: Mapping[str, pa.Scalar], chosen: pa.ChunkedArray | None) -> pa.Table:
    """Return the chosen rows with the columns whose values repeat."""
    rows = rows if chosen is None else rows.filter(chosen)
    repeats = [pa.repeat(value, rows.num_rows) for value in repeated.values()]
    return pa.table([*rows.columns, *repeats], names=[*rows.column_names, *repeated])
