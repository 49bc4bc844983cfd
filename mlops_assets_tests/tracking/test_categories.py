"""A model with categories in MLflow: XGBoost's own file, a signature as the contract has it, and a caller's text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from mlflow.exceptions import MlflowException

from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import judge_served_scores, register_once, score
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.category_codes import levels_of
from mlops_assets.training.bagging import averaged
from mlops_assets.training.categories import to_frame
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets_tests.training.test_categories import POINT, SHOPS, drawn

NAME = "fraud_shops"
# In an interpreter in which this package can't be imported.
ALONE = """
import sys, mlflow, pandas as pd
sys.modules["mlops_assets"] = None
model = mlflow.pyfunc.load_model(sys.argv[1])
print([float(value) for value in model.predict(pd.DataFrame({"amount": [0.0, 0.0], "shop": ["games", None]}))])
"""


@pytest.fixture
def served(tracking: Tracking) -> Path:
    """Return the folder of a registered mean of models; it gives the bits of the trained one."""
    binned = quantized(drawn(3_000, 1), threads=1)
    model = averaged([fit(POINT, binned, seed=seed, threads=1) for seed in range(3)])
    # Other levels than those of the training rows.
    rows = drawn(500, 3, ("airline", *SHOPS))
    store = tracking.connect()
    with store.open_run("shops", {}) as run:
        example = to_frame(rows.X[:3], rows.features, rows.levels)
        uri = run.log_model(model, example, {})
    version = register_once(store, NAME, run.run_id, uri)

    assert judge_served_scores(
        version, predict(model, rows), score(load_verified(store, NAME, version.number), rows)
    ).passed
    wrong = score(load_verified(store, NAME, version.number), drawn(500, 4))
    assert not judge_served_scores(version, predict(model, rows), wrong).passed, "the control"
    with store.selected():
        return Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))


def test_a_caller_sends_text_and_a_new_level_scores_like_none(served: Path):
    model = mlflow.pyfunc.load_model(str(served))

    def scores(shops: pd.Series) -> np.ndarray:
        return np.asarray(model.predict(pd.DataFrame({"amount": np.zeros(len(shops)), "shop": shops})))

    shops = pd.Series(["games", "bakery", "a shop of tomorrow", None])
    found = scores(shops)
    assert found[0] > 3 * found[1]
    assert found[2] == found[3]
    assert np.array_equal(scores(shops.astype("string")), found)
    with pytest.raises(MlflowException, match="Incompatible input types for column shop"):
        scores(pd.Series([1.0, 2.0]))
    assert [(item["name"], item["type"]) for item in model.metadata.signature.inputs.to_dict()] == [
        ("amount", "double"),
        ("shop", "string"),
    ]


def test_the_artifact_is_xgboost_s_own_and_needs_nothing_of_this_package(served: Path, tmp_path: Path):
    booster = xgb.Booster(model_file=served / "model.ubj")
    assert levels_of(booster) == {"shop": list(SHOPS)}
    assert booster.feature_types == ["q", "c"]
    assert not list(served.rglob("*.pkl"))
    rows = np.array([[0, SHOPS.index("games")], [0, np.nan]], np.float32)
    direct = booster.predict(xgb.DMatrix(rows, feature_names=["amount", "shop"]))

    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(served)], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert alone.stdout.strip() == str([float(value) for value in direct])
