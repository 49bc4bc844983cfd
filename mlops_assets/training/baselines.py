"""Simple scores that a model must beat to be worth its place: the amount alone, and logistic regression.

What belongs here: fitting and scoring them. What does not: what follows from the comparison (`registry/gate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_assets.training.categories import Levels, recoded, union

if TYPE_CHECKING:
    from mlops_assets.training.matrix import Matrix

Scores = npt.NDArray[np.float64]
AMOUNT: Final = "the amount alone"
LOGISTIC: Final = "logistic regression"
_STEPS: Final = 300


def simple_scores(train: Matrix, test: Matrix) -> dict[str, Scores]:
    """Return simple scores of test rows [rows], by name.

    The amount is left out where there is none above 0, logistic regression where the training rows have one class only.

    Args:
        train: Rows to fit on.
        test: Later rows.
    """
    levels = union([train.levels, test.levels])
    found = by_amount(test.amounts)
    if (logistic := fitted_logistic(train, levels)) is not None:
        found[LOGISTIC] = logistic(recoded(test.X, test.features, test.levels, levels))
    return found


def by_amount(amounts: Scores | None) -> dict[str, Scores]:
    """Return the amounts [rows] as scores under their name; nothing if there is none above 0."""
    if amounts is None or not amounts.max() > 0:
        return {}
    return {AMOUNT: np.clip(amounts / amounts.max(), 0, 1)}


def fitted_logistic(train: Matrix, levels: Levels) -> Callable[[npt.NDArray[np.float32]], Scores] | None:
    """Fit logistic regression on standardized numbers and one column for each category's level.

    Args:
        train: Rows to fit on.
        levels: What the codes of categories mean in the rows that are scored.

    Returns:
        A function from feature values [rows, features] to scores [rows], which can be pickled; None if the training
        rows have one class only.
    """
    if not 0 < train.frauds < train.rows:
        return None
    old = recoded(train.X, train.features, train.levels, levels)
    texts = [at for at, name in enumerate(train.features) if name in levels]
    numbers = [at for at, name in enumerate(train.features) if name not in levels]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
        ]
    )
    return _Fitted(make_pipeline(columns, LogisticRegression(max_iter=_STEPS)).fit(old, train.y))


@dataclass(frozen=True)
class _Fitted:
    """A fitted pipeline as a function."""

    pipeline: Pipeline

    def __call__(self, X: npt.NDArray[np.float32]) -> Scores:
        return np.asarray(self.pipeline.predict_proba(X)[:, 1])
