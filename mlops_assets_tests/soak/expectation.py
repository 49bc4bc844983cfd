"""What the tables must hold, computed from the files with plain Python, and how they differ from that.

What belongs here: the rules of the soak's contract, implemented a second time without Arrow, Spark or anything from
`mlops_assets`, and the comparison. What does not: how the files were made (`files`), reading tables (`state`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_LONG = 2**63
_SHOWN = 3

# number, happened, amount, score, fraud
Values = tuple[int, datetime, float, float | None, int]
# The same as text, by column; None where the field was empty.
Original = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Place:
    """Where a row came from: SHA-256 of the file's content, and position in it."""

    batch: str
    row: int


@dataclass
class Expected:
    """What the tables must hold after all files are loaded.

    Attributes:
        files: Files in the folder.
        rows: Rows in them.
        contents: Number of rows of each distinct content, by its hash.
        raw: Rows that the raw table must hold, with their counts.
        aside: Rows that the quarantine must hold, by place.
    """

    files: int = 0
    rows: int = 0
    contents: dict[str, int] = field(default_factory=dict)
    raw: Counter[Values] = field(default_factory=Counter)
    aside: dict[Place, Original] = field(default_factory=dict)


@dataclass
class Actual:
    """What the tables hold, as readers see them.

    Attributes:
        raw: Rows of the raw table, with their places.
        aside: Rows of the quarantine, with their places.
        records: What the manifest records for each batch: rows, accepted, quarantined, already known.
    """

    raw: list[tuple[Place, Values]] = field(default_factory=list)
    aside: list[tuple[Place, Original]] = field(default_factory=list)
    records: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)


def expect(folder: Path, *, has_key: bool) -> Expected:
    """Read all files of a folder and return what loading them must result in.

    Args:
        folder: CSV and CSV.gz files.
        has_key: Whether rows with the same number are one row, of which the latest is kept.

    Raises:
        ValueError: The files don't determine which of two rows is the latest.
    """
    expected = Expected()
    latest: dict[int, Values] = {}
    for path in sorted(folder.glob("[!.]*.csv*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
        expected.files += 1
        expected.rows += len(rows)
        batch = hashlib.sha256(content).hexdigest()
        if batch in expected.contents:
            continue
        expected.contents[batch] = len(rows)
        for position, row in enumerate(rows):
            written = {name.lower(): text or None for name, text in row.items()}
            values = parse(written)
            if values is None:
                expected.aside[Place(batch, position)] = tuple(sorted(written.items()))
            elif not has_key:
                expected.raw[values] += 1
            else:
                _keep_latest(latest, values)
    if has_key:
        expected.raw = Counter(latest.values())
    return expected


def _keep_latest(latest: dict[int, Values], values: Values) -> None:
    before = latest.get(values[0])
    if before is not None and before[1] == values[1] and before != values:
        raise ValueError(f"row {values[0]} occurs twice with the same time and different values")
    if before is None or values[1] > before[1]:
        latest[values[0]] = values


def parse(written: Mapping[str, str | None]) -> Values | None:
    """Return the values of a row that keeps the contract, None for one that does not."""
    try:
        number, fraud = int(written["number"] or ""), int(written["fraud"] or "")
        happened = datetime.fromisoformat(written["happened"] or "").replace(tzinfo=UTC)
        amount = float(written["amount"] or "")
        score = None if written["score"] is None else float(written["score"])
    except ValueError:
        return None
    finite = all(math.isfinite(value) for value in (amount, score or 0.0))
    fits = 0 <= number < _LONG and amount >= 0 and fraud in (0, 1) and finite
    return (number, happened, amount, score, fraud) if fits else None


def problems(expected: Expected, actual: Actual) -> list[str]:
    """Return what is wrong with the tables, one line each; empty if each row is where it must be, exactly once."""
    raw = Counter(values for _, values in actual.raw)
    aside, aside_expected = Counter(place for place, _ in actual.aside), set(expected.aside)
    both = {place for place, _ in actual.raw} & aside.keys()
    records = dict(actual.records)
    uneven = [batch for batch, (rows, accepted, bad, known) in actual.records if rows != accepted + bad + known]
    miscounted = [batch for batch, rows in expected.contents.items() if batch in records and records[batch][0] != rows]
    twice_recorded = [batch for batch, times in Counter(batch for batch, _ in actual.records).items() if times > 1]
    strange = {place.batch for place, _ in actual.raw} - records.keys()
    changed = [
        place for place, original in actual.aside if place in expected.aside and expected.aside[place] != original
    ]
    return [
        f"{len(which):,} {what}: {', '.join(map(str, list(which)[:_SHOWN]))}"
        for what, which in (
            ("rows are missing in the raw table", _more(expected.raw, raw)),
            ("rows too many are in the raw table", _more(raw, expected.raw)),
            ("rows are missing in quarantine", sorted(aside_expected - aside.keys(), key=str)),
            ("rows too many are in quarantine", [place for place in aside.elements() if place not in aside_expected]),
            ("rows are in quarantine twice", [place for place, times in aside.items() if times > 1]),
            ("rows in quarantine have other values than were written", changed),
            ("rows are in both tables", sorted(both, key=str)),
            ("contents are not on record", sorted(expected.contents.keys() - records.keys())),
            ("contents are on record twice", twice_recorded),
            ("records do not add up", uneven),
            ("records have another number of rows than the file", miscounted),
            ("batches in the raw table are not on record", sorted(strange)),
        )
        if which
    ]


def _more(one: Counter[Values], other: Counter[Values]) -> Sequence[Values]:
    return list((one - other).elements())
