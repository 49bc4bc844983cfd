"""Simple scores that a model must beat to be worth its place: the amount alone, and logistic regression.

What belongs here: fitting and scoring them. What does not: what follows from the comparison (`registry/gate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_assets.training.categories import recoded, union

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
    found = {}
    if test.amounts is not None and test.amounts.max() > 0:
        found[AMOUNT] = np.clip(test.amounts / test.amounts.max(), 0, 1)
    if 0 < train.frauds < train.rows:
        found[LOGISTIC] = _logistic(train, test)
    return found


def _logistic(train: Matrix, test: Matrix) -> Scores:
    """Return scores by logistic regression on standardized numbers and one column for each category's level."""
    levels = union([train.levels, test.levels])
    old, new = (recoded(part.X, part.features, part.levels, levels) for part in (train, test))
    texts = [at for at, name in enumerate(train.features) if name in levels]
    numbers = [at for at, name in enumerate(train.features) if name not in levels]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=_STEPS))
    return np.asarray(model.fit(old, train.y).predict_proba(new)[:, 1])
