"""The objective of a search: fit one point on the training rows, evaluate it on the validation rows.

What belongs here: the fit, its parameters, and the four objectives. What does not: Spark, hyperopt, the test rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops_assets.errors import SearchError
from mlops_assets.evaluation import metrics
from mlops_assets.training.space import TREES

if TYPE_CHECKING:
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import Objective
    from mlops_assets.training.search.shared_data import Samples
    from mlops_assets.training.space import Point

# Kappa and F1 use their best validation threshold: at 0.5 a model of rare events scores zero even if it ranks well.
MAXIMIZED: tuple[Objective, ...] = ("average_precision", "kappa", "f1")


def booster_parameters(point: Point, *, seed: int, threads: int) -> dict[str, Any]:
    """Return XGBoost's parameters for a point; the number of trees is `num_boost_round`.

    Args:
        point: The hyperparameters.
        seed: Seed of XGBoost's own randomness.
        threads: Threads of one fit: the CPUs of its Spark task, no more. On two cores, two fits of two threads take
            several times as long as two fits of one thread.
    """
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        **tree_parameters(point),
        "seed": seed,
        "nthread": threads,
    }


def tree_parameters(point: Point) -> dict[str, float]:
    """Return the point without the number of trees."""
    return {name: value for name, value in point.items() if name != TREES}


def trees_of(point: Point) -> int:
    """Return the number of trees that a point asks for."""
    return int(point[TREES])


def quantized(data: Matrix | Samples, *, threads: int, ref: xgb.QuantileDMatrix | None = None) -> xgb.QuantileDMatrix:
    """Return the data binned for `hist`; validation rows take the training rows' bins through `ref`."""
    return xgb.QuantileDMatrix(data.X, label=data.y, feature_names=list(data.features), nthread=threads, ref=ref)


def fit(
    point: Point,
    train: xgb.QuantileDMatrix,
    *,
    seed: int,
    threads: int,
    rounds: int | None = None,
    callback: xgb.callback.TrainingCallback | None = None,
) -> xgb.Booster:
    """Train one model on the training rows.

    Args:
        point: The hyperparameters.
        train: The training rows, binned.
        seed: Seed of XGBoost.
        threads: Threads of the fit.
        rounds: Trees to fit instead of all `n_estimators`; fewer give the same first trees.
        callback: Watches the training, and may stop it.
    """
    return xgb.train(
        booster_parameters(point, seed=seed, threads=threads),
        train,
        num_boost_round=trees_of(point) if rounds is None else rounds,
        callbacks=None if callback is None else [callback],
    )


def predict(model: xgb.Booster, data: Matrix) -> npt.NDArray[np.float32]:
    """Return the probability of fraud, float32 [rows].

    One thread and a plain DMatrix, as when the served model is called, so that the scores agree bit for bit.
    """
    return model.predict(xgb.DMatrix(data.X, feature_names=list(data.features), nthread=1))


def judge(objective: Objective, y: npt.NDArray[np.uint8], scores: npt.NDArray[np.floating[Any]]) -> float:
    """Return the objective's value on validation rows, in its own direction (a smaller log-loss is better)."""
    if objective == "average_precision":
        return metrics.average_precision(y, scores)
    if objective == "kappa":
        return metrics.best_kappa(y, scores)
    if objective == "f1":
        return metrics.best_f1(y, scores)
    return metrics.log_loss(y, scores)


def to_loss(objective: Objective, value: float) -> float:
    """Return the value as a loss, which hyperopt minimizes.

    Raises:
        SearchError: The value is not a finite number; hyperopt would pick NaN as the best.
    """
    if not math.isfinite(value):
        raise SearchError(f"{objective} is {value}", where="validation set", fix="look at the trial's parameters")
    return -value if objective in MAXIMIZED else value
