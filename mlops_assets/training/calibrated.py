"""A booster whose scores are calibrated: slope and intercept of the log-odds become part of its numbers.

What belongs here: writing them into a booster. What does not: fitting them (`evaluation/recalibration`).

A margin is the bias plus a sum of leaves. So the calibrated margin is a sum of leaves again: leaves times the slope,
and the bias times the slope plus the intercept. The model stays one booster in XGBoost's own format: nothing else has
to be loaded with it, wherever it is served, and the contributions of features add up to the calibrated score. Slope
and intercept are also an attribute of the booster, as JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xgboost as xgb

if TYPE_CHECKING:
    from mlops_assets.evaluation.recalibration import Recalibration

CALIBRATION: Final = "calibration"


def calibrated(booster: xgb.Booster, by: Recalibration | None) -> xgb.Booster:
    """Return a booster with calibrated scores; without a calibration the booster as it is."""
    if by is None:
        return booster
    document = json.loads(bytes(booster.save_raw("json")))
    learner = document["learner"]
    model = learner["gradient_booster"]["model"]
    model["trees"] = [_scaled(tree, by.slope) for tree in model["trees"]]
    parameters = learner["learner_model_param"]
    parameters["base_score"] = _moved(parameters["base_score"], by)
    made = xgb.Booster(model_file=bytearray(json.dumps(document).encode()))
    made.set_attr(**{CALIBRATION: json.dumps({"slope": by.slope, "intercept": by.intercept})})
    return made


def _scaled(tree: dict[str, Any], slope: float) -> dict[str, Any]:
    """Return a tree whose leaves, and the weights of all its nodes, are multiplied."""

    def scaled(value: float) -> float:
        return float(np.float32(value) * np.float32(slope))

    conditions = [
        scaled(value) if child == -1 else value
        for value, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
    ]
    return tree | {"split_conditions": conditions, "base_weights": [scaled(value) for value in tree["base_weights"]]}


def _moved(written: str, by: Recalibration) -> str:
    """Return the bias, which XGBoost writes as a probability, alone or as the only one of a list."""
    values = json.loads(written)
    probability = float(values[0] if isinstance(values, list) else values)
    margin = by.slope * (np.log(probability) - np.log1p(-probability)) + by.intercept
    moved = float(1 / (1 + np.exp(-margin)))
    return json.dumps([moved] if isinstance(values, list) else moved)
