"""The seed project's search, rebuilt from a description of it as a baseline; none of its code is used here.

What belongs here: the recipe as it is: its pipeline, objective and space, stock SparkTrials, and its best point,
decoded correctly. What does not: improvements, and timing of anything but the search.

- A scikit-learn pipeline of StandardScaler and XGBClassifier, refitted in each trial on pandas frames of doubles.
- The objective closes over those frames, so each trial pickles and ships them.
- One trial at a time on a worker, with all the threads of its Spark task (the seed's tasks take the whole worker).
- Minus Cohen's kappa at 0.5 on the test rows is the loss; those rows have no other use here than our validation rows.
- `hp.choice` for whole numbers, TPE with its defaults.

Left out on both sides: MLflow, oversampling. A trial here predicts once for all metrics, the seed's three times.
Each trial also computes average precision (about 10 ms) for benchmarks that compare it; it is not part of the loss.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hyperopt import STATUS_OK, SparkTrials, fmin, hp, space_eval, tpe
from hyperopt.base import JOB_STATE_DONE
from hyperopt.utils import coarse_utcnow
from sklearn.metrics import average_precision_score, cohen_kappa_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from benchmarks._data import frame
from benchmarks._given_points import suggest_given
from mlops_assets.training.space import Point, search_space

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix

# `exact` is what XGBoost 1.x, and so the seed, chose below 4.2 million rows; `hist` is today's default.
TreeMethod = Literal["hist", "exact"]
DEPTHS = list(range(3, 10))
TREES = list(range(10, 100))
ALERT_FROM = 0.5
_to_point = search_space("seed").to_point


@dataclass(frozen=True)
class RecipeTrial:
    """One finished trial.

    Attributes:
        point: What was tried.
        kappa: On the test rows at 0.5; what the recipe maximizes.
        average_precision: On the same rows.
        fit_seconds: Time of the objective on the worker.
        after_seconds: Seconds from the start of the search until the result arrived.
        peak_bytes: Largest resident size of its worker; stock SparkTrials has a new worker for each trial.
    """

    point: Point
    kappa: float
    average_precision: float
    fit_seconds: float
    after_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class RecipeSearch:
    """A finished search.

    Attributes:
        trials: In the order in which they ended.
        best: The point that `fmin` returned, decoded with `space_eval` (the seed takes indices for values).
        seconds: Wall time.
    """

    trials: tuple[RecipeTrial, ...]
    best: Point
    seconds: float


def space() -> dict[str, Any]:
    """Return the seed's space in hyperopt's terms."""
    return {
        "max_depth": hp.choice("max_depth", DEPTHS),
        "n_estimators": hp.choice("n_estimators", TREES),
        "learning_rate": hp.uniform("learning_rate", 0.001, 0.5),
        "reg_alpha": hp.uniform("reg_alpha", 0.01, 0.1),
        "base_score": hp.uniform("base_score", 0.001, 0.1),
    }


def search(
    spark: SparkSession,
    train: Matrix,
    test: Matrix,
    *,
    trials: int,
    threads: int,
    parallelism: int = 1,
    tree_method: TreeMethod = "hist",
    seed: int = 0,
    points: Sequence[Point] | None = None,
) -> RecipeSearch:
    """Run the recipe's search.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        test: Rows on which it tunes.
        trials: Number of trials.
        threads: Threads per fit: all that the worker has, divided by `parallelism`.
        parallelism: Trials in flight; the seed has one per worker.
        tree_method: XGBoost's.
        seed: Seed of the proposals.
        points: Points to try, one per trial, instead of TPE's proposals.

    Raises:
        RuntimeError: A trial failed.
    """
    logging.getLogger("hyperopt-spark").setLevel(logging.ERROR)
    frames = frame(train), train.y, frame(test), test.y
    stock = SparkTrials(parallelism=parallelism, spark_session=spark)
    started, started_at = time.perf_counter(), coarse_utcnow()
    best = fmin(
        _objective(*frames, threads=threads, tree_method=tree_method),
        space(),
        algo=tpe.suggest if points is None else suggest_given([raw_values(point) for point in points]),
        max_evals=trials,
        trials=stock,
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
        verbose=False,
    )
    seconds = time.perf_counter() - started
    done = [document for document in stock.trials if document["state"] == JOB_STATE_DONE]
    if len(done) != trials:
        raise RuntimeError(f"{len(done)} of the recipe's {trials} trials finished")
    return RecipeSearch(
        tuple(_trial(document, started_at) for document in sorted(done, key=lambda each: each["refresh_time"])),
        _to_point(space_eval(space(), best)),
        seconds,
    )


def pipeline(point: Point, *, threads: int, tree_method: TreeMethod = "hist") -> Pipeline:
    """Return the recipe's unfitted model for a point."""
    model = XGBClassifier(**point, n_jobs=threads, tree_method=tree_method)
    return Pipeline([("scale", StandardScaler()), ("model", model)])


def _objective(
    X_train: pd.DataFrame, y_train: Any, X_test: pd.DataFrame, y_test: Any, *, threads: int, tree_method: TreeMethod
) -> Any:
    def objective(values: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        fitted = pipeline(_to_point(values), threads=threads, tree_method=tree_method).fit(X_train, y_train)
        scores = fitted.predict_proba(X_test)[:, 1]
        kappa = float(cohen_kappa_score(y_test, scores > ALERT_FROM))
        return {
            "status": STATUS_OK,
            "loss": -kappa,
            "average_precision": float(average_precision_score(y_test, scores)),
            "seconds": time.perf_counter() - began,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    return objective


def raw_values(point: Point) -> dict[str, float]:
    """Return a point as hyperopt's raw values for `space`: indices where it has choices."""
    return {
        **point,
        "max_depth": DEPTHS.index(int(point["max_depth"])),
        "n_estimators": TREES.index(int(point["n_estimators"])),
    }


def _trial(document: dict[str, Any], started_at: Any) -> RecipeTrial:
    raw = {label: values[0] for label, values in document["misc"]["vals"].items()}
    result = document["result"]
    return RecipeTrial(
        point=_to_point(space_eval(space(), raw)),
        kappa=-result["loss"],
        average_precision=result["average_precision"],
        fit_seconds=result["seconds"],
        after_seconds=(document["refresh_time"] - started_at).total_seconds(),
        peak_bytes=result["peak_bytes"],
    )
