"""Large files, read piece by piece: one pass finds where rows may be divided, and each piece is read by itself.

What belongs here: dividing CSV and Parquet files, and reading a piece. What does not: decoding (`formats`), what
becomes of the rows (`data/ingest`), where pieces are read (`data/ingest/staging_frames`).

The pass takes the content's hash, which is the file's identity however it is read. A Parquet file says where its rows
lie. A CSV file is divided where a line ends outside of quotes; the quotes of a file that does not keep to RFC 4180
(`5" pipe`) may be misread there, so each piece must turn out to have the rows that were counted. A gzip file can't be
read from its middle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from mlops_assets.data.sources import formats
from mlops_assets.data.sources.base import Piece, ReadPart, SourceBatch, Survey, lower_case_columns
from mlops_assets.data.sources.limits import Limits
from mlops_assets.data.sources.locations import FileKind
from mlops_assets.data.sources.storage import Answered, ask, changed_while_read, disappeared, info_of, revision_of
from mlops_assets.errors import SourceError

# As text and as columns a file takes up to six times its size in memory.
LARGE_BYTES = 256 << 20
PIECE_BYTES = 64 << 20
_BLOCK_BYTES: Final = 512 << 10  # stays in the processor's cache
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Stored:
    """A file in a file system.

    Attributes:
        fs: The file system (fsspec).
        path: Path in it.
        item: The location that led to it, for errors.
        size: Bytes, when it was listed.
    """

    fs: Any
    path: str
    item: str
    size: int


@dataclass(frozen=True)
class LargeFile:
    """A file that can be read piece by piece (`base.LargeInput`).

    Attributes:
        origin: Its name in messages.
        kind: Its format.
        stored: Where it lies.
        limits: How large a piece may be.
        whole: Reads all of it.
        piece_bytes: Bytes of a piece, at least; of a Parquet file uncompressed, at most if its row groups are smaller.
    """

    origin: str
    kind: FileKind
    stored: Stored
    limits: Limits
    whole: ReadPart
    piece_bytes: int

    def __call__(self) -> SourceBatch:
        """Read all of it."""
        return self.whole()

    def survey(self) -> Survey:
        """Return its hash and its pieces; see `base.LargeInput`."""
        revision = self._revision()
        survey = self._asked(
            lambda: self._rows_of_parquet(revision) if self.kind == "parquet" else self._lines(revision)
        )
        self._require(revision)
        return survey

    def read(self, survey: Survey, piece: Piece) -> pa.Table:
        """Return the rows of a piece; see `base.LargeInput`."""
        self._require(survey.revision)
        if self.kind == "parquet":
            table = self._asked(lambda: self._row_groups(piece))
            self._require(survey.revision)
        else:
            text = self._asked(lambda: self._text(survey.header, piece))
            self._require(survey.revision)
            table = formats.read_csv(text, where=self.origin, limits=self.limits, rows_before=piece.first_row)
        if table.num_rows != piece.rows:
            raise SourceError(
                f"{piece.rows:,} rows were counted from row {piece.first_row + 1:,} on and {table.num_rows:,} read: a "
                "quote stands within a field that is not quoted",
                where=self.origin,
                fix=f"quote such fields and double their quotes (RFC 4180), or split it into files below "
                f"{LARGE_BYTES >> 20} MiB",
            )
        return lower_case_columns(table, where=self.origin)

    def _lines(self, revision: object) -> Survey:
        digest, lines, pieces = hashlib.sha256(), _Lines(), list[Piece]()
        header, position, start, first_row, rows = b"", 0, 0, 0, 0
        for block in self._blocks():
            digest.update(block)
            formats.require_text(block, where=self.origin)
            ends = position + 1 + lines.ends(block)
            if not header and len(ends):
                start = int(ends[0])
                header, ends = (block[:start] if position == 0 else b""), ends[1:]
            if not header:
                raise SourceError(
                    "the header can't be read", where=self.origin, fix="name each column in the first line"
                )
            position += len(block)
            while (at := int(np.searchsorted(ends, start + self.piece_bytes))) < len(ends):
                pieces.append(Piece(start, int(ends[at]), first_row, rows + at + 1))
                start, first_row, rows, ends = int(ends[at]), first_row + rows + at + 1, 0, ends[at + 1 :]
            rows += len(ends)
        formats.require_closed(open_quote=lines.quoted, where=self.origin)
        rows += not lines.ended
        if rows:
            pieces.append(Piece(start, position, first_row, rows))
        if not pieces:
            raise formats.without_rows("a header", where=self.origin)
        return Survey(digest.hexdigest(), tuple(pieces), revision, header)

    def _rows_of_parquet(self, revision: object) -> Survey:
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        with self._opened() as stream, formats.whole_parquet(self.origin):
            meta = pa_parquet.ParquetFile(stream).metadata
            sizes = [
                (meta.row_group(g).num_rows, meta.row_group(g).total_byte_size) for g in range(meta.num_row_groups)
            ]
        pieces = list[Piece]()
        start = first_row = rows = size = 0
        for group, (more_rows, more) in enumerate(sizes):
            if rows and size + more > self.piece_bytes:
                pieces.append(Piece(start, group, first_row, rows))
                start, first_row, rows, size = group, first_row + rows, 0, 0
            rows, size = rows + more_rows, size + more
        if rows:
            pieces.append(Piece(start, len(sizes), first_row, rows))
        if not pieces:
            raise formats.without_rows("columns", where=self.origin)
        return Survey(digest.hexdigest(), tuple(pieces), revision)

    def _row_groups(self, piece: Piece) -> pa.Table:
        groups = range(piece.start, piece.stop)
        with formats.whole_parquet(self.origin):
            return formats.read_row_groups(self._opened, where=self.origin, limits=self.limits, groups=groups)

    def _text(self, header: bytes, piece: Piece) -> bytearray:
        size = piece.stop - piece.start
        self.limits.require_bytes(size, where=self.origin)
        text = bytearray(len(header) + size)  # read in place: joining two texts would copy the piece
        text[: len(header)] = header
        with self._opened() as stream:
            stream.seek(piece.start)
            if stream.readinto(memoryview(text)[len(header) :]) != size:
                raise changed_while_read(self.origin)
        return text

    def _blocks(self) -> Iterator[bytes]:
        with self._opened() as stream:
            while block := stream.read(_BLOCK_BYTES):
                yield block

    def _opened(self) -> Any:
        return self.stored.fs.open(self.stored.path, "rb")

    def _revision(self) -> object:
        return revision_of(self._asked(lambda: info_of(self.stored.fs, self.stored.path)))

    def _require(self, revision: object) -> None:
        if self._revision() != revision:
            raise changed_while_read(self.origin)

    def _asked(self, action: Callable[[], Answered]) -> Answered:
        answer = ask(self.stored.item, action, where=self.origin)
        if answer is None:
            raise disappeared(self.origin)
        return answer


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files that nobody changes and that are one input together (`base.LargeInput`); a file is a piece.

    Attributes:
        origin: The input's name in messages.
        content_hash: Its identity.
        paths: The files, in order.
    """

    origin: str
    content_hash: str
    paths: tuple[str, ...]

    def __call__(self) -> SourceBatch:
        """Read all of it."""
        tables = [self._table(path) for path in self.paths]
        return SourceBatch(self.origin, self.content_hash, pa.concat_tables(tables))

    def survey(self) -> Survey:
        """Return its pieces; see `base.LargeInput`."""
        pieces, first_row = list[Piece](), 0
        for at, path in enumerate(self.paths):
            rows = pa_parquet.read_metadata(path).num_rows
            if rows:
                pieces.append(Piece(at, at + 1, first_row, rows))
            first_row += rows
        return Survey(self.content_hash, tuple(pieces), revision=None)

    def read(self, survey: Survey, piece: Piece) -> pa.Table:
        """Return the rows of a piece; see `base.LargeInput`."""
        del survey
        return self._table(self.paths[piece.start])

    def _table(self, path: str) -> pa.Table:
        with pa_parquet.ParquetFile(path) as file:
            return lower_case_columns(file.read(), where=self.origin)


class _Lines:
    """Finds where the lines of a CSV text end, block by block; blank ones are none, as to the parser.

    Attributes:
        quoted: Whether the text so far ends within quotes.
        ended: Whether it ends where a line does.
    """

    def __init__(self) -> None:
        self.quoted, self.ended, self._begun = False, True, False

    def ends(self, block: bytes) -> npt.NDArray[np.int64]:
        """Return the positions in the next block of the characters that end a line which is not blank."""
        if not self._begun and block.startswith(_BYTE_ORDER_MARK):
            block = b"\n\n\n" + block[3:]
        self._begun = True
        text = np.frombuffer(block, np.uint8)
        breaks = text == ord("\n")
        if b"\r" in block:
            breaks |= text == ord("\r")
        if self.quoted or b'"' in block:
            inside = np.logical_xor.accumulate(text == ord('"')) ^ self.quoted
            breaks &= ~inside
            self.quoted = bool(inside[-1])
        first = breaks.copy()
        first[1:] &= ~breaks[:-1]
        first[0] &= not self.ended
        self.ended = bool(breaks[-1])
        return np.flatnonzero(first)
