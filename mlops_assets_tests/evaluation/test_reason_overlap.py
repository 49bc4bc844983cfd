"""Reasons that two models have in common."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explanations import Contributions
from mlops_assets.evaluation.reason_overlap import median_overlap


def reasons(*rows: tuple[float, ...]) -> Contributions:
    return Contributions(tuple("abcdef"[: len(rows[0])]), np.array(rows, dtype=np.float32), -5.0)


def test_it_is_the_median_share_of_the_top_three():
    first = reasons((5, 4, 3, 0.1, 0.1), (5, 4, 3, 0.1, 0.1), (5, 4, 3, 0.1, 0.1))
    second = reasons((3, -5, 4, 0.2, 0.1), (5, 0.1, 0.2, 4, 3), (0.1, 4, 5, 6, 0.1))

    assert median_overlap(first, first) == 1
    assert median_overlap(first, second) == pytest.approx(2 / 3)  # of 1, 1/3 and 2/3


def test_a_contribution_of_nothing_is_no_reason():
    assert median_overlap(reasons((1, 0, 0)), reasons((1, 0, 0))) == 1
    assert median_overlap(reasons((1, 0, 0)), reasons((0, 1, 0))) == 0
    assert median_overlap(reasons((0, 0, 0)), reasons((0, 0, 0))) == 0


def test_other_rows_are_refused():
    with pytest.raises(EvaluationError, match="1 and 2 rows"):
        median_overlap(reasons((1, 2)), reasons((1, 2), (1, 2)))
