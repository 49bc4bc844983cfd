"""Slots that are free while the last trials run: further points that end in time count, the search waits for none."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperopt import fmin, rand
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE

from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.proposals import Document, is_extra, point_of, to_hyperopt
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.search.trial import Assignment
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.search.test_trial import POINT, task, value_of
from mlops_assets_tests.training.searching import SPACE
from mlops_assets_tests.training.spaces import fixed_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def lasting(seconds: dict[int, float]) -> Any:
    """Return a task whose trials take the given seconds by number, and 60 if theirs is not given."""

    def task(numbered: tuple[int, Any]) -> dict[str, Any]:
        number, point = numbered
        time.sleep(seconds.get(number, 60.0))
        return {"status": "ok", "loss": point["learning_rate"], "seconds": 0.0}

    return task


def search(spark: SparkSession, seconds: dict[int, float], *, trials: int, parallelism: int = 2) -> list[Document]:
    """Search with idle slots in use; return all documents, cancelled ones too."""
    ended: list[Document] = []
    made = EventDrivenSparkTrials(
        spark,
        parallelism,
        lambda document: (document["tid"], point_of(SPACE, document)),
        ended.append,
        use_idle_slots=True,
    )
    fmin(
        lasting(seconds),
        to_hyperopt(SPACE),
        algo=rand.suggest,
        max_evals=trials,
        trials=made,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    assert made.fmin_cancelled_reason is None
    documents: list[Document] = made._dynamic_trials
    assert [d["tid"] for d in documents if d["state"] == JOB_STATE_DONE] == sorted(d["tid"] for d in ended)
    return documents


def test_what_ends_before_the_last_trial_counts_and_the_rest_is_cancelled(spark: SparkSession):
    """Trial 1 is the last of the budget; beside it trial 2 ends in time, and trial 3 would take a minute."""
    started = time.monotonic()
    documents = search(spark, {0: 0.1, 1: 4.0, 2: 0.1}, trials=2)

    assert time.monotonic() - started < 30
    assert [(is_extra(d), d["state"]) for d in documents] == [
        (False, JOB_STATE_DONE),
        (False, JOB_STATE_DONE),
        (True, JOB_STATE_DONE),
        (True, JOB_STATE_CANCEL),
    ]


def test_with_one_trial_in_flight_nothing_is_added(spark: SparkSession):
    documents = search(spark, dict.fromkeys(range(9), 0.0), trials=3, parallelism=1)

    assert [is_extra(document) for document in documents] == [False] * 3


def test_a_trial_whose_time_is_over_keeps_the_trees_it_has(halves: tuple[Matrix, Matrix]):
    """It is a trial of so many trees: a fit of the point with as many has its value, to the last bit."""
    one = task(halves, "cut", every=5, patience=0)

    cut, whole = one(Assignment(POINT, seconds=0.0)), one(Assignment(POINT))

    assert (cut["rounds"], whole["rounds"]) == (5, 48)
    assert cut["value"] == value_of(halves, 5) == whole["curve"][0][1]
    assert not cut["pruned"]


def test_each_fold_has_its_part_of_the_time(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    one = task((train, validation, validation), "cut-folds", every=5, patience=0, older_rows=(1_200,))

    cut = one(Assignment(POINT, seconds=0.0))

    assert [rounds for _, rounds, _ in cut["folds"]] == [5, 5]


@pytest.mark.proof  # two searches
def test_a_search_adds_trials_that_may_win_and_repeats_without_them(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, trials=8, parallelism=2, use_idle_slots=True)
    alone = dataclasses.replace(plan, parallelism=1)

    found = run_search(spark, *halves, plan, lambda record: None)
    ones, others = (
        run_search(spark, *halves, each, lambda record: None)
        for each in (alone, dataclasses.replace(alone, use_idle_slots=False))
    )

    more = len(found.trials) - 8
    assert set(range(8)) <= {record.number for record in found.trials}
    assert found.best.value == max(r.value or 0 for r in found.trials if r.state == "finished")
    assert found.end_reason == "all 8 trials were tried" + (f", {more} more in slots that were free" if more else "")
    assert without_time(ones.trials) == without_time(others.trials)


def test_a_space_of_one_point_is_tried_once(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=fixed_space(POINT), trials=4, parallelism=2, use_idle_slots=True)

    assert len(run_search(spark, *halves, plan, lambda record: None).trials) == 1
