"""Cut points: a partition, monotonic in time, with an exact gap and shares as close as equal keys allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_assets.data.splits.split import SECONDS_PER_DAY, SET_NAMES, Block, Cuts, SplitSpec, cut_points
from mlops_assets.errors import SplitError

Keys = npt.NDArray[np.float64] | npt.NDArray[np.int64]
HOUR = 3_600.0
TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, -1


def cut(times: Keys, spec: SplitSpec) -> Cuts:
    keys: Any
    keys, counts = np.unique(times, return_counts=True)
    return cut_points(keys, counts, spec, where="raw")


# On a grid of hours, keys are often equal and often lie exactly one gap before a cut.
GRID = st.lists(st.integers(-5, 60), min_size=3, max_size=60).map(lambda hours: np.array(hours) * HOUR)
MOMENTS = st.lists(st.floats(-1e7, 1e9), min_size=3, max_size=60).map(np.array)
TIMES = GRID | MOMENTS
FRACTIONS = st.sampled_from([(0.2, 0.2), (0.1, 0.3), (0.4, 0.4), (0.05, 0.05), (0.3, 1 / 3)])
GAPS = st.sampled_from([0.0, 0.0, 1 / 24, 0.25, 1.0])


@st.composite
def splits(draw: st.DrawFn) -> tuple[Keys, SplitSpec, Cuts]:
    times = draw(TIMES)
    validation, test = draw(FRACTIONS)
    spec = SplitSpec(validation_fraction=validation, test_fraction=test, gap_days=draw(GAPS))
    try:
        return times, spec, cut(times, spec)
    except SplitError:
        assume(condition=False)
        raise


@given(splits())
def test_every_row_is_in_one_set_or_in_the_gap(split: tuple[Keys, SplitSpec, Cuts]):
    times, spec, cuts = split

    memberships = np.array([block.contains(times) for block in cuts.blocks])
    sets = cuts.assign(times)

    assert memberships.sum(axis=0).max() <= 1
    assert [np.flatnonzero(sets == number).tolist() for number in range(3)] == [
        np.flatnonzero(inside).tolist() for inside in memberships
    ]
    assert {TRAIN, VALIDATION, TEST} <= set(sets) <= {TRAIN, VALIDATION, TEST, LEFT_OUT}
    if not spec.gap_days:
        assert LEFT_OUT not in sets


@given(splits())
def test_sets_follow_each_other_in_time(split: tuple[Keys, SplitSpec, Cuts]):
    times, _, cuts = split
    sets = cuts.assign(times)

    assert times[sets == TRAIN].max() < times[sets == VALIDATION].min()
    assert times[sets == VALIDATION].max() < times[sets == TEST].min()


@given(splits())
def test_the_gap_drops_exactly_the_rows_before_each_cut(split: tuple[Keys, SplitSpec, Cuts]):
    times, spec, cuts = split
    sets = cuts.assign(times)
    gap = spec.gap_days * SECONDS_PER_DAY
    starts = [times[sets == VALIDATION].min(), times[sets == TEST].min()]

    in_gap = np.zeros(len(times), dtype=bool)
    for start in starts:
        in_gap |= (start - gap <= times) & (times < start)

    assert (sets == LEFT_OUT).tolist() == in_gap.tolist()


@given(splits())
def test_without_the_gap_the_same_rows_would_be_in_the_block_before(split: tuple[Keys, SplitSpec, Cuts]):
    times, spec, cuts = split
    whole = SplitSpec(validation_fraction=spec.validation_fraction, test_fraction=spec.test_fraction)

    with_gap, without = cuts.assign(times), cut(times, whole).assign(times)

    kept = with_gap != LEFT_OUT
    assert with_gap[kept].tolist() == without[kept].tolist()
    assert TEST not in without[~kept]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=10, max_size=200, unique=True), FRACTIONS)
def test_sizes_are_the_fractions_to_the_row_when_keys_are_distinct(times: list[int], fractions: tuple[float, float]):
    validation, test = fractions
    spec = SplitSpec(validation_fraction=validation, test_fraction=test)
    assume(len(times) * min(validation, test, 1 - validation - test) > 1)

    sizes = np.bincount(cut(np.array(times), spec).assign(np.array(times)), minlength=3)

    shares = np.array([1 - validation - test, validation, test])
    assert np.abs(sizes - len(times) * shares).max() <= 1


@given(splits())
def test_sizes_miss_the_fractions_by_less_than_one_key(split: tuple[Keys, SplitSpec, Cuts]):
    times, spec, _ = split
    whole = SplitSpec(validation_fraction=spec.validation_fraction, test_fraction=spec.test_fraction)

    sets = cut(times, whole).assign(times)

    most_equal = np.unique(times, return_counts=True)[1].max()
    earlier = np.array([(sets == TRAIN).sum(), (sets <= VALIDATION).sum()])
    wanted = len(times) * np.array([1 - spec.validation_fraction - spec.test_fraction, 1 - spec.test_fraction])
    assert (earlier - wanted > -1e-6).all()
    assert (earlier - wanted < most_equal).all()


@given(splits(), st.randoms(use_true_random=False))
def test_equal_keys_stay_together_in_any_order(split: tuple[Keys, SplitSpec, Cuts], random: Any):
    times, spec, cuts = split
    order = np.array(random.sample(range(len(times)), len(times)))

    shuffled = cut(times[order], spec)

    assert shuffled == cuts
    assert shuffled.assign(times[order]).tolist() == cuts.assign(times)[order].tolist()
    assert len({*zip(times.tolist(), cuts.assign(times).tolist(), strict=True)}) == len(np.unique(times))


@given(splits())
def test_the_counts_may_be_of_any_integer_type(split: tuple[Keys, SplitSpec, Cuts]):
    times, spec, cuts = split
    keys, counts = np.unique(times, return_counts=True)

    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        assert cut_points(keys, counts.astype(kind), spec, where="raw") == cuts  # type: ignore[arg-type]


@given(GRID)
def test_whole_seconds_are_cut_like_the_same_doubles(times: Keys):
    spec = SplitSpec(gap_days=1 / 24)
    try:
        expected = cut(times, spec)
    except SplitError:
        with pytest.raises(SplitError):
            cut(times.astype(np.int64), spec)
        return
    assert cut(times.astype(np.int64), spec).assign(times.astype(np.int64)).tolist() == expected.assign(times).tolist()


def test_the_two_zeros_are_one_key():
    times = np.array([-0.0, 0.0, -0.0, 1.0, 1.0, 2.0])

    assert cut(times, SplitSpec(validation_fraction=0.3, test_fraction=0.2)).assign(times).tolist() == [
        0,
        0,
        0,
        1,
        1,
        2,
    ]


def test_hashes_that_a_double_cannot_tell_apart_are_cut_to_the_row():
    """With the cut rounded to 53 bits, rows between the hash and its double would be in no set, or in two."""
    for base in (2**62 + 1, -(2**62) - 1, 2**63 - 11, -(2**63)):
        hashes = base + np.arange(10, dtype=np.int64)

        assert cut(hashes, SplitSpec()).assign(hashes).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_a_known_cut():
    days = np.arange(10.0) * SECONDS_PER_DAY

    cuts = cut(days, SplitSpec(validation_fraction=0.3, test_fraction=0.2, gap_days=1))

    assert cuts.assign(days).tolist() == [0, 0, 0, 0, -1, 1, 1, -1, 2, 2]
    assert cuts.blocks == (
        Block(None, 4 * SECONDS_PER_DAY),
        Block(5 * SECONDS_PER_DAY, 7 * SECONDS_PER_DAY),
        Block(8 * SECONDS_PER_DAY, None),
    )
    assert len(cuts.blocks) == len(SET_NAMES)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([], r"^0 rows with 0 distinct keys can't fill three sets \[raw\] Fix: load more rows"),
        ([1.0], "1 rows with 1 distinct keys"),
        ([1.0, 2.0], "2 rows with 2 distinct keys"),
        ([5.0] * 1_000, "1,000 rows with 1 distinct keys"),
        ([1.0, 2.0] * 500, "1,000 rows with 2 distinct keys"),
        ([*[1.0] * 98, 2.0, 3.0], "100 rows with 3 distinct keys"),
        ([1.0, *[2.0] * 98, 3.0], "100 rows with 3 distinct keys"),
        ([1.0, 2.0, *[3.0] * 98], "100 rows with 3 distinct keys"),
    ],
)
def test_too_few_rows_or_keys_are_refused(times: list[float], said: str):
    with pytest.raises(SplitError, match=said):
        cut(np.array(times, dtype=np.float64), SplitSpec())


@pytest.mark.parametrize(
    ("gap_days", "emptied"),
    [(2.5, "validation"), (6, "train, validation"), (1_000, "train, validation")],
)
def test_a_gap_that_swallows_a_set_is_refused(gap_days: float, emptied: str):
    days = np.arange(10.0) * SECONDS_PER_DAY

    with pytest.raises(
        SplitError, match=rf"a gap of {gap_days:g} days leaves nothing of: {emptied} \[raw\] .*gap_days"
    ):
        cut(days, SplitSpec(gap_days=gap_days))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"validation_fraction": 0.0}, r"fractions \(0.0, 0.2\) are not usable"),
        ({"test_fraction": -0.1}, "are not usable"),
        ({"test_fraction": 1.0}, "are not usable"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leave room for a training set"),
        ({"validation_fraction": float("nan")}, "are not usable"),
        ({"gap_days": -1}, "gap of -1 days is not usable"),
        ({"gap_days": float("inf")}, "gap of inf days"),
        ({"gap_days": float("nan")}, "gap of nan days"),
        ({"strategy": "stratified", "gap_days": 1.0}, "a gap in time means nothing to a stratified split"),
        ({"strategy": "random"}, "no such strategy: random .* time, stratified"),
    ],
)
def test_settings_that_make_no_split_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(SplitError, match=said) as caught:
        SplitSpec(**settings)
    assert caught.value.where == "split configuration"


def test_a_spec_is_shown_as_plain_values():
    assert SplitSpec(gap_days=7, seed=3).as_dict() == {
        "strategy": "time",
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
        "gap_days": 7,
        "seed": 3,
    }
