"""The recipe is what it says: the given points are tried, and the best one's values are taken, not its indices."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import Trials, fmin, space_eval

from benchmarks import _seed_recipe
from benchmarks._data import draw_points, evaluation_rows, frame, ulb_shaped
from benchmarks._given_points import suggest_given
from mlops_assets.training.space import search_space


def test_given_points_are_tried_in_their_order():
    points = draw_points(search_space("seed"), 5, seed=3)
    trials = Trials()

    found = fmin(
        lambda values: -values["learning_rate"],
        _seed_recipe.space(),
        algo=suggest_given([_seed_recipe.raw_values(point) for point in points]),
        max_evals=5,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )

    raw = [{label: values[0] for label, values in trial["misc"]["vals"].items()} for trial in trials.trials]
    assert [search_space("seed").to_point(space_eval(_seed_recipe.space(), values)) for values in raw] == points
    best = max(points, key=lambda point: point["learning_rate"])
    assert search_space("seed").to_point(space_eval(_seed_recipe.space(), found)) == best
    assert found["n_estimators"] != best["n_estimators"]  # what the seed registers


def test_points_lie_in_the_space_and_repeat_with_their_seed():
    space = search_space("seed")
    points = draw_points(space, 200, seed=1)

    assert points == draw_points(space, 200, seed=1) != draw_points(space, 200, seed=2)
    assert {point["max_depth"] for point in points} == set(range(3, 10))
    assert all(10 <= point["n_estimators"] <= 99 and 0.001 <= point["base_score"] <= 0.1 for point in points)


def test_rows_have_the_shape_of_the_seeds():
    train, test = ulb_shaped(4_000)

    assert train.X.shape == (4_000, 29)
    assert test.rows == evaluation_rows(4_000) == 501
    assert train.frauds / train.rows == pytest.approx(0.5, abs=0.05)  # cut in time, which frauds follow otherwise
    assert int(train.days.max()) <= int(test.days.min())
    assert frame(train).shape == (4_000, 29)
    assert set(frame(train).dtypes) == {np.dtype(np.float64)}


def test_the_pipeline_is_fitted_with_the_point_it_was_given():
    train, _ = ulb_shaped(1_000)
    point = draw_points(search_space("seed"), 1, seed=5)[0]

    model = _seed_recipe.pipeline(point, threads=1, tree_method="exact").fit(frame(train), train.y)["model"]

    assert model.get_booster().num_boosted_rounds() == point["n_estimators"]
    assert model.get_params()["tree_method"] == "exact"
