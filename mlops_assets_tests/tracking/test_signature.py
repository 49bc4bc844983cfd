"""What MLflow's own `load_model(...).predict` makes of a caller's frame, by the type that the contract gives a column.

Each case says what happens to missing values: MLflow knows no column that may have none, so a missing number in a
column of doubles is scored. Our own serving and `mlops score` refuse it (`mlops_assets_tests/serving`).
"""

from __future__ import annotations

import io
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from mlflow.exceptions import MlflowException

from mlops_assets.data.contract.contract import parse_contract
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import register_once
from mlops_assets.resources.tracking import Tracking
from mlops_assets.training.matrix import as_declared

CONTRACT = """
name: types
version: 1
event_time: at
target: fraud
features: [amount, tries, abroad, chip]
columns:
  - {name: at, type: timestamp}
  - {name: amount, type: double, min: 0}
  - {name: tries, type: long, min: 0}
  - {name: abroad, type: boolean}
  - {name: chip, type: boolean, nullable: true}
  - {name: fraud, type: long, min: 0, max: 1}
"""
NAMES = ["amount", "tries", "abroad", "chip"]


def model(tracking: Tracking, features: list[str]) -> tuple[Any, Any, xgb.Booster]:
    """Register a model of the features; return it as MLflow and as the platform load it, and its booster."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "amount": random.gamma(1, 50, 500),
            "tries": random.integers(0, 5, 500).astype(float),
            "abroad": random.integers(0, 2, 500).astype(float),
            "chip": np.where(random.random(500) < 0.2, np.nan, random.integers(0, 2, 500)),
        }
    )[features]
    y = (frame["abroad"] + random.normal(size=500) * 0.3 + frame["amount"] / 100) > 1
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(frame, label=y), 10)
    store = tracking.connect()
    with store.open_run("types", {}) as run:
        uri = run.log_model(booster, as_declared(frame.head(5), parse_contract(CONTRACT, where="types.yaml")), {})
    version = register_once(store, "fraud_types", run.run_id, uri)
    with store.selected():
        served = mlflow.pyfunc.load_model(f"models:/fraud_types/{version.number}")
    return served, load_verified(store, "fraud_types", version.number), booster


def test_the_signature_is_the_contract_s_and_the_user_s_own_file_is_scored(tracking: Tracking):
    served, verified, booster = model(tracking, NAMES)
    kinds = {"amount": "double", "tries": "long", "abroad": "boolean", "chip": "boolean"}
    assert {item["name"]: item["type"] for item in served.metadata.signature.inputs.to_dict()} == kinds
    assert verified.inputs == kinds
    file = io.StringIO("amount,tries,abroad,chip\n12.5,3,True,False\n80.0,0,false,\n120,1,true,TRUE\n")

    scores = served.predict(pd.read_csv(file))

    X = np.array([[12.5, 3, 1, 0], [80, 0, 0, np.nan], [120, 1, 1, 1]], dtype=np.float32)
    assert np.array_equal(scores, booster.predict(xgb.DMatrix(X, feature_names=NAMES)))


def test_what_a_missing_value_does_is_said_by_type(tracking: Tracking):
    served, _, _ = model(tracking, NAMES)

    def given(**columns: Any) -> pd.DataFrame:
        rows = {"amount": [1.0, 2.0], "tries": [1, 2], "abroad": [True, False], "chip": [True, False]}
        return pd.DataFrame(rows | columns)

    assert np.isfinite(served.predict(given())).all()
    # Accepted, and for a double without a word: MLflow's types say nothing of missing values.
    assert np.isfinite(served.predict(given(chip=[None, True]))).all()
    assert np.isfinite(served.predict(given(amount=[None, 2.0]))).all()
    # Refused: the type has no such value, ...
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        served.predict(given(tries=[1, None]))
    # ... and what stands for a column's booleans is none.
    for wrong in (["true", "false"], ["1", None], [2, True]):
        with pytest.raises(ValueError, match="column chip: values must be True, False or missing"):
            served.predict(given(chip=wrong))
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        served.predict(given(abroad=[1, 0]))
    with pytest.raises(MlflowException, match=r"missing inputs.*abroad"):
        served.predict(given().drop(columns="abroad"))


def test_a_boolean_that_may_not_be_missing_is_refused_if_it_is_and_needs_no_code_beside_the_model(tracking: Tracking):
    served, _, _ = model(tracking, ["amount", "abroad"])
    assert served.metadata.flavors["python_function"]["loader_module"] == "mlflow.xgboost"

    assert np.isfinite(served.predict(pd.DataFrame({"amount": [1.0], "abroad": [True]}))).all()
    with pytest.raises(ValueError, match=r"Invalid columns:\s*abroad"):
        served.predict(pd.DataFrame({"amount": [1.0, 2.0], "abroad": [True, None]}))
