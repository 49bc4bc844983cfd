"""How a search ends before its trials are all tried: an interrupt, the time budget, a space with one point."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hyperopt.base import JOB_STATE_CANCEL

from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets_tests.training.searching import (
    SPACE,
    are_gone,
    looping_in_c,
    sleeping,
    telling_its_process,
    trials_of,
)
from mlops_assets_tests.training.spaces import fixed_space, seed_point

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What holds the interpreter is the harder case of the two.
STUCK = [looping_in_c, pytest.param(sleeping, marks=pytest.mark.proof)]


@pytest.mark.parametrize("stuck", STUCK)
def test_an_interrupt_ends_running_trials_and_their_processes_within_seconds(
    spark: SparkSession, tmp_path: Path, stuck: Callable[[Path], Any]
):
    interrupted: list[float] = []

    def interrupt_once_they_run() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.1)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_once_they_run, daemon=True).start()

    with pytest.raises(KeyboardInterrupt):
        trials_of(spark, stuck(tmp_path), evaluations=10, parallelism=2)

    assert time.monotonic() - interrupted[0] < 8
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []
    assert are_gone(tmp_path, within=6)


@pytest.mark.parametrize("stuck", STUCK)
def test_a_hanging_objective_ends_with_the_time_budget_and_does_not_outlive_it(
    spark: SparkSession, tmp_path: Path, stuck: Callable[[Path], Any]
):
    trials_of(spark, telling_its_process(), evaluations=4, parallelism=2)  # so that the workers are there
    started = time.monotonic()

    trials = trials_of(spark, stuck(tmp_path), evaluations=10, parallelism=2, timeout=4.0)

    assert 4 <= time.monotonic() - started < 12
    assert trials.fmin_cancelled_reason == "fmin run timeout"
    assert [t["state"] for t in trials._dynamic_trials] == [JOB_STATE_CANCEL] * 2
    assert trials.trials == []
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []
    assert are_gone(tmp_path, within=6)


@pytest.mark.proof  # it waits for the budget
def test_a_time_budget_keeps_what_has_finished_and_says_so(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    # Before it, because Python workers that start anew on a busy machine can take all of the time.
    run_search(spark, *halves, SearchPlan(space=SPACE, trials=2, parallelism=2), lambda record: None)
    plan = SearchPlan(space=SPACE, trials=100_000, parallelism=2, max_seconds=8)

    found = run_search(spark, *halves, plan, lambda record: None)

    assert 0 < len(found.trials) < 100_000
    assert found.end_reason == f"the time budget of 8 s was used up after {len(found.trials)} of 100000 trials"
    assert 8 <= found.seconds < 30


def test_a_time_budget_in_which_nothing_finishes_is_an_error(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, max_seconds=0.001)

    with pytest.raises(SearchError, match=r"none of 0 trials succeeded \(the time budget of 0.001 s .* raise the time"):
        run_search(spark, *halves, plan, lambda record: None)


@pytest.mark.proof  # a search
def test_a_space_with_one_point_is_one_trial(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    one = fixed_space(seed_point(3, 12, 0.3))

    found = run_search(spark, *halves, SearchPlan(space=one, trials=30), lambda record: None)

    assert [record.point for record in found.trials] == [seed_point(3, 12, 0.3)]
    assert found.end_reason == "the space has one point, and it was tried"
