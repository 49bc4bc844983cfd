"""The search on real Spark: the best wins, a seed repeats it, failures count as failures, workers are kept."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperopt import Trials, fmin, tpe
from hyperopt.base import JOB_STATE_DONE

from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search.proposals import to_hyperopt
from mlops_assets.training.search.search import run_search
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.searching import (
    SPACE,
    dying_for_deep_trees,
    failing_for_deep_trees,
    telling_its_process,
    trials_of,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_the_best_trial_is_the_one_with_the_best_validation_value(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    seen: list[TrialRecord] = []

    found = run_search(spark, *halves, SearchPlan(space=SPACE, trials=6), seen.append)

    assert list(found.trials) == seen
    assert sorted(record.number for record in seen) == list(range(6))
    assert found.best.value == max(record.value or 0 for record in seen)
    assert all(2 <= record.point["max_depth"] <= 4 and 3 <= record.point["n_estimators"] <= 9 for record in seen)


def test_at_parallelism_one_a_seed_repeats_the_search_bit_for_bit(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, trials=5, parallelism=1)

    first, second = (run_search(spark, *halves, plan, lambda record: None) for _ in range(2))

    assert [(r.point, r.value) for r in first.trials] == [(r.point, r.value) for r in second.trials]


def test_another_seed_is_another_search(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    one, two = (
        run_search(spark, *halves, SearchPlan(space=SPACE, trials=2, parallelism=1, seed=seed), lambda record: None)
        for seed in (1, 2)
    )

    assert one.trials[0].point != two.trials[0].point


def test_proposals_at_parallelism_one_are_those_of_plain_hyperopt(spark: SparkSession):
    """The dispatcher is ours, the search is hyperopt's: the same seed gives the same points as its serial `fmin`."""
    ours = trials_of(spark, telling_its_process(), evaluations=8, parallelism=1)
    plain = Trials()
    fmin(
        lambda values: values["learning_rate"],
        to_hyperopt(SPACE),
        algo=lambda *proposal: tpe.suggest(*proposal, n_startup_jobs=4),
        max_evals=8,
        trials=plain,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
    )

    assert [t["misc"]["vals"] for t in ours.trials] == [t["misc"]["vals"] for t in plain.trials]


def test_failed_trials_are_recorded_and_the_others_count(spark: SparkSession):
    trials = trials_of(spark, failing_for_deep_trees(), evaluations=10, parallelism=2)

    states = {t["result"]["status"] for t in trials.trials}
    assert states == {"ok", "fail"}
    assert all(t["state"] == JOB_STATE_DONE for t in trials.trials)


def test_a_worker_that_dies_costs_its_trial_only(spark: SparkSession):
    trials = trials_of(spark, dying_for_deep_trees(), evaluations=8, parallelism=2)

    died = [t for t in trials.trials if t["result"]["status"] == "fail"]
    assert 0 < len(died) < 8
    assert [t["state"] for t in trials.trials] == [JOB_STATE_DONE] * 8
    assert all(t["result"]["error"].startswith("lost with its Spark task: Lost task") for t in died)
    assert all("Python worker exited unexpectedly" in t["result"]["error"].splitlines()[0] for t in died)


def test_workers_are_kept_between_trials(spark: SparkSession):
    """Stock SparkTrials starts an interpreter for each trial: its task function leaves its input unread."""
    trials = trials_of(spark, telling_its_process(), evaluations=8, parallelism=1)

    assert len({t["result"]["pid"] for t in trials.trials}) <= 2


def test_when_all_trials_fail_there_is_one_clear_error(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    train, validation = halves
    broken = Matrix(train.features[:3], train.X, train.y, train.days, None)  # names that do not fit the columns

    with pytest.raises(SearchError, match=r"none of 2 trials succeeded .*; the first one: ValueError"):
        run_search(spark, broken, validation, SearchPlan(space=SPACE, trials=2), lambda record: None)


def test_a_validation_set_of_one_class_is_refused_before_any_trial(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    train, validation = halves
    genuine = Matrix(
        validation.features, validation.X, np.zeros_like(validation.y), validation.days, validation.amounts
    )

    with pytest.raises(SearchError, match="0 frauds in 1000 rows"):
        run_search(spark, train, genuine, SearchPlan(space=SPACE), lambda record: pytest.fail(f"{record}"))


def test_what_the_callback_raises_ends_the_search(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    def full(record: TrialRecord) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_search(spark, *halves, SearchPlan(space=SPACE, trials=50), full)


@pytest.mark.proof  # many trials
def test_parallelism_leaves_tpe_something_to_learn_from(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    few = run_search(spark, *halves, SearchPlan(space=SPACE, trials=4), lambda record: None)
    many = run_search(spark, *halves, SearchPlan(space=SPACE, trials=8), lambda record: None)

    assert few.parallelism == 1
    assert many.parallelism == 2


@pytest.mark.proof  # a search; `test_slots` tests the rule
def test_a_parallelism_that_does_not_fit_is_kept_and_noted(
    spark: SparkSession, halves: tuple[Matrix, Matrix], caplog: pytest.LogCaptureFixture
):
    found = run_search(spark, *halves, SearchPlan(space=SPACE, trials=4, parallelism=3), lambda record: None)

    assert found.parallelism == 3
    above, learning = found.notes
    assert "above the cluster's 2 task slots" in above
    assert "above a quarter of the 4 trials" in learning
    assert above in caplog.text


def test_two_searches_that_take_turns_on_one_session_never_mix_their_data(
    spark: SparkSession, halves: tuple[Matrix, Matrix]
):
    train, validation = halves
    flipped = dataclasses.replace(train, y=(1 - train.y).astype(np.uint8))
    plan = SearchPlan(space=SPACE, trials=4, parallelism=1)
    alone = [run_search(spark, rows, validation, plan, lambda record: None) for rows in (train, flipped)]
    found: dict[int, Any] = {}

    def search(number: int, rows: Matrix) -> None:
        found[number] = run_search(spark, rows, validation, plan, lambda record: None)

    threads = [threading.Thread(target=search, args=item) for item in enumerate((train, flipped))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [without_time(found[number].trials) for number in (0, 1)] == [without_time(one.trials) for one in alone]
    assert alone[0].best.value != alone[1].best.value
