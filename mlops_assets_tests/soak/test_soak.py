"""A short soak with real processes, and the cutting of a month into days."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets_tests.browser.dagster_dev import left_behind
from mlops_assets_tests.soak.daily_files import days_of
from mlops_assets_tests.soak.installation import Installation
from mlops_assets_tests.soak.soaking import EVERYTHING, Soak, SoakSize


@pytest.mark.proof  # three JVMs in a row, at least one of them killed with its run
@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_key", [True, False], ids=["with a key", "without a key"])
def test_every_row_is_where_it_must_be_once_whatever_is_killed(tmp_path: Path, shared_home: Path, has_key: bool):
    ensure_delta_jars(shared_home / "jars")
    home = tmp_path / "home"
    home.mkdir()
    there = Installation.prepare(home, shared_home / "jars", has_key=has_key)
    lines: list[str] = []
    try:
        size = SoakSize(seed=11, files=40, seconds=40, limit=600, has_key=has_key)
        report = Soak(there, size, lines.append).run()
    finally:
        there.close()

    assert report.wrong == [], report.table()
    assert report.expected.files == 40
    assert report.kills[EVERYTHING] >= 1, report.table()
    assert lines
    assert left_behind(home) == []


def test_a_month_is_cut_by_the_day_of_its_events(tmp_path: Path):
    times = [datetime(2018, 5, 1) + timedelta(hours=5 * number) for number in range(20)]  # noqa: DTZ001 - as in the file
    pq.write_table(pa.table({"TX_DATETIME": times, "x": range(20)}), tmp_path / "may.parquet")

    days = days_of(tmp_path / "may.parquet")

    assert [(day, rows.num_rows) for day, rows in days] == [
        (date(2018, 5, 1), 5),
        (date(2018, 5, 2), 5),
        (date(2018, 5, 3), 5),
        (date(2018, 5, 4), 5),
    ]
    assert [value for _, rows in days for value in rows.column("x").to_pylist()] == list(range(20))
