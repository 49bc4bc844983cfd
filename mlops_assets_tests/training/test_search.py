"""The search on real Spark: failures count as failures, workers are kept, points are decoded, an interrupt cancels."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperopt import Trials, fmin, tpe
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_ERROR

from mlops_assets.data.sources.synthetic import generate
from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.proposals import decode, to_hyperopt
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search import run_search
from mlops_assets.training.space import Point, Range, SearchSpace
from mlops_assets.training.spark_trials import EventDrivenSparkTrials

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPACE = SearchSpace(max_depth=Range(2, 4), n_estimators=Range(3, 9))


@pytest.fixture(scope="module")
def halves() -> tuple[Matrix, Matrix]:
    table = generate(rows=3_000, days=6, fraud_rate=0.05, seed=11)
    names = tuple(f"v{number}" for number in range(1, 29))
    X = np.column_stack([table.column(name).to_numpy() for name in names]).astype(np.float32)
    y = table.column("class").to_numpy().astype(np.uint8)
    days = (table.column("time").to_numpy() // 86_400).astype(np.int64)

    def part(rows: slice) -> Matrix:
        return Matrix(names, X[rows], y[rows], days[rows], None)

    return part(slice(0, 2_000)), part(slice(2_000, 3_000))


# What executors run must be importable there or be pickled by value; cloudpickle pickles functions of a test module by
# reference, so these are made by functions.
def failing_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point.max_depth == 4:
            return {"status": "fail", "error": "ValueError: too deep", "seconds": 0.0}
        return {"status": "ok", "loss": float(point.max_depth), "value": -float(point.max_depth), "seconds": 0.0}

    return task


def dying_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point.max_depth == 4:
            os._exit(9)
        return {"status": "ok", "loss": float(point.max_depth), "seconds": 0.0}

    return task


def telling_its_process() -> Any:
    def task(point: Point) -> dict[str, Any]:
        return {"status": "ok", "loss": point.learning_rate, "pid": os.getpid(), "seconds": 0.0}

    return task


def sleeping() -> Any:
    def task(point: Point) -> dict[str, Any]:
        time.sleep(120)
        return {"status": "ok", "loss": 1.0, "seconds": 120.0}

    return task


def trials_of(spark: SparkSession, task: Any, evaluations: int, parallelism: int) -> EventDrivenSparkTrials:
    trials = EventDrivenSparkTrials(spark, parallelism, lambda values: decode(SPACE, values), lambda document: None)
    fmin(
        task,
        to_hyperopt(SPACE),
        algo=tpe.suggest,
        max_evals=evaluations,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    return trials


def test_the_best_trial_is_the_one_with_the_best_validation_value(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    seen: list[TrialRecord] = []

    found = run_search(spark, *halves, SearchPlan(space=SPACE, trials=6), seen.append)

    assert list(found.trials) == seen
    assert sorted(record.number for record in seen) == list(range(6))
    assert found.best.value == max(record.value or 0 for record in seen)
    assert all(2 <= record.point.max_depth <= 4 and 3 <= record.point.n_estimators <= 9 for record in seen)


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
        algo=tpe.suggest,
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

    died = [t for t in trials._dynamic_trials if t["state"] == JOB_STATE_ERROR]
    assert died
    assert len(died) + sum(t["state"] == JOB_STATE_DONE for t in trials._dynamic_trials) == 8
    assert "misc" in died[0]
    assert died[0]["misc"]["error"]


def test_workers_are_kept_between_trials(spark: SparkSession):
    """Stock SparkTrials starts an interpreter for each trial: its task function leaves its input unread."""
    trials = trials_of(spark, telling_its_process(), evaluations=8, parallelism=1)

    assert len({t["result"]["pid"] for t in trials.trials}) <= 2


def test_when_all_trials_fail_there_is_one_clear_error(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    train, validation = halves
    broken = Matrix(train.features[:3], train.X, train.y, train.days, None)  # names that do not fit the columns

    with pytest.raises(SearchError, match="none of 2 trials succeeded; the first one: ValueError"):
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


def test_an_interrupt_cancels_running_trials_within_seconds(spark: SparkSession):
    trials = EventDrivenSparkTrials(spark, 2, lambda values: decode(SPACE, values), lambda document: None)
    threading.Timer(4.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        fmin(
            sleeping(),
            to_hyperopt(SPACE),
            algo=tpe.suggest,
            max_evals=10,
            trials=trials,
            rstate=np.random.default_rng(1),
            show_progressbar=False,
            return_argmin=False,
        )

    assert time.monotonic() - started < 20
    assert {t["state"] for t in trials._dynamic_trials} <= {JOB_STATE_CANCEL, JOB_STATE_ERROR}
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []


def test_parallelism_leaves_tpe_something_to_learn_from(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    few = run_search(spark, *halves, SearchPlan(space=SPACE, trials=4), lambda record: None)
    many = run_search(spark, *halves, SearchPlan(space=SPACE, trials=8), lambda record: None)

    assert few.parallelism == 1
    assert many.parallelism == 2


def test_decode_gives_values_not_indices():
    """`fmin` returns indices for choices; a fixed parameter is not in its result at all."""
    fixed = SearchSpace(max_depth=Range(5, 5), n_estimators=Range(10, 99))

    point = decode(fixed, {"n_estimators": 12.0, "learning_rate": 0.2, "reg_alpha": 0.05, "base_score": 0.01})

    assert point == Point(5, 12, 0.2, 0.05, 0.01)
    assert isinstance(point.n_estimators, int)
