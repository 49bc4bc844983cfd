"""What was known at the end of a day: the version by the wall clock, the blocks by event time, and no row of both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.days import day_numbers
from mlops_assets.data.splits.as_of import AsOfBlocks, as_of_blocks, mature_until, version_as_of
from mlops_assets.data.splits.split import Block
from mlops_assets.errors import SplitError, StorageError


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


COMMITTED = {
    3: at("2026-05-02T10:00"),
    4: at("2026-05-02T23:59:59.999"),
    5: at("2026-05-03T00:00"),
    6: at("2026-05-09"),
}


@pytest.mark.parametrize(
    ("end", "version"), [("2026-05-03", 4), ("2026-05-04", 5), ("2026-05-09", 5), ("2026-05-10", 6), ("2030-01-01", 6)]
)
def test_the_version_of_a_day_is_the_newest_that_was_committed_before_its_end(end: str, version: int):
    assert version_as_of(COMMITTED, at(end), where="t") == version


def test_a_day_before_the_first_version_is_refused():
    with pytest.raises(StorageError, match=r"no version of 2026-05-01 is left: .* begins with version 3 of 2026-05-02"):
        version_as_of(COMMITTED, at("2026-05-02"), where="t")
    with pytest.raises(StorageError, match=r"was not there at the end of 2026-05-01: .* 2026-05-02 10:00 UTC"):
        version_as_of({0: at("2026-05-02T10:00")}, at("2026-05-02"), where="t")


DAY = SECONDS_PER_DAY
histories = st.lists(st.floats(0, 60, allow_subnormal=False), min_size=2, max_size=60, unique=True).map(sorted)


def cut(moments: np.ndarray, zone: str = "UTC", **asked: Any) -> AsOfBlocks:
    """Cut a version that holds one row at each moment (in seconds, ascending)."""
    usable = moments[moments < mature_until(float(moments[-1]), asked["gap_days"])]
    days, counts = np.unique(day_numbers(usable, zone), return_counts=True)
    return as_of_blocks(days, counts, float(moments[-1]), zone=zone, where="t", **asked)


@given(
    histories,
    st.floats(0.05, 0.95),
    st.sampled_from([0.0, 0.5, 7.0]),
    st.sampled_from([0.5, 7.0]),
    st.sampled_from(["UTC", "Pacific/Auckland"]),
)
def test_no_moment_is_in_two_blocks_no_day_in_two_of_the_past_and_nothing_known_is_scored(
    history: list[float], fraction: float, gap_days: float, days_after: float, zone: str
):
    keys = (np.array(history) + 20_000) * DAY
    try:
        blocks = cut(keys, zone, validation_fraction=fraction, gap_days=gap_days, days_after=days_after)
    except SplitError:
        return

    moments = np.array([*keys, keys[-1] + 1e-3, keys[-1] + days_after * DAY, keys[-1] + days_after * DAY + 1])
    train, validation, after = (block.contains(moments) for block in (blocks.train, blocks.validation, blocks.after))
    assert (train.astype(int) + validation + after).max() == 1
    assert train.any()
    assert validation.any()
    assert moments[after].tolist() == [keys[-1] + 1e-3, keys[-1] + days_after * DAY], "what came after, to its end"
    known, judged = (day_numbers(moments[inside], zone) for inside in (train, validation))
    assert judged.min() - known.max() > gap_days, "whole days lie between, at least the gap"
    assert moments[validation].max() <= keys[-1] - gap_days * DAY


def test_the_share_of_validation_rows_is_closest_to_the_asked_one_after_the_gaps_are_reserved():
    keys = np.arange(0, 30, 0.25) * DAY  # the last event at 18:00 of day 29

    blocks = cut(keys, validation_fraction=0.2, gap_days=7, days_after=1)

    # 22.75 days are mature and 7 lie between: 15.75 are left, of which a fifth is 3.15; 2.75 is closer than 3.75.
    assert (blocks.train, blocks.validation) == (Block(None, 13 * DAY), Block(20 * DAY, 22.75 * DAY))
    without = cut(keys, validation_fraction=0.2, gap_days=0, days_after=1)
    assert (without.train.end, without.validation.start) == (24 * DAY, 24 * DAY)
    assert without.validation.contains(keys[-1:]).all(), "without a gap the newest event is used"


def test_the_newest_days_do_not_take_part_in_the_shares():
    """By the rows of all days, the validation block would begin among those that are not mature."""
    keys = np.concatenate([np.arange(10), np.linspace(10, 12, 60)]) * DAY

    blocks = cut(keys, validation_fraction=0.5, gap_days=2, days_after=1)

    train, validation = (int(block.contains(keys).sum()) for block in (blocks.train, blocks.validation))
    assert (train, validation) == (4, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_fraction": 1.0}, "not usable"),
        ({"gap_days": -1.0}, "not usable"),
        ({"gap_days": float("nan")}, "not usable"),
        ({"days_after": 0.0}, "not usable"),
        ({"gap_days": 3.0}, r"2 rows with mature labels on 1 days .* the shortest span that can be cut is 5 days"),
        ({"gap_days": 9.0}, r"0 rows with mature labels on 0 days of a span of 0 can't fill two sets"),
    ],
)
def test_what_can_not_be_cut_is_refused(changed: dict[str, float], message: str):
    asked = {"validation_fraction": 0.5, "gap_days": 0.0, "days_after": 7.0} | changed

    with pytest.raises(SplitError, match=message):
        cut(np.array([0.0, 0.5, 4.0]) * DAY, "UTC", **asked)
