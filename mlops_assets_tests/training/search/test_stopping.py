"""Early stopping and pruning on curves: the rules against their definitions, written the long way."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.training.search.stopping import (
    Curve,
    PruningThresholds,
    best_checkpoint,
    is_due,
    is_hopeless,
    is_stale,
    mean_curves,
    median_thresholds,
    shifts,
)

LOSSES = st.floats(-1e6, 1e6)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A curve on the grid of every 5 trees, with a last checkpoint anywhere."""
    last = draw(st.integers(1, 60))
    rounds = [number for number in range(1, last + 1) if is_due(number, last, 5)]
    return [(number, draw(LOSSES)) for number in rounds]


def best_until(curve: Curve, rounds: int) -> float | None:
    """Return the running best of a trial, which goes on when the trial has ended."""
    return min((loss for trees, loss in curve if trees <= rounds), default=None)


@given(st.lists(curves(), max_size=12), st.integers(1, 70), st.integers(1, 6))
def test_a_bar_is_the_median_of_the_running_bests(finished: list[Curve], rounds: int, minimum: int):
    bests = [best for curve in finished if (best := best_until(curve, rounds)) is not None]

    bar = median_thresholds(finished, minimum).at(rounds)

    if len(bests) < minimum:
        assert bar is None
    else:
        assert bar == pytest.approx(median(bests), rel=1e-12, abs=1e-9)


@given(st.lists(curves(), min_size=5, max_size=12))
def test_bars_do_not_rise_once_all_trials_have_begun_nor_depend_on_their_order(finished: list[Curve]):
    begun = max(curve[0][0] for curve in finished)
    thresholds = median_thresholds(finished)

    later = [thresholds.at(rounds) for rounds in range(begun, 61)]

    assert later == sorted(later, reverse=True)  # type: ignore[type-var]
    assert thresholds == median_thresholds(finished[::-1])


@given(st.lists(curves(), min_size=5, max_size=12))
def test_at_least_half_of_the_finished_trials_would_pass_at_each_checkpoint(finished: list[Curve]):
    thresholds = median_thresholds(finished)
    for rounds in range(1, 61):
        begun = [[point for point in curve if point[0] <= rounds] for curve in finished]
        here = [[*curve, (rounds, curve[-1][1])] for curve in begun if curve]
        assert sum(is_hopeless(curve, thresholds) for curve in here) <= len(here) / 2


@given(st.lists(curves(), min_size=5, max_size=12), st.integers(1, 60))
def test_the_best_of_all_is_never_hopeless(finished: list[Curve], rounds: int):
    record = min(loss for curve in finished for _, loss in curve)

    assert not is_hopeless([(rounds, record)], median_thresholds(finished))


def test_a_trial_is_hopeless_only_when_strictly_worse_and_its_best_counts_not_its_last():
    thresholds = PruningThresholds((5, 10), (0.5, 0.3))

    assert is_hopeless([(5, 0.6)], thresholds)
    assert not is_hopeless([(5, 0.5)], thresholds)
    assert not is_hopeless([(5, 0.2), (10, 9.0)], thresholds)
    assert is_hopeless([(5, 0.4), (10, 0.4)], thresholds)
    assert is_hopeless([(5, 0.4), (50, 0.4)], thresholds)  # the last bar goes on


def test_there_is_no_bar_before_the_first_nor_from_few_trials():
    assert not is_hopeless([(4, 1e9)], PruningThresholds((5,), (0.5,)))
    assert not is_hopeless([(5, 1e9)], PruningThresholds())
    assert median_thresholds([[(5, 0.1)]] * 4) == PruningThresholds()
    assert median_thresholds([[(5, 0.1)]] * 5) == PruningThresholds((5,), (0.1,))
    assert median_thresholds([[]] * 5) == PruningThresholds()


@given(curves(), st.integers(0, 30))
def test_a_curve_is_stale_when_its_best_lies_so_many_trees_back(curve: Curve, patience: int):
    rounds, loss = best_checkpoint(curve)

    assert loss == min(value for _, value in curve)
    assert all(value > loss for trees, value in curve if trees < rounds)
    assert is_stale(curve, patience) == (patience > 0 and curve[-1][0] - rounds >= patience)


@given(st.lists(LOSSES, min_size=1, max_size=20, unique=True), st.integers(1, 30))
def test_a_curve_that_falls_all_the_way_is_never_stale(losses: list[float], patience: int):
    falling = [(5 * number, loss) for number, loss in enumerate(sorted(losses, reverse=True), start=1)]

    assert not is_stale(falling, patience)


@given(st.integers(1, 200), st.integers(1, 40))
def test_a_model_is_looked_at_every_so_often_and_at_its_end(last: int, every: int):
    due = [rounds for rounds in range(1, last + 1) if is_due(rounds, last, every)]

    assert due[-1] == last
    assert all(later - earlier <= every for earlier, later in zip([0, *due], due, strict=False))
    assert len(due) == -(-last // every)


def test_the_curve_of_a_later_fold_goes_on_from_the_mean_of_those_before():
    folds = [(-0.8, [(5, -0.5), (10, -0.8)]), (-0.4, [(5, -0.4)]), (-0.6, [(5, -0.2), (10, -0.6)])]

    curves = [dict(curve) for curve in mean_curves(folds)]

    assert curves[0] == {5: -0.5, 10: -0.8}
    assert curves[1] == pytest.approx({5: (-0.8 - 0.4) / 2})
    assert curves[2] == pytest.approx({5: (-0.8 - 0.4 - 0.2) / 3, 10: (-0.8 - 0.4 - 0.6) / 3})


def test_a_hard_fold_raises_what_is_expected_of_a_trial_that_was_spared_it():
    assert shifts([]) == ()
    assert shifts([[-0.7], [-0.6]]) == ()  # one fold: nothing is left to come
    # After the easy first fold, a trial's mean falls by 0.1, 0.2 and 0.2 of average precision on the second.
    assert shifts([[-0.8, -0.6], [-0.8, -0.4], [-0.7, -0.3]]) == pytest.approx((0.2,))


@given(st.lists(st.lists(LOSSES, min_size=3, max_size=3), min_size=1, max_size=9))
def test_shifts_are_the_medians_written_the_long_way(finished: list[list[float]]):
    for place, shift in enumerate(shifts(finished), 1):
        expected = median(sum(losses) / 3 - sum(losses[:place]) / place for losses in finished)
        assert shift == pytest.approx(expected, rel=1e-9, abs=1e-6)
