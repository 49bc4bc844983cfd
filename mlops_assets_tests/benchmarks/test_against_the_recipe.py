"""The benchmarks that run the seed recipe, at sizes that mean nothing: each reaches its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.time_to_quality import median_interval, seconds_to, share_first

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run


def test_the_time_to_a_goal_is_that_of_the_first_trial_that_reaches_it():
    course = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.8)]

    assert seconds_to(0.6, course) == 2.0
    assert seconds_to(0.8, course) == 4.0
    assert seconds_to(0.9, course) is None


def test_the_interval_of_a_median_is_that_of_the_binomial_table():
    """Conover's table A3: with 10 values the second and the ninth, at 97.9 %; with 20 the sixth and the fifteenth."""
    cases = {
        (9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 10.0): [2.0, 9.0, 0.979],
        tuple(map(float, range(1, 21))): [6.0, 15.0, 0.959],
        (3.0, 1.0, 2.0): [1.0, 3.0, 0.75],
        (2.0,): [2.0, 2.0, 0.0],
    }
    for values, expected in cases.items():
        assert list(median_interval(values)) == pytest.approx(expected, abs=5e-4)


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    random = np.random.default_rng(1)
    held = [
        low <= 1 <= high
        for low, high, _ in (median_interval(random.lognormal(0, 2, 10).tolist()) for _ in range(2_000))
    ]
    assert np.mean(held) == pytest.approx(0.979, abs=0.01)


def test_ours_is_first_where_the_ratio_is_above_one():
    assert share_first([8.0, 0.8, 1.2, 0.0]) == 0.5


@pytest.mark.proof
def test_equal_work(run: Run):
    document = run("equal_work", "--rows", "4000", "--points", "1", "--rounds", "1")

    assert len(document["ratios"]) == 3
    assert document["details"]["rows"] == 4000
    assert {len(seconds) for seconds in document["details"]["seconds"].values()} == {1}


@pytest.mark.proof
def test_time_to_quality(run: Run):
    document = run("time_to_quality", "--rows", "20000", "--recipe-trials", "2", "--our-trials", "8", "--rounds", "1")

    (found,) = document["details"]["rounds"]
    assert 0 < found["recipe_seconds"] <= found["recipe_whole_seconds"]
    assert found["goal"] == max(value for _, value in found["recipe_course"])
    assert (document["ratio"] == 0) == (found["our_best"] < found["goal"])


@pytest.mark.proof
def test_memory_and_growth(run: Run):
    document = run("memory_and_growth", "--rows", "4000", "--trials", "2", "4")

    measured = document["details"]["by_rows"]
    assert [found["rows"] for found in measured] == [4_000, 16_000, 64_000]
    assert [found["matrix_bytes"] for found in measured] == [4 * 29 * found["rows"] for found in measured]
    assert all(found["peak_bytes"] > 0 for found in measured)
    assert [found["trials"] for found in document["details"]["by_trials"]] == [2, 4]
