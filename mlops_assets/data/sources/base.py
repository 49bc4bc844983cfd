"""What every source of transactions has in common: batches of rows, each with an identity.

What belongs here: the batch, the protocol, and the rule for column names. What does not: any one source, and what the
rows mean (`contract`, `conform`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar, runtime_checkable

import pyarrow as pa

from mlops_assets.errors import SchemaMismatchError, SourceError

_Found = TypeVar("_Found")
_SHOWN = 10


@dataclass(frozen=True)
class SourceBatch:
    """Rows that came in together.

    Attributes:
        origin: Where they came from, safe to show: a path or URL without credentials and query,
            `openml:<name>@<version>`, or `<generator>:<parameters>`.
        content_hash: SHA-256 (hex) of the content and of nothing else: the batch's identity. A file that is copied,
            renamed or compressed again keeps its hash.
        table: The rows in the input's order; column names lower-cased. Columns of text formats (CSV, ARFF) are strings
            as written, null for an empty field; columns of Parquet and of generated data keep their types.
    """

    origin: str
    content_hash: str
    table: pa.Table


class TransactionSource(Protocol):
    """Something that yields batches of raw transactions."""

    def batches(self) -> Iterator[SourceBatch]:
        """Yield one batch per file (a generated or downloaded set counts as one file).

        Batches are read one at a time, on demand, and none is kept. After an error about one batch the iterator may be
        asked for the next: it goes on if it can, and ends if it can't.

        Raises:
            SourceError: The input can't be fetched, or can't be read as a table; its `where` names the file.
            SchemaMismatchError: Two columns differ only by case.
        """
        ...


Reach = Literal["process", "machine", "all"]
# Reads one input, also in another process: it can be pickled. Errors as those of `TransactionSource.batches`.
ReadPart = Callable[[], SourceBatch]


@dataclass(frozen=True)
class Piece:
    """Rows of a large input that follow each other.

    Attributes:
        start: Where they begin, in the input's own unit: bytes of a text, row groups of a Parquet file.
        stop: Where they end, exclusive.
        first_row: Position in the input of the first one.
        rows: Number of rows.
    """

    start: int
    stop: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Survey:
    """What one pass over a large input has found; it can be pickled.

    Attributes:
        content_hash: As that of a `SourceBatch`.
        pieces: All rows, in order.
        revision: The content that was looked at: pieces of another one are not read.
        header: What stands before the first row of a text.
    """

    content_hash: str
    pieces: tuple[Piece, ...]
    revision: object
    header: bytes = b""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(piece.rows for piece in self.pieces)


@runtime_checkable
class LargeInput(Protocol):
    """A `ReadPart` whose rows may be too many for the memory of one process."""

    @property
    def origin(self) -> str:
        """As that of a `SourceBatch`."""
        ...

    def __call__(self) -> SourceBatch:
        """Read all of it, as a `ReadPart` does."""
        ...

    def survey(self) -> Survey:
        """Return identity and pieces; memory does not grow with the input. Errors as of `TransactionSource.batches`."""
        ...

    def read(self, survey: Survey, piece: Piece) -> pa.Table:
        """Return the rows of a piece, as the table of a `SourceBatch`.

        Raises:
            SourceError: They can't be read as a table.
            SchemaMismatchError: Two columns differ only by case.
            UnreachableError: The input has changed since the survey.
        """
        ...


@dataclass(frozen=True)
class Division:
    """The inputs of a source, to be read apart from each other.

    Attributes:
        reads: What reads each input (a `LargeInput` for large ones), in the order of `batches`.
        seen_by: Who sees the same inputs: this process, this machine, or all machines.
    """

    reads: Sequence[ReadPart]
    seen_by: Reach


@runtime_checkable
class DividedSource(TransactionSource, Protocol):
    """A source whose inputs can be read apart from each other."""

    def divided(self, folder: Path, known: Collection[str]) -> Division:
        """Return what reads each input.

        Args:
            folder: Where the source may keep rows until they are read: a folder that is not there yet.
            known: Identities of batches that need not be read.

        Raises:
            SourceError: The source as a whole can't be read.
        """
        ...


def found_of(inputs: Iterable[_Found]) -> tuple[list[_Found], list[ReadPart]]:
    """Return the inputs that a source finds until an error, and what raises that error when read; none without one.

    So what came before it is loaded nevertheless.
    """
    found: list[_Found] = []
    try:
        found.extend(inputs)
    except SourceError as error:
        return found, [partial(_refuse, error)]
    return found, []


def _refuse(problem: SourceError) -> SourceBatch:
    raise problem


def content_hash(content: bytes) -> str:
    """Return the SHA-256 of `content` as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def table_hash(table: pa.Table) -> str:
    """Return the SHA-256 of the names and values of a generated table, which has no nulls, as 64 hex digits."""
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(name.encode())
        digest.update(table.column(name).to_numpy().tobytes())
    return digest.hexdigest()


def lower_case_columns(table: pa.Table, *, where: str) -> pa.Table:
    """Return the same columns under lower-cased names, without schema metadata (it would repeat the old names).

    Args:
        table: A table as it was read.
        where: The input, for errors.

    Raises:
        SourceError: A column has no name, or two have the same one.
        SchemaMismatchError: Two names become equal when lower-cased.
    """
    names = [name or "" for name in table.column_names]
    nameless = [position for position, name in enumerate(names, start=1) if not name.strip()]
    if nameless:
        raise SourceError(
            f"column {nameless[0]} of {len(names)} has no name",
            where=where,
            fix="name each column in the header; a row index that pandas wrote is left out with `index=False`",
        )
    if twice := _repeated(names):
        raise SourceError(f"duplicate columns: {twice}", where=where, fix="keep one of each, or rename one")
    lowered = [name.lower() for name in names]
    if clashes := _repeated(names, lowered):
        raise SchemaMismatchError(
            f"columns that differ only by case: {clashes}",
            where=where,
            fix="keep one of each, or rename one: names are compared without case everywhere",
        )
    return table.rename_columns(lowered).replace_schema_metadata(None)


def _repeated(names: list[str], compared: list[str] | None = None) -> str:
    """Return the first few names that occur more than once, for a message; in time that grows with their number."""
    seen = compared or names
    counts = Counter(seen)
    found = sorted({name for name, key in zip(names, seen, strict=True) if counts[key] > 1})
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
