"""The objective of a search: fit one point on the training rows, evaluate it on the validation rows.

What belongs here: the fit, its parameters, and the four objectives. What does not: Spark, hyperopt, the test rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops_assets.errors import SearchError
from mlops_assets.evaluation import metrics
from mlops_assets.training.categories import for_model, frozen, recoded
from mlops_assets.training.parameters import PARAMETERS, RECENCY
from mlops_assets.training.recency import row_weights
from mlops_assets.training.space import TREES

if TYPE_CHECKING:
    from mlops_assets.training.categories import Levels
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.members import Member
    from mlops_assets.training.plan import Objective
    from mlops_assets.training.search.shared_data import Samples
    from mlops_assets.training.space import Point

# Kappa and F1 use their best validation threshold: at 0.5 a model of rare events scores zero even if it ranks well.
MAXIMIZED: tuple[Objective, ...] = ("average_precision", "kappa", "f1")


def booster_parameters(
    point: Point, *, seed: int, threads: int, monotone: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return XGBoost's parameters for a point; the number of trees is `num_boost_round`.

    Args:
        point: The hyperparameters.
        seed: Seed of XGBoost's own randomness.
        threads: Threads of one fit: the CPUs of its Spark task, no more. On two cores, two fits of two threads take
            several times as long as two fits of one thread.
        monotone: Features in which the score may only rise (1) or fall (-1).
    """
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        **tree_parameters(point),
        "seed": seed,
        "nthread": threads,
        **({"monotone_constraints": dict(monotone)} if monotone else {}),
    }


def tree_parameters(point: Point) -> dict[str, float]:
    """Return the point's parameters of XGBoost, without the number of trees."""
    return {name: value for name, value in point.items() if name in PARAMETERS and name != TREES}


def trees_of(point: Point) -> int:
    """Return the number of trees that a point asks for."""
    return int(point[TREES])


class BinnedRows(xgb.QuantileDMatrix):
    """Rows binned for `hist`, with what a fit has to know of them.

    Attributes:
        days: Day number of each row, int64 [rows].
        weights: What each row counts for, float32 [rows]; None where all count alike.
        levels: What the codes of categories mean, by feature: those of the rows that the bins come from.
        monotone: Features in which the score may only rise (1) or fall (-1).
    """

    def __init__(
        self,
        data: Matrix | Samples,
        *,
        threads: int,
        ref: BinnedRows | None,
        weights: npt.NDArray[np.float32] | None,
    ) -> None:
        self.levels: Levels = data.levels if ref is None else ref.levels
        types = ["c" if name in self.levels else "q" for name in data.features] if self.levels else None
        super().__init__(
            recoded(data.X, data.features, data.levels, self.levels),
            label=data.y,
            weight=weights,
            feature_names=list(data.features),
            feature_types=types,
            enable_categorical=bool(types),
            nthread=threads,
            ref=ref,
        )
        self.days = np.array(data.days)  # a copy: a worker frees the rows once they are binned
        self.weights = weights
        self.monotone = data.monotone


def quantized(
    data: Matrix | Samples,
    *,
    threads: int,
    ref: BinnedRows | None = None,
    weights: npt.NDArray[np.float32] | None = None,
) -> BinnedRows:
    """Return the data binned for `hist`; validation rows take the training rows' bins through `ref`."""
    return BinnedRows(data, threads=threads, ref=ref, weights=weights)


def fit(
    point: Point,
    train: BinnedRows,
    *,
    seed: int,
    threads: int,
    rounds: int | None = None,
    callback: xgb.callback.TrainingCallback | None = None,
) -> xgb.Booster:
    """Train one model on the training rows.

    Args:
        point: The hyperparameters.
        train: The training rows, binned. Where the point weighs rows by their age, they get these weights,
            times their own.
        seed: Seed of XGBoost.
        threads: Threads of the fit.
        rounds: Trees to fit instead of all `n_estimators`; fewer give the same first trees.
        callback: Watches the training, and may stop it.

    Raises:
        SearchError: The rows that count are of one class.
    """
    weights = row_weights(point, train.days)
    if weights is not None:
        if train.weights is not None:
            weights = weights * train.weights
        _require_both_classes(train.get_label(), weights)
        train.set_weight(weights)
    booster = xgb.train(
        booster_parameters(point, seed=seed, threads=threads, monotone=train.monotone),
        train,
        num_boost_round=trees_of(point) if rounds is None else rounds,
        callbacks=None if callback is None else [callback],
    )
    return frozen(booster, train.levels)


def fit_all(members: Sequence[Member], train: BinnedRows, *, threads: int) -> list[xgb.Booster]:
    """Train every member of a bag on the same rows.

    Args:
        members: What to fit.
        train: The training rows, binned.
        threads: Threads of a fit.

    Raises:
        SearchError: The rows that count are of one class.
    """
    return [fit(member.point, train, seed=member.seed, threads=threads, rounds=member.rounds) for member in members]


def _require_both_classes(y: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> None:
    counted = float(weights.sum(dtype=np.float64))
    frauds = float(weights[y == 1].sum(dtype=np.float64))
    if not 0 < frauds < counted:
        raise SearchError(
            f"the rows that count are all {'fraud' if frauds else 'genuine'}",
            where="training set, weighted by age",
            fix=f"raise the low of {' and '.join(RECENCY)}",
        )


def predict(model: xgb.Booster, data: Matrix) -> npt.NDArray[np.float32]:
    """Return the probability of fraud, float32 [rows].

    One thread and a plain DMatrix, as when the served model is called, so that the scores agree bit for bit.
    """
    X = for_model(model, data.X, data.features, data.levels)
    return model.predict(xgb.DMatrix(X, feature_names=list(data.features), nthread=1))


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
