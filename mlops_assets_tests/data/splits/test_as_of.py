"""What was known at the end of a day: the version by the wall clock, the blocks by event time, and no row of both."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.splits.as_of import as_of_blocks, version_as_of
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


histories = st.lists(st.floats(0, 1e9, allow_subnormal=False), min_size=2, max_size=60, unique=True).map(sorted)


@given(
    histories,
    st.data(),
    st.floats(0.05, 0.95),
    st.sampled_from([0.0, 0.5, 30.0]),
    st.sampled_from([0.5, 7.0]),
)
def test_no_moment_is_in_two_blocks_and_nothing_known_is_scored(
    keys: list[float], data: st.DataObject, fraction: float, gap_days: float, days_after: float
):
    counts = np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(keys), max_size=len(keys))))
    try:
        blocks = as_of_blocks(
            np.array(keys),
            counts,
            validation_fraction=fraction,
            gap_days=gap_days,
            days_after=days_after,
            where="t",
        )
    except SplitError:
        return

    window = days_after * SECONDS_PER_DAY
    moments = np.array([*keys, keys[-1] + 1e-3, keys[-1] + window, keys[-1] + window + 1])
    train, validation, after = (block.contains(moments) for block in (blocks.train, blocks.validation, blocks.after))
    assert (train.astype(int) + validation + after).max() == 1
    assert train.any()
    assert validation.any()
    assert moments[after].tolist() == [keys[-1] + 1e-3, keys[-1] + window], "what came after, to the window's end"
    assert moments[train].max() + gap_days * SECONDS_PER_DAY <= moments[validation].min()
    assert moments[validation].max() <= keys[-1] - gap_days * SECONDS_PER_DAY


def test_the_share_of_validation_rows_is_the_asked_one():
    keys = np.arange(100, dtype=np.float64)

    blocks = as_of_blocks(
        keys, np.ones(100, dtype=np.int64), validation_fraction=0.2, gap_days=0, days_after=1, where="t"
    )

    assert blocks.train.contains(keys).sum() == 80
    assert blocks.validation.contains(keys).sum() == 20
    assert blocks.newest == 99


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_fraction": 1.0}, "not usable"),
        ({"gap_days": -1.0}, "not usable"),
        ({"gap_days": float("nan")}, "not usable"),
        ({"days_after": 0.0}, "not usable"),
        ({"gap_days": 3.0}, "a gap of 3 days leaves nothing of: validation"),
        ({"validation_fraction": 0.01}, "can't fill two sets"),
    ],
)
def test_what_can_not_be_cut_is_refused(changed: dict[str, float], message: str):
    asked = {"validation_fraction": 0.5, "gap_days": 0.0, "days_after": 7.0} | changed
    keys = np.array([0.0, 4.0, 5.0]) * SECONDS_PER_DAY

    with pytest.raises(SplitError, match=message):
        as_of_blocks(keys, np.array([1, 1, 1]), where="t", **asked)
