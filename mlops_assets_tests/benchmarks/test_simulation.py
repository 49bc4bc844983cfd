"""The simulated cluster obeys what any cluster obeys, and bends where arithmetic says it must."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._simulation import (
    Costs,
    bend,
    chart,
    efficiency,
    seed_efficiency,
    stretched,
    useful_share,
    wall_seconds,
)

FREE = Costs(0.0, 0.0, 0.0, 0.0)
LENGTHS = st.lists(st.floats(0.01, 100), min_size=1, max_size=60)
COSTS = st.builds(Costs, *[st.floats(0, 5)] * 4)


@given(LENGTHS, st.integers(1, 20), COSTS)
def test_no_search_beats_its_work_its_longest_trial_or_its_driver(trials: list[float], slots: int, costs: Costs):
    wall = wall_seconds(trials, slots, costs)

    driver = costs.serialize_seconds + len(trials) * costs.propose_seconds
    assert wall >= max(sum(trials) / slots, *trials, driver) * (1 - 1e-9)
    in_a_row = wall_seconds(trials, 1, costs)
    assert in_a_row == pytest.approx(
        driver + len(trials) * costs.latency_seconds + costs.first_trial_seconds + sum(trials)
    )


@given(LENGTHS, st.integers(1, 20), COSTS)
def test_costs_never_make_a_search_faster(trials: list[float], slots: int, costs: Costs):
    # Greedy scheduling has anomalies (Graham 1969), so it is compared with its bound and not with the cost-free run.
    free = wall_seconds(trials, slots, FREE)

    assert free <= sum(trials) / slots + max(trials) + 1e-6
    assert wall_seconds(trials, slots, costs) >= free / 2


def test_equal_trials_without_costs_fill_slots_that_divide_them():
    assert efficiency([1.0] * 100, 10, FREE) == pytest.approx(1.0)
    assert efficiency([1.0] * 100, 14, FREE) == pytest.approx(100 / (14 * 8))


@given(st.lists(st.floats(1, 20), min_size=1, max_size=40), st.integers(1, 20), COSTS, st.floats(0.2, 1))
def test_further_points_use_what_is_left_and_no_more(trials: list[float], slots: int, costs: Costs, extra_share: float):
    without = efficiency(trials, slots, costs)

    assert without * (1 - 1e-9) <= useful_share(trials, slots, costs, extra_share) <= 1 + 1e-9


def test_further_points_fill_what_arithmetic_leaves_them():
    """100 equal trials on 14 slots: two slots run an eighth one, and twelve have one trial's time left."""
    assert useful_share([1.0] * 100, 14, FREE, extra_share=1) == pytest.approx(1)
    assert useful_share([1.0] * 100, 14, FREE, extra_share=0.6) == pytest.approx((100 + 12 * 0.6) / (14 * 8))


def test_the_bend_is_where_the_overhead_is_a_tenth():
    costs = Costs(0.0, 0.0, 1.0, 0.0)

    assert bend([2.0], 100, 10, costs, wanted=0.9) == pytest.approx(9.0, rel=0.02)
    assert bend([1.0], 100, 14, FREE, wanted=0.9) == math.inf  # 100 equal trials can't fill 14 slots


def test_stretching_keeps_the_shape():
    assert stretched([1.0, 3.0], 4, mean_seconds=20.0) == pytest.approx([10.0, 30.0, 10.0, 30.0])


def test_the_seeds_own_figure():
    assert seed_efficiency(14) == pytest.approx(0.627, abs=0.001)
    assert seed_efficiency(50) is None


def test_the_chart_is_a_picture():
    assert chart({"a": {1: 1.0, 2: 0.9}}, "title", "subtitle").startswith(b"\x89PNG")
