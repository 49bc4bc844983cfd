"""The sample of a screening trial: all frauds, a share of the genuine rows, and the prior of all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost as xgb

from mlops_assets.training.matrix import Matrix
from mlops_assets.training.objective import booster_parameters, judge, quantized
from mlops_assets.training.recency import row_weights
from mlops_assets.training.search.sample import sampled
from mlops_assets.training.search.shared_data import Samples
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets_tests.training.search.test_trial import POINT, task


def test_it_keeps_all_frauds_the_order_and_the_prior(halves: tuple[Matrix, Matrix]):
    rows = Samples.of(halves[0])

    sample, places, weights = sampled(rows, 0.1, seed=3)

    genuine = int((rows.y == 0).sum())
    assert np.array_equal(places[sample.y == 1], np.flatnonzero(rows.y == 1))
    assert (sample.y == 0).sum() == round(0.1 * genuine)
    assert np.all(np.diff(places) > 0)
    assert np.array_equal(sample.X, rows.X[places])
    assert np.array_equal(sample.days, rows.days[places])
    assert set(weights[sample.y == 1]) == {1.0}
    assert weights[sample.y == 0].sum() == pytest.approx(genuine, rel=1e-5)


def test_a_seed_repeats_it_and_another_one_does_not(halves: tuple[Matrix, Matrix]):
    rows = Samples.of(halves[0])
    drawn = [sampled(rows, 0.1, seed=seed)[1] for seed in (3, 3, 4)]

    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("share", "kept"), [(1e-9, 1), (1.0, 5)])
def test_it_never_loses_a_class(share: float, kept: int):
    y = np.array([0, 1, 0, 0, 1, 0, 0], dtype=np.uint8)
    rows = Samples(("a",), np.zeros((7, 1), np.float32), y, np.arange(7))

    sample, _, weights = sampled(rows, share, seed=1)

    assert (int((sample.y == 0).sum()), int(sample.y.sum())) == (kept, 2)
    assert weights[sample.y == 0].sum() == 5


def test_a_model_of_the_sample_promises_as_many_frauds_as_one_of_all_rows(halves: tuple[Matrix, Matrix]):
    """XGBoost itself says whether the prior is kept; without the weights it would promise many times as many."""
    train, validation = halves
    sample, _, weights = sampled(Samples.of(train), 0.1, seed=3)

    def promised(rows: Matrix | Samples, counted: npt.NDArray[np.float32] | None) -> float:
        data = xgb.DMatrix(rows.X, rows.y, weight=counted, feature_names=list(train.features))
        model = xgb.train(booster_parameters(POINT, seed=1, threads=1), data, num_boost_round=5)
        return float(model.predict(xgb.DMatrix(validation.X, feature_names=list(train.features))).mean())

    of_all, kept, lost = promised(train, None), promised(sample, weights), promised(sample, None)
    assert kept == pytest.approx(of_all, rel=0.3)
    assert lost > 2 * of_all


def screened(task: TrialTask, share: float) -> dict[str, Any]:
    return task(Assignment(POINT, share=share))


def test_a_screening_trial_is_fitted_on_the_sample_and_judged_on_all_validation_rows(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    one = task(halves, "screened", every=0, patience=0)

    result, whole = screened(one, 0.2), screened(one, 1.0)

    sample, _, weights = sampled(Samples.of(train), 0.2, seed=one.seed)
    binned = quantized(sample, threads=1, weights=weights)
    rounds = int(POINT["n_estimators"])
    model = xgb.train(booster_parameters(POINT, seed=one.seed, threads=1), binned, num_boost_round=rounds)
    scores = model.predict(xgb.DMatrix(validation.X, feature_names=list(train.features)))
    assert result["value"] == judge("average_precision", validation.y, scores)
    assert whole["value"] != result["value"]
    assert screened(task(halves, "alone", every=0, patience=0), 1.0)["value"] == whole["value"]


def test_an_earlier_fold_is_fitted_on_its_part_of_the_sample(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    one = task((train, validation, validation), "folds", every=0, patience=0, older_rows=(1_200,))
    first = task((train.where(np.arange(train.rows) < 1_200), validation), "first", every=0, patience=0)

    folds = screened(one, 0.2)["folds"]

    assert folds[0][0] == screened(task(halves, "newest", every=0, patience=0), 0.2)["value"]
    # Its bins are those of the whole sample, so it is close to a fit on its rows alone, and not the same.
    assert folds[1][0] == pytest.approx(screened(first, 0.2)["value"], abs=0.15)
    assert folds[1][0] != folds[0][0]


def test_weights_by_age_multiply_those_of_the_sample(halves: tuple[Matrix, Matrix]):
    point = {**POINT, "half_life_days": 2.0}
    one = task(halves, "aged", every=0, patience=0)
    train, validation = halves

    result = one(Assignment(point, share=0.2))

    sample, _, weights = sampled(Samples.of(train), 0.2, seed=one.seed)
    aged = row_weights(point, sample.days)
    assert aged is not None
    binned = quantized(sample, threads=1, weights=weights)
    binned.set_weight(weights * aged)
    model = xgb.train(
        booster_parameters(point, seed=one.seed, threads=1), binned, num_boost_round=int(POINT["n_estimators"])
    )
    scores = model.predict(xgb.DMatrix(validation.X, feature_names=list(train.features)))
    assert result["value"] == judge("average_precision", validation.y, scores)


def test_what_a_worker_holds_is_that_of_one_search(halves: tuple[Matrix, Matrix]):
    other = dataclasses.replace(halves[0], y=(1 - halves[0].y).astype(np.uint8))
    one, two = (task((rows, halves[1]), name, every=0, patience=0) for rows, name in ((halves[0], "a"), (other, "b")))

    alone = [screened(each, 0.2)["value"] for each in (one, two)]

    assert [screened(each, 0.2)["value"] for each in (one, two, one)] == [*alone, alone[0]]
    assert alone[0] != alone[1]
