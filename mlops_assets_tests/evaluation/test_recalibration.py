"""Calibration by slope and intercept: found where scores are off, and left alone where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.recalibration import recalibration
from mlops_assets.evaluation.scorer import Rows

DESIGN = Design(60, 1)
ROWS = 12_000


def drawn(seed: int, rows: int = ROWS) -> tuple[Rows, np.ndarray]:
    """Return rows whose frauds have the probability of their scores."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-random.normal(-4, 1.5, rows)))
    y = (random.random(rows) < scores).astype(np.uint8)
    return Rows(y=y, days=np.sort(random.integers(0, 20, rows)), alerts_per_day=5), scores


def off(scores: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + intercept)))


def test_scores_that_are_off_are_brought_back():
    rows, truth = drawn(1)
    found = recalibration(rows, off(truth, 2.0, 1.0), DESIGN)

    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(-0.5, abs=0.25)
    assert found.gain_low > 0
    assert np.abs(found(off(truth, 2.0, 1.0)) - truth).mean() < 0.005
    known = LogisticRegression(C=1e9, tol=1e-10).fit(np.log(truth / (1 - truth))[:, None] * 2 + 1.0, rows.y)
    assert (found.slope, found.intercept) == pytest.approx((known.coef_[0, 0], known.intercept_[0]), abs=1e-3)


def test_scores_that_are_right_are_left_alone_in_nineteen_cases_of_twenty():
    helped = [recalibration(*drawn(seed), DESIGN) is not None for seed in range(20)]
    assert sum(helped) <= 2


def test_too_few_frauds_and_scores_that_say_nothing_are_left_alone():
    rows, truth = drawn(3)
    few = rows.where(np.cumsum(rows.y) <= 40)
    assert recalibration(few, off(truth, 2.0, 1.0)[: len(few.y)], DESIGN) is None
    assert recalibration(rows, np.full(ROWS, 0.5), DESIGN) is None
    assert recalibration(rows, off(truth, -1.0, 0.0), DESIGN) is None, "the order is never turned round"
    genuine = replace(rows, y=np.zeros(ROWS, dtype=np.uint8))
    assert recalibration(genuine, truth, DESIGN) is None
