"""Simple scores that a model must beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlops_assets.training.baselines import AMOUNT, LOGISTIC, simple_scores
from mlops_assets.training.matrix import Matrix


def rows(seed: int, n: int = 3_000, levels: tuple[str, ...] = ("at", "de")) -> Matrix:
    """Return rows whose log-odds are linear in a number and a category; the category's codes depend on its levels."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, len(levels), n)
    X = np.stack([random.normal(size=n), kind], axis=1).astype(np.float32)
    logit = 2 * X[:, 0] + 2 * (np.array(levels)[kind] == "de") - 4
    y = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(np.uint8)
    X[::50, 0] = np.nan
    return Matrix(("number", "kind"), X, y, np.zeros(n, dtype=np.int64), y * 90.0 + 10, levels={"kind": levels})


def test_logistic_regression_and_the_amount_are_scored_on_later_rows():
    train, test = rows(1), rows(2, levels=("at", "ch", "de"))
    found = simple_scores(train, test)

    # The level that it has not seen counts as none.
    known = np.nan_to_num(2 * test.X[:, 0]) + 2 * (test.X[:, 1] == 2) - 4
    assert average_precision_score(test.y, found[LOGISTIC]) == pytest.approx(
        average_precision_score(test.y, known), abs=0.05
    )
    assert np.array_equal(found[AMOUNT], np.where(test.y == 1, 1.0, 0.1))


def test_what_can_t_be_had_is_left_out():
    test = rows(2)
    assert list(simple_scores(rows(1), replace(test, amounts=None))) == [LOGISTIC]
    assert list(simple_scores(rows(1), replace(test, amounts=np.zeros(test.rows)))) == [LOGISTIC]
    one_class = rows(1).where(rows(1).y == 0)
    assert list(simple_scores(one_class, test)) == [AMOUNT]
