"""A constraint of the contract holds in every fit: a trial's, a fold's, the final one and a mean of several."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.training.bagging import averaged
from mlops_assets.training.matrix import Matrix, joined
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets.training.space import Point
from mlops_assets_tests.training.search.test_trial import Here

POINT: Point = {"n_estimators": 30, "max_depth": 4, "learning_rate": 0.2, "subsample": 0.8}


def drawn(rows: int, seed: int) -> Matrix:
    """Return rows whose risk rises with the number of tries up to a point, and then falls."""
    random = np.random.default_rng(seed)
    X = np.column_stack([random.integers(0, 10, rows), random.normal(size=rows)]).astype(np.float32)
    y = random.random(rows) < np.where(np.isin(X[:, 0], [4, 5, 6]), 0.3, 0.03)
    return Matrix(("tries", "noise"), X, y.astype(np.uint8), np.arange(rows) // 50, None)


def grid() -> Matrix:
    """Return rows in which only the tries rise, ten for each value of the noise."""
    noise = np.repeat(np.linspace(-2, 2, 21), 10)
    X = np.column_stack([np.tile(np.arange(10), 21), noise]).astype(np.float32)
    nothing = np.zeros(210, np.int64)
    return Matrix(("tries", "noise"), X, nothing.astype(np.uint8), nothing, None)


def steps(train: Matrix, seeds: int) -> np.ndarray:
    """Return how much the score of a mean of models changes from one number of tries to the next."""
    binned = quantized(train, threads=1)
    model = averaged([fit(POINT, binned, seed=seed, threads=1) for seed in range(seeds)])
    return np.diff(predict(model, grid()).reshape(-1, 10), axis=1)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("direction", [1, -1])
def test_the_score_moves_in_one_direction_only(seeds: int, direction: int):
    train = drawn(3_000, 1)

    bound = steps(dataclasses.replace(train, monotone={"tries": direction}), seeds)

    assert (direction * bound >= 0).all()
    assert (direction * bound).sum() > 0, "it still moves"
    free = steps(train, seeds)
    assert (free < 0).any(), "the control: these rows rise"
    assert (free > 0).any(), "and fall by themselves"


def test_trials_and_folds_are_bound_too():
    train, validation, older = (
        dataclasses.replace(drawn(rows, seed), monotone={"tries": -1})
        for rows, seed in ((3_000, 1), (1_000, 2), (900, 3))
    )
    task = TrialTask("bound", Here((train, validation, older)), "average_precision", 42, 1, 0, 0, (2_000,))

    result = task(Assignment(POINT))

    first = train.where(np.arange(3_000) < 2_000)
    for (value, *_), rows, judged in zip(result["folds"], (train, first), (validation, older), strict=True):
        model = fit(POINT, quantized(rows, threads=1, ref=quantized(train, threads=1)), seed=42, threads=1)
        assert value == average_precision(judged.y, predict(model, judged))
        assert model.save_config().count("(-1,0)") == 1


def test_joined_rows_keep_the_constraint():
    assert joined([dataclasses.replace(drawn(50, 1), monotone={"tries": 1})] * 2).monotone == {"tries": 1}
