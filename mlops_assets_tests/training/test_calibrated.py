"""A calibrated model is one booster: its scores, its contributions and its first trees follow, and its order stays."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb

from mlops_assets.evaluation.recalibration import Recalibration
from mlops_assets.training.bagging import averaged
from mlops_assets.training.calibrated import CALIBRATION, calibrated

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(3_000, 4)).astype(np.float32)
Y = (RANDOM.random(3_000) < 1 / (1 + np.exp(-(2 * X[:, 0] - 3)))).astype(np.uint8)
BY = Recalibration(0.7, -0.3, 0.01, 0.02)


def fitted(**parameters: float) -> xgb.Booster:
    given = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, **parameters}
    return xgb.train(given, xgb.DMatrix(X, Y), 15)


MODELS = {
    "plain": fitted(),
    "forest": fitted(num_parallel_tree=2),
    "base score": fitted(base_score=0.01),
    "mean": averaged([fitted(seed=1, subsample=0.5), fitted(seed=2, subsample=0.5)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_margins_are_a_slope_and_an_intercept_away(name: str):
    model, rows = MODELS[name], xgb.DMatrix(X)
    made = calibrated(model, BY)

    expected = BY.slope * model.predict(rows, output_margin=True) + BY.intercept
    assert made.predict(rows, output_margin=True) == pytest.approx(expected, abs=2e-5)
    assert made.predict(rows) == pytest.approx(BY(model.predict(rows)), abs=1e-5)
    contributions = model.predict(rows, pred_contribs=True)[:, :-1]
    assert made.predict(rows, pred_contribs=True)[:, :-1] == pytest.approx(BY.slope * contributions, abs=1e-4)
    assert json.loads(made.attributes()[CALIBRATION]) == {"slope": 0.7, "intercept": -0.3}


def test_it_survives_its_file_bit_for_bit():
    made = calibrated(MODELS["plain"], BY)
    loaded = xgb.Booster(model_file=made.save_raw())

    assert np.array_equal(made.predict(xgb.DMatrix(X)), loaded.predict(xgb.DMatrix(X)))
    assert CALIBRATION in loaded.attributes()


def test_without_a_calibration_the_model_is_itself():
    assert calibrated(MODELS["plain"], None) is MODELS["plain"]
