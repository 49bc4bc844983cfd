"""The summary accounts for every row, and says where figures mean little; a good run has no notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.cli.demo import _write
from mlops_assets.cli.summary import as_text, notes

GOOD: dict[str, Any] = {
    "tables": "/t",
    "rows": 10_000,
    "fraud_rate": 0.02,
    "raw_version": 3,
    "sets": {"train": 6_000, "validation": 1_500, "test": 1_500},
    "set_frauds": {"train": 120, "validation": 31, "test": 30},
    "in_no_set": {"gap": 700, "immature": 300, "unlabelled": 0, "not_arrived": 0},
    "dagster_run_id": "r1",
    "run_id": "m1",
    "tracking_uri": "sqlite:///x",
    "registered_model": "fraud",
    "registered_version": "1",
    "champion": True,
    "gate": "no champion yet",
    "best_point": {"max_depth": 5.0},
    "threshold": {"value": 0.123456, "rule": "cost", "setting": 10.0, "alerts": 9, "rows": 1_500},
    "test_rows": 1_500,
    "test_frauds": 30,
    "test_days": 10,
    "test_alerts": 55,
    "alerts_per_day": 100,
    "launches": [],
    "metrics": {"average_precision": {"estimate": 0.7, "low": 0.6, "high": 0.8}},
}


def test_every_row_between_the_table_and_the_sets_is_explained():
    text = as_text(GOOD, Path("demo.json"), "make ui")

    assert "Sets        train 6,000 (120 frauds), validation 1,500 (31 frauds), test 1,500 (30 frauds)" in text
    assert "In no set   700 in the gaps between sets, 300 with labels too young" in text
    line = "Threshold   0.1235 (least cost at 10 per alert on validation): 55 alerts on the test rows, 5.5 a day"
    assert line in text
    assert "Note:" not in text


def test_a_split_without_gaps_has_no_such_line_and_rows_that_came_since_are_named():
    assert "In no set" not in as_text(
        {**GOOD, "rows": 9_000, "in_no_set": {"gap": 0, "immature": 0}}, Path("demo.json"), "make ui"
    )
    assert "5 loaded since" in as_text({**GOOD, "rows": 10_005}, Path("demo.json"), "make ui")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"set_frauds": {"train": 120, "validation": 29, "test": 30}}, "only 29 frauds in validation"),
        ({"set_frauds": {"train": 120, "validation": 31, "test": 11}}, "only 11 frauds in test"),
        ({"alerts_per_day": 150}, "the daily budget of 150 alerts is as large as the 150 rows of a day"),
        (
            {"set_frauds": {"train": 12, "validation": 31, "test": 30}},
            "0.200% of train are frauds, 2.000% of",
        ),
        ({"set_frauds": {"train": 120, "validation": 31, "test": 100}}, "6.667% of test are frauds"),
    ],
)
def test_figures_that_mean_little_are_noted(change: dict[str, Any], note: str):
    assert notes(GOOD) == []
    (said,) = notes({**GOOD, **change})
    assert said.startswith(note)


def test_each_run_keeps_a_summary_of_its_own_and_the_newest_one_has_the_known_name(tmp_path: Path):
    first, second = _write(tmp_path, GOOD), _write(tmp_path, {**GOOD, "dagster_run_id": "r2"})

    assert [json.loads(path.read_text())["dagster_run_id"] for path in (first, second)] == ["r1", "r2"]
    assert json.loads((tmp_path / "demo.json").read_text())["dagster_run_id"] == "r2"
    assert sorted(path.name for path in (tmp_path / "demos").iterdir()) == ["r1.json", "r2.json"]
