"""What the soak drops into the landing folder, and when: generated from a seed, written without a library.

What belongs here: rows, files and the times at which pieces of them are written. What does not: what the tables should
hold in the end (`expectation`, which reads the folder and knows nothing of this module), processes.

Row numbers are unique, except for rows that are meant to be the same. A file that is written in pieces is cut so that
loading half of it does no harm that the rest does not undo: within a row, which leaves a file that can't be parsed, or
(only with a key) after a row, before anything bad is written.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

HEADER = ("Number", "Happened", "Amount", "Score", "Fraud")
_START = datetime(2026, 1, 1, tzinfo=UTC)
# Column, and the wrong value to put there.
_WRONG = ((0, ""), (0, "x17"), (1, "yesterday"), (2, "-3.50"), (2, "oops"), (2, "inf"), (4, "2"), (4, ""))
_SHARE_BAD, _SHARE_TWICE, _SHARE_PACKED, _SHARE_SLOW, _SHARE_GROWN, _SHARE_OVERLAPS = 0.25, 0.15, 0.2, 0.15, 0.1, 0.25
# Well below the time that a file must stay unchanged before it is taken, and well above it.
_SHORT_PAUSE, _LONG_PAUSE = (0.1, 0.8), (8.0, 16.0)

Row = tuple[str, ...]


@dataclass(frozen=True, order=True)
class Piece:
    """One write to a file.

    Attributes:
        at: Seconds since the beginning.
        number: Order of writes at the same moment.
        name: The file.
        content: Bytes to append.
        hidden: Whether it is written under a temporary name and renamed, so that it appears complete.
    """

    at: float
    number: int
    name: str
    content: bytes
    hidden: bool = False

    def write(self, folder: Path) -> None:
        """Write it."""
        if self.hidden:
            draft = folder / f".{self.name}.part"
            draft.write_bytes(self.content)
            draft.rename(folder / self.name)
            return
        with (folder / self.name).open("ab") as stream:
            stream.write(self.content)


def plan(seed: int, files: int, seconds: float, *, has_key: bool) -> list[Piece]:
    """Return all writes, in order of time.

    Args:
        seed: The same seed gives the same writes.
        files: How many files there are in the end.
        seconds: All files are begun within this time; those written in pieces may end later.
        has_key: Whether rows may come again, changed or not, in other files.
    """
    random = Random(seed)  # noqa: S311 - a soak must be repeatable
    earlier: list[list[Row]] = []
    contents: list[bytes] = []
    pieces: list[Piece] = []

    def add(at: float, name: str, content: bytes, *, hidden: bool = False) -> None:
        pieces.append(Piece(at, len(pieces), name, content, hidden))

    for number in range(files):
        at, name = random.uniform(0, seconds), f"{random.randrange(16**6):06x}-{number:04d}"
        if contents and random.random() < _SHARE_TWICE:
            again = random.choice(contents)
            packed = random.random() < _SHARE_PACKED
            add(at, f"{name}.csv{'.gz' * packed}", gzip.compress(again, mtime=0) if packed else again, hidden=True)
            continue
        rows = _rows(random, number)
        good = list(rows)
        if has_key and earlier and random.random() < _SHARE_OVERLAPS:
            rows += _overlap(random, random.choice(earlier))
        grows = has_key and random.random() < _SHARE_GROWN
        if not grows and random.random() < _SHARE_BAD:
            _spoil(random, rows)
        earlier.append(good)
        content = _text(rows)
        contents.append(content)
        chance = random.random()
        if grows:
            cut = content.rindex(b"\n", 0, len(content) // 2 + len(content) // 4) + 1
            add(at, f"{name}.csv", content[:cut])
            add(at + random.uniform(*_LONG_PAUSE), f"{name}.csv", content[cut:])
        elif chance < _SHARE_SLOW:
            for piece in _pieces(random, content):
                add(at, f"{name}.csv", piece)
                at += random.uniform(*_SHORT_PAUSE)
        elif chance < _SHARE_SLOW + _SHARE_PACKED:
            add(at, f"{name}.csv.gz", gzip.compress(content, mtime=0), hidden=True)
        else:
            add(at, f"{name}.csv", content, hidden=random.random() < 0.5)
    return sorted(pieces)


def _rows(random: Random, file: int) -> list[Row]:
    """Return valid rows of both classes; the order of files differs from the order of their times."""
    count = random.randint(6, 40)
    begin = _START + timedelta(hours=random.randrange(2_000))
    return [
        (
            str(file * 1_000 + number),
            (begin + timedelta(seconds=random.randrange(3_600))).strftime("%Y-%m-%d %H:%M:%S"),
            f"{random.uniform(0, 500):.2f}",
            "" if random.random() < 0.1 else f"{random.gauss(0, 1):.6f}",
            str(int(number < 2 or random.random() < 0.1)),
        )
        for number in range(count)
    ]


def _overlap(random: Random, rows: list[Row]) -> list[Row]:
    """Return rows of another file again: some unchanged, some with a later or an earlier time."""
    repeated = []
    for row in random.sample(rows, k=min(5, len(rows))):
        moved = random.choice((0, 0, 1, -1)) * random.randint(4_000, 90_000)
        if not moved:
            repeated.append(row)
            continue
        happened = datetime.fromisoformat(row[1]) + timedelta(seconds=moved, microseconds=random.randrange(1, 10**6))
        repeated.append((row[0], happened.isoformat(sep=" "), f"{random.uniform(0, 500):.2f}", row[3], row[4]))
    return repeated


def _spoil(random: Random, rows: list[Row]) -> None:
    """Put wrong values into a few rows; the first two, of which one at least is a fraud, stay valid."""
    for position in random.sample(range(2, len(rows)), k=random.randint(1, 3)):
        column, wrong = random.choice(_WRONG)
        row = list(rows[position])
        row[column] = wrong
        rows[position] = tuple(row)


def _text(rows: list[Row]) -> bytes:
    return "".join(f"{','.join(row)}\n" for row in (HEADER, *rows)).encode()


def _pieces(random: Random, content: bytes) -> list[bytes]:
    """Cut within the first values of rows, so that the file can't be parsed until the next piece arrives."""
    ends = [position for position, byte in enumerate(content) if byte == ord("\n")]
    chosen = sorted(random.sample(ends[1:-1], k=min(2, len(ends) - 2)))
    cuts = [0, *(position + 2 for position in chosen), len(content)]
    return [content[start:end] for start, end in pairwise(cuts)]
