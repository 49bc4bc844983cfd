"""A search over several folds on real Spark: resumed bit for bit, pruned by the running mean, finished by its refit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.evaluation.threshold import by_alert_budget
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.folds import Fold, earlier_folds
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import SearchResult
from mlops_assets.training.search.search import run_search
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.spaces import seed_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PLAN = SearchPlan(
    space=seed_space(max_depth=(2, 6), n_estimators=(10, 30)), trials=16, parallelism=1, checkpoint_rounds=2, folds=3
)


@pytest.fixture(scope="module")
def older(halves: tuple[Matrix, Matrix]) -> tuple[Fold, ...]:
    """Two folds of a day each: the validation rows are the last two of six days."""
    train, validation = halves
    last = validation.where(validation.days == validation.days.max())
    folds = earlier_folds(train, [], dataclasses.replace(last, days=last.days - 1), folds=3, gap_days=0)
    assert [fold.train_rows for fold in folds] == [int((train.days < day).sum()) for day in (3, 2)]
    return folds


@pytest.fixture(scope="module")
def found(spark: SparkSession, halves: tuple[Matrix, Matrix], older: tuple[Fold, ...]) -> SearchResult:
    return run_search(spark, *halves, PLAN, lambda record: None, older=older)


@pytest.mark.proof  # many fits
def test_the_best_trial_has_the_best_mean_over_all_folds(found: SearchResult, older: tuple[Fold, ...]):
    assert {record.state for record in found.trials} == {"finished", "pruned"}
    for record in found.trials:
        assert record.value == sum(fold.value for fold in record.folds) / len(record.folds)
        assert (record.state == "finished") <= (len(record.folds) == 3)
    finished = [record for record in found.trials if record.state == "finished"]
    assert found.best.value == max(record.value or 0 for record in finished)
    assert found.older_rows == tuple(fold.train_rows for fold in older)


def test_a_pruned_trial_tells_tpe_what_the_mean_over_all_folds_would_be(found: SearchResult):
    """The newest fold is easier here than the others: what was pruned on it alone is not the best there is."""
    early = [record for record in found.trials if record.state == "pruned" and len(record.folds) < 3]

    assert early
    assert all(record.loss != -(record.value or 0) for record in early)


def test_it_is_resumed_bit_for_bit(
    spark: SparkSession, halves: tuple[Matrix, Matrix], older: tuple[Fold, ...], found: SearchResult
):
    resumed = run_search(spark, *halves, PLAN, lambda record: None, found.trials[:9], older)

    assert without_time(resumed.trials) == without_time(found.trials)


def test_the_threshold_is_chosen_on_the_rows_of_all_folds(
    halves: tuple[Matrix, Matrix], older: tuple[Fold, ...], found: SearchResult
):
    train, validation = halves
    plan = EvaluationPlan(threshold_rule="alert_budget", alerts_per_day=12, replicates=50)

    model = finish(train, validation, lambda: validation, found, PLAN, plan, older)

    assert model.reproduction.passed
    binned, best = quantized(train, threads=1), found.best
    scores, days = [predict(model.booster, validation)], [validation.days]
    for fold, record in zip(older, best.folds[1:], strict=True):
        rows = quantized(train.where(np.arange(train.rows) < fold.train_rows), threads=1, ref=binned)
        scores.append(predict(fit(best.point, rows, seed=PLAN.seed, threads=1, rounds=record.rounds), fold.validation))
        days.append(fold.validation.days)
    assert model.threshold == by_alert_budget(np.concatenate(scores), np.concatenate(days), 12)
    assert model.threshold != by_alert_budget(scores[0], days[0], 12)
