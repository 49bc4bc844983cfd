"""Cuts: a partition, monotonic in time, whole days with an exact gap, and shares as close as days or keys allow."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_assets.data.splits.split import SET_NAMES, Block, Cuts, SplitSpec, cut_days, cut_points, in_seconds
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
DAYS = st.lists(st.tuples(st.integers(-20, 40), st.integers(1, 50)), min_size=3, max_size=40, unique_by=lambda d: d[0])


@st.composite
def splits(draw: st.DrawFn) -> tuple[Keys, SplitSpec, Cuts]:
    times = draw(TIMES)
    validation, test = draw(FRACTIONS)
    spec = SplitSpec(validation_fraction=validation, test_fraction=test)
    try:
        return times, spec, cut(times, spec)
    except SplitError:
        assume(condition=False)
        raise


@given(splits())
def test_every_row_is_in_one_set_or_in_the_gap(split: tuple[Keys, SplitSpec, Cuts]):
    times, _, cuts = split

    memberships = np.array([block.contains(times) for block in cuts.blocks])
    sets = cuts.assign(times)

    assert memberships.sum(axis=0).max() <= 1
    assert [np.flatnonzero(sets == number).tolist() for number in range(3)] == [
        np.flatnonzero(inside).tolist() for inside in memberships
    ]
    assert set(sets) == {TRAIN, VALIDATION, TEST}


@given(splits())
def test_sets_follow_each_other_in_time(split: tuple[Keys, SplitSpec, Cuts]):
    times, _, cuts = split
    sets = cuts.assign(times)

    assert times[sets == TRAIN].max() < times[sets == VALIDATION].min()
    assert times[sets == VALIDATION].max() < times[sets == TEST].min()


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
    spec = SplitSpec()
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


# By days.


def days_of(spec: SplitSpec, days: Any, counts: Any = None) -> Cuts:
    numbers = np.asarray(days, dtype=np.int64)
    return cut_days(numbers, np.ones(len(numbers), dtype=np.int64) if counts is None else counts, spec, where="raw")


def sizes(cuts: Cuts, days: int) -> list[int]:
    """Return the days of train, validation and test and those left out, of a table with a row on each day."""
    sets = cuts.assign(np.arange(days))
    return [int((sets == number).sum()) for number in (TRAIN, VALIDATION, TEST, LEFT_OUT)]


def test_a_known_cut():
    cuts = days_of(SplitSpec(validation_fraction=0.25, test_fraction=0.25, gap_days=1), range(10))

    assert cuts.assign(np.arange(10)).tolist() == [0, 0, 0, 0, -1, 1, 1, -1, 2, 2]
    assert cuts.blocks == (Block(None, 4), Block(5, 7), Block(8, None))
    assert in_seconds(cuts, "UTC").blocks == (
        Block(None, 4 * 86_400.0),
        Block(5 * 86_400.0, 7 * 86_400.0),
        Block(8 * 86_400.0, None),
    )
    assert len(cuts.blocks) == len(SET_NAMES)


@pytest.mark.parametrize(
    ("span", "gap_days", "expected"),
    [
        (28, 7, [8, 3, 3, 14]),  # 14 usable days: divided, where the gaps used to be taken from the shares
        (17, 7, [1, 1, 1, 14]),  # the shortest
        (10, 0, [6, 2, 2, 0]),
        (60, 7, [28, 9, 9, 14]),
        (10, 0.5, [5, 1, 2, 2]),  # a part of a day is a day
    ],
)
def test_the_gaps_are_reserved_and_what_is_left_is_divided(span: int, gap_days: float, expected: list[int]):
    assert sizes(days_of(SplitSpec(gap_days=gap_days), range(span)), span) == expected


@given(DAYS, FRACTIONS, st.sampled_from([0.0, 1.0, 2.5, 7.0]))
def test_days_are_cut_as_every_possible_pair_of_days_was_tried(
    rows: list[tuple[int, int]], fractions: tuple[float, float], gap_days: float
):
    """Held against a search that assigns each row for each pair of days."""
    days, counts = (np.array(values) for values in zip(*sorted(rows), strict=True))
    spec = SplitSpec(validation_fraction=fractions[0], test_fraction=fractions[1], gap_days=gap_days)
    gap = int(np.ceil(gap_days))
    wanted = np.array([1 - sum(fractions), *fractions])

    def distance(first: int, second: int) -> float:
        of_set = [days < first - gap, (first <= days) & (days < second - gap), days >= second]
        held = np.array([counts[chosen].sum() for chosen in of_set])
        return float(((held / held.sum() - wanted) ** 2).sum()) if held.all() else np.inf

    best = min((distance(a, b) for a in days for b in days if a < b), default=np.inf)
    if best == np.inf:
        with pytest.raises(SplitError, match=f"the shortest span that can be cut is {3 + 2 * gap} days"):
            days_of(spec, days, counts)
        return
    cuts = days_of(spec, days, counts)
    assert distance(cuts.blocks[1].start, cuts.blocks[2].start) == pytest.approx(best, abs=1e-9)  # type: ignore[arg-type]
    sets = cuts.assign(days)
    assert days[sets == TRAIN].max() + gap < days[sets == VALIDATION].min()
    assert days[sets == VALIDATION].max() + gap < days[sets == TEST].min()


@pytest.mark.parametrize(("span", "gap_days"), [(16, 7), (2, 0), (0, 0), (4, 1)])
def test_a_span_below_the_shortest_is_refused_and_the_shortest_is_named(span: int, gap_days: int):
    shortest = 3 + 2 * gap_days
    said = rf"on {span} days of a span of {span} can't fill .* the shortest span that can be cut is {shortest} days"

    with pytest.raises(SplitError, match=said):
        days_of(SplitSpec(gap_days=gap_days), range(span))

    assert sizes(days_of(SplitSpec(gap_days=gap_days), range(shortest)), shortest) == [1, 1, 1, 2 * gap_days]


@pytest.mark.parametrize(
    ("first_day", "hours_of_gap"),
    [("2026-03-16", 7 * 24 - 1), ("2026-10-12", 7 * 24 + 1), ("2026-06-01", 7 * 24)],
)
def test_a_gap_ends_at_midnights_of_the_zone_also_over_a_change_of_its_clock(first_day: str, hours_of_gap: int):
    """The change (29 March, 25 October 2026, Berlin) lies in the first gap: eight days of training, then seven."""
    begin = int(np.datetime64(first_day).astype(int))

    train, validation, test = in_seconds(
        days_of(SplitSpec(gap_days=7), range(begin, begin + 28)), "Europe/Berlin"
    ).blocks

    assert train.end is not None
    assert validation.start is not None
    assert validation.start - train.end == hours_of_gap * HOUR
    for border in (train.end, validation.start, validation.end, test.start):
        assert datetime.fromtimestamp(border or 0, ZoneInfo("Europe/Berlin")).strftime("%H:%M:%S") == "00:00:00"


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([], r"^0 rows can't fill three sets \[raw\] Fix: load more rows"),
        ([1.0], "1 rows can't fill three sets"),
        ([1.0, 2.0], "2 rows can't fill three sets"),
        ([5.0] * 1_000, "1,000 rows can't fill three sets"),
        ([1.0, 2.0] * 500, "1,000 rows can't fill three sets"),
        ([*[1.0] * 98, 2.0, 3.0], "100 rows can't fill three sets"),
        ([1.0, *[2.0] * 98, 3.0], "100 rows can't fill three sets"),
        ([1.0, 2.0, *[3.0] * 98], "100 rows can't fill three sets"),
    ],
)
def test_too_few_rows_or_keys_are_refused(times: list[float], said: str):
    with pytest.raises(SplitError, match=said):
        cut(np.array(times, dtype=np.float64), SplitSpec())


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
