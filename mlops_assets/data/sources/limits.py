"""How large an input may be, so that a small file can't take a machine's memory or its time.

What belongs here: the limits, and their error. What does not: decoding (`formats`), fetching (`files`, `download`), the
setting that changes them (`deployment`).

A file is bounded by what it becomes: 48 kB of gzip hold 50 MB of text, 75 kB of Parquet 20 million rows, and a
dictionary of one long text is repeated for a few bits a row. All of them are checked before memory is taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import BinaryIO

from mlops_assets.errors import SettingsError, SourceError

MIB = 1 << 20
_PIECE = 8 * MIB


@dataclass(frozen=True)
class Limits:
    """What one input may hold.

    Attributes:
        megabytes: MiB of the file as it is read, decompressed, and decoded.
        rows: Number of rows.
        columns: Number of columns.
        cells: Rows times columns.
        cell_kilobytes: KiB of one text.

    Raises:
        SettingsError: A limit is not positive.
    """

    megabytes: int = 2_048
    rows: int = 20_000_000
    columns: int = 2_000
    cells: int = 200_000_000
    cell_kilobytes: int = 64

    def __post_init__(self) -> None:
        """Reject limits that nothing could keep."""
        if wrong := [field.name for field in fields(self) if getattr(self, field.name) < 1]:
            raise SettingsError(
                f"{', '.join(wrong)} must be positive", where="limits of inputs", fix="correct MLOPS_INPUT_LIMITS"
            )

    @property
    def size(self) -> int:
        """Bytes of the file as it is read, decompressed, and decoded."""
        return self.megabytes * MIB

    def require(self, limit: str, found: int, *, where: str) -> None:
        """Refuse an input that holds more of something than a limit.

        Args:
            limit: Name of the limit.
            found: What the input holds, in the limit's unit, rounded up.
            where: The input, for errors.

        Raises:
            SourceError: It holds more.
        """
        allowed = getattr(self, limit)
        if found > allowed:
            raise SourceError(
                f"too large: more than {allowed:,} {limit.replace('cell_', 'in a text: ').replace('_', ' ')}",
                where=where,
                fix=f"split the file, or raise `{limit}` in MLOPS_INPUT_LIMITS if it is what you expect",
            )

    def require_bytes(self, found: int, *, where: str) -> None:
        """Refuse an input of more bytes than the limit; as `require`."""
        self.require("megabytes", -(-found // MIB), where=where)

    def require_shape(self, rows: int, columns: int, *, where: str) -> None:
        """Refuse a table of too many rows, columns or cells; as `require`."""
        self.require("columns", columns, where=where)
        self.require("rows", rows, where=where)
        self.require("cells", rows * columns, where=where)


def read_at_most(stream: BinaryIO, size: int) -> bytes:
    """Return the content of a stream, and one byte more than a size of a longer one.

    Piece by piece, because one `read` of a size takes that much memory first, however short the stream is.
    """
    pieces: list[bytes] = []
    left = size + 1
    while left > 0 and (piece := stream.read(min(_PIECE, left))):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


DEFAULT_LIMITS = Limits()
