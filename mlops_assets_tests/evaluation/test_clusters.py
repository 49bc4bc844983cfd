"""Which rows are drawn together, how often, and how wide few clusters make an interval."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.clusters import MAX_DRAWS_PER_REPLICATE, MIN_DAYS, Clusters, draws
from mlops_assets.evaluation.intervals import student


def test_entities_are_drawn_then_days_then_rows():
    days = np.array([3, 3, 9, 4, 5, 6])
    by_entity = Clusters.of(days, np.array(["b", "a", "b", "c", "c", "a"]))
    assert (by_entity.unit, by_entity.codes.tolist(), by_entity.count) == ("entity", [0, 1, 0, 2, 2, 1], 3)
    by_day = Clusters.of(days, None)
    assert len(set(days.tolist())) == MIN_DAYS
    assert (by_day.unit, by_day.codes.tolist(), by_day.count) == ("day", [0, 0, 1, 2, 3, 4], 5)
    by_row = Clusters.of(days[:5], None)
    assert (by_row.unit, by_row.codes.tolist(), by_row.count) == ("row", [0, 1, 2, 3, 4], 5)
    with pytest.raises(EvaluationError, match="entities of shape"):
        Clusters.of(days, np.arange(5))


def test_the_effective_number_is_that_of_equal_clusters():
    fraud = np.array([True] * 8 + [False] * 2)
    equal = Clusters.of(np.zeros(10, int), np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 0]))
    one_large = Clusters.of(np.zeros(10, int), np.array([0, 0, 0, 0, 0, 0, 0, 1, 4, 0]))
    assert equal.effective(fraud) == 4
    assert one_large.effective(fraud) == pytest.approx(64 / 50)
    assert (equal.with_fraud(fraud), one_large.with_fraud(fraud)) == (4, 2)


def test_redrawing_ends():
    asked = []

    def never(counts: Any) -> bool:
        asked.append(counts.sum())
        return False

    with pytest.raises(EvaluationError, match="resamples in a row"):
        list(draws(10, 5, 1, never))
    assert asked == [10] * MAX_DRAWS_PER_REPLICATE


def test_counts_are_drawn_with_replacement():
    counts = np.array([counts for counts, _ in draws(50, 400, 3, lambda _: True)])
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.05)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [1.0, 1.7, 4.0, 8.3, 60.0, 2_000.0, 9_999.0, 1e6])
def test_the_quantile_of_student_s_t_is_scipy_s(level: float, freedom: float):
    at = (1 + level) / 2
    assert student(level, freedom) == pytest.approx(stats.t(freedom).ppf(at), rel=5e-4)
