"""The independent count: what the tables must hold, and that any error in a table is noticed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops_assets_tests.soak.expectation import Actual, Expected, Place, expect, problems
from mlops_assets_tests.soak.files import plan

HEADER = "Number,Happened,Amount,Score,Fraud\n"
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=[True, False], ids=["with a key", "without a key"])
def dropped(request: pytest.FixtureRequest, tmp_path: Path) -> Expected:
    """What the tables must hold once all pieces of a plan are written."""
    for piece in plan(7, 80, 100.0, has_key=request.param):
        piece.write(tmp_path)
    return expect(tmp_path, has_key=request.param)


def perfect(expected: Expected) -> Actual:
    """Tables that hold what is expected: the good rows in places of their own, as if they came from one batch."""
    batch = next(iter(expected.contents))
    bad: dict[str, int] = dict.fromkeys(expected.contents, 0)
    for place in expected.aside:
        bad[place.batch] += 1
    return Actual(
        raw=[(Place(batch, 10_000 + n), values) for n, values in enumerate(expected.raw.elements())],
        aside=list(expected.aside.items()),
        records=[(name, (rows, rows - bad[name], bad[name], 0)) for name, rows in expected.contents.items()],
    )


def test_a_plan_has_something_of_everything(dropped: Expected):
    assert dropped.files == 80
    assert len(dropped.contents) < dropped.files, "some came twice"
    assert dropped.aside
    assert dropped.raw.total() > 1_000
    assert problems(dropped, perfect(dropped)) == []


def test_a_seed_repeats_the_files_and_their_times():
    assert plan(3, 50, 60.0, has_key=True) == plan(3, 50, 60.0, has_key=True)
    assert plan(3, 50, 60.0, has_key=True) != plan(4, 50, 60.0, has_key=True)


def test_files_come_in_pieces_and_out_of_order():
    pieces = plan(3, 100, 60.0, has_key=True)
    names = [piece.name for piece in pieces]
    assert len(set(names)) == 100 < len(names)
    numbers = [int(name.partition(".")[0][-4:]) for name in dict.fromkeys(names)]
    assert numbers != sorted(numbers)


DOCTORED: dict[str, Callable[[Actual], object]] = {
    "rows are missing in the raw table": lambda actual: actual.raw.pop(),
    "rows too many are in the raw table": lambda actual: actual.raw.append(actual.raw[5]),
    "rows are missing in quarantine": lambda actual: actual.aside.pop(),
    "rows are in quarantine twice": lambda actual: actual.aside.append(actual.aside[0]),
    "rows too many are in quarantine": lambda actual: actual.aside.append((Place("b", 3), actual.aside[0][1])),
    "rows in quarantine have other values": lambda actual: actual.aside.append(
        (actual.aside[0][0], (("number", "9"),))
    ),
    "rows are in both tables": lambda actual: actual.raw.append((actual.aside[0][0], actual.raw[0][1])),
    "contents are not on record": lambda actual: actual.records.pop(),
    "contents are on record twice": lambda actual: actual.records.append(actual.records[0]),
    "records do not add up": lambda actual: actual.records.append(("b", (3, 1, 1, 0))),
    "another number of rows than the file": lambda actual: actual.records.append(
        (actual.records[0][0], (999, 999, 0, 0))
    ),
    "batches in the raw table are not on record": lambda actual: actual.raw.append((Place("b", 0), actual.raw[0][1])),
}


@pytest.mark.parametrize("wrong", DOCTORED)
def test_a_doctored_table_is_noticed(dropped: Expected, wrong: str):
    actual = perfect(dropped)
    before = deepcopy(actual)

    DOCTORED[wrong](actual)

    assert actual != before
    assert any(wrong in problem for problem in problems(dropped, actual))


def test_one_value_that_is_off_is_a_row_lost_and_a_row_too_many(dropped: Expected):
    actual = perfect(dropped)
    place, (number, happened, amount, score, fraud) = actual.raw[4]
    actual.raw[4] = (place, (number, happened, amount + 0.01, score, fraud))

    missing, extra = problems(dropped, actual)

    assert "missing in the raw table" in missing
    assert "too many are in the raw table" in extra
    assert str(number) in missing


def test_the_latest_write_of_a_number_stays_wherever_it_lies(tmp_path: Path):
    (tmp_path / "b.csv").write_text(f"{HEADER}1,2026-01-02 00:00:00,5.00,,0\n2,2026-01-01 00:00:00,1.00,0.5,1\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(f"{HEADER}1,2026-01-01 00:00:00,9.00,,0\n".encode()))
    (tmp_path / ".c.csv.part").write_text("half a")

    expected = expect(tmp_path, has_key=True)

    assert set(expected.raw) == {(1, FIRST.replace(day=2), 5.0, None, 0), (2, FIRST, 1.0, 0.5, 1)}
    assert expect(tmp_path, has_key=False).raw.total() == 3
    (tmp_path / "d.csv").write_text(f"{HEADER}2,2026-01-01 00:00:00,3.00,,1\n")
    with pytest.raises(ValueError, match="row 2 occurs twice"):
        expect(tmp_path, has_key=True)


@pytest.mark.parametrize(
    "row", [",2026-01-01,1,,0", "x1,2026-01-01,1,,0", "1,soon,1,,0", "1,2026-01-01,inf,,0", "1,2026-01-01,-1,,0"]
)
def test_a_bad_row_is_expected_in_quarantine_as_it_was_written(tmp_path: Path, row: str):
    (tmp_path / "a.csv").write_text(f"{HEADER}{row}\n")

    expected = expect(tmp_path, has_key=True)

    assert not expected.raw
    ((place, original),) = expected.aside.items()
    assert replace(place, batch="") == Place("", 0)
    assert [text or "" for _, text in original] == [row.split(",")[n] for n in (2, 4, 1, 0, 3)]
