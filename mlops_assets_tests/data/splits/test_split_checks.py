"""The blocking checks of a split, each fed what it must refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlops_assets.data.splits.split import SplitSpec
from mlops_assets.data.splits.split_checks import SPLIT_CHECKS, SetSummary, judge_sets

DAY = 86_400.0
GOOD = {
    "train": SetSummary(rows=600, frauds=6, first=0.0, last=5 * DAY),
    "validation": SetSummary(rows=200, frauds=2, first=6 * DAY + 1, last=7 * DAY),
    "test": SetSummary(rows=200, frauds=1, first=8 * DAY + 1, last=9 * DAY),
}
KNOWN: dict[str, Any] = {
    "raw_rows": 1_010,
    "gap_rows": 10,
    "left_out": {"immature": (0, 0), "unlabelled": (0, 0)},
    "shared": 0,
    "spec": SplitSpec(gap_days=1),
    "time_zone": "UTC",
    "min_rows": 200,
}
WAITING = {"immature": (4, 2), "unlabelled": (3, 0)}


def failed(summaries: dict[str, SetSummary], **changes: Any) -> dict[str, str]:
    outcomes = judge_sets(summaries, **{**KNOWN, **changes})
    assert [outcome.name for outcome in outcomes] == list(SPLIT_CHECKS)
    return {outcome.name: outcome.description for outcome in outcomes if not outcome.passed}


def with_set(name: str, **changes: Any) -> dict[str, SetSummary]:
    return {**GOOD, name: replace(GOOD[name], **changes)}


def test_good_sets_pass_every_check():
    assert failed(GOOD) == {}
    assert failed(dict(reversed(GOOD.items()))) == {}
    assert failed(GOOD, left_out=WAITING, raw_rows=1_017) == {}


@pytest.mark.parametrize(
    ("summaries", "changes", "expected"),
    [
        (GOOD, {"shared": 3}, {"disjoint": "3 rows are in more than one set"}),
        (GOOD, {"raw_rows": 1_011}, {"complete": "1,000 rows in sets + 10 in the gap of 1,011 raw rows"}),
        (GOOD, {"gap_rows": 0}, {"complete": "1,000 rows in sets + 0 in the gap of 1,010 raw rows"}),
        (
            GOOD,
            {"left_out": WAITING, "raw_rows": 1_018},
            {
                "complete": "1,000 rows in sets + 10 in the gap + 4 immature (2 frauds) + 3 unlabelled "
                "of 1,018 raw rows",
            },
        ),
        (
            GOOD,
            {"left_out": {**WAITING, "immature": (5, 0)}, "raw_rows": 1_017},
            {
                "complete": "1,000 rows in sets + 10 in the gap + 5 immature + 3 unlabelled of 1,017 raw rows",
            },
        ),
        (
            with_set("validation", frauds=0),
            {},
            {"set_classes": "only one class in: validation; load a longer period, or change the fractions"},
        ),
        (
            with_set("test", frauds=200),
            {},
            {"set_classes": "only one class in: test; load a longer period, or change the fractions"},
        ),
        (
            GOOD,
            {"min_rows": 201},
            {
                "set_volume": "fewer than 201 rows in: validation (200 rows), test (200 rows); "
                "load a longer period, or change the fractions"
            },
        ),
        (
            with_set("train", last=6 * DAY + 1),
            {"spec": SplitSpec()},
            {
                "sets_in_time_order": "sets overlap in time: train ends at 518,401 s, validation starts at 518,401 s: "
                "the future leaks into training"
            },
        ),
        (
            with_set("test", first=7 * DAY - 1),
            {"spec": SplitSpec()},
            {
                "sets_in_time_order": "sets overlap in time: validation ends at 604,800 s, test starts at 604,799 s: "
                "the future leaks into training"
            },
        ),
        (
            with_set("train", last=5 * DAY + 1),
            {},
            {
                "sets_in_time_order": "sets overlap in time: train ends at 432,001 s, validation starts at 518,401 s "
                "(a gap of 1 days is required): the future leaks into training"
            },
        ),
    ],
)
def test_a_bad_set_fails_its_check_and_no_other(
    summaries: dict[str, SetSummary], changes: dict[str, Any], expected: dict[str, str]
):
    assert failed(summaries, **changes) == expected


def test_a_missing_set_is_an_empty_one():
    without = {name: summary for name, summary in GOOD.items() if name != "validation"}

    found = failed(without)

    assert set(found) == {"complete", "set_classes", "set_volume"}
    assert "validation (0 rows)" in found["set_volume"]


def test_an_empty_set_does_not_hide_that_its_neighbours_overlap():
    empty = {**GOOD, "validation": SetSummary(0, 0, None, None), "train": replace(GOOD["train"], last=9 * DAY)}

    assert "train ends at 777,600 s, test starts at 691,201 s" in failed(empty)["sets_in_time_order"]


def test_a_stratified_split_is_not_asked_for_order():
    overlapping = with_set("train", last=9 * DAY)

    assert failed(overlapping, spec=SplitSpec(strategy="stratified")) == {}


def test_the_rate_of_frauds():
    assert GOOD["train"].fraud_rate == 0.01
    assert SetSummary(0, 0, None, None).fraud_rate == 0
