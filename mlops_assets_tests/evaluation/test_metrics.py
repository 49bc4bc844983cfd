"""Point metrics against scikit-learn, against brute force, and against input on which they are not defined."""

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation import metrics


class Case(NamedTuple):
    y: Any
    scores: Any
    weights: Any
    threshold: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Both classes keep a weight; scores tie often, and reach 0 and 1; some rows weigh nothing."""
    rows = draw(st.integers(2, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = random.integers(0, levels + 1, rows) / levels
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    y = (random.random(rows) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(np.uint8)
    y[random.permutation(rows)[:2]] = [0, 1]
    weights = draw(st.sampled_from(["none", "counts", "floats"]))
    weight: Any = None
    if weights != "none":
        weight = random.integers(0, 4, rows) if weights == "counts" else random.random(rows)
        weight[[np.argmax(y == 0), np.argmax(y == 1)]] += 1
    threshold = float(random.choice(scores)) if draw(st.booleans()) else float(random.random())
    return Case(y, scores.astype(dtype), weight, threshold)


def close(expected: float, scores: Any = None) -> Any:
    # scikit-learn takes logarithms and squares in the dtype of the scores, this package always in float64.
    single = scores is not None and scores.dtype == np.float32
    return pytest.approx(expected, rel=2e-5 if single else 1e-9, abs=1e-6 if single else 1e-12)


@settings(max_examples=250, deadline=None)
@given(cases())
def test_ranking_and_probability_metrics_equal_those_of_sklearn(case: Case):
    y, scores, weights, _ = case
    assert metrics.average_precision(y, scores, weights) == close(
        sk.average_precision_score(y, scores, sample_weight=weights)
    )
    assert metrics.roc_auc(y, scores, weights) == close(sk.roc_auc_score(y, scores, sample_weight=weights))
    assert metrics.log_loss(y, scores, weights) == close(
        sk.log_loss(y, scores, labels=[0, 1], sample_weight=weights), scores
    )
    assert metrics.brier(y, scores, weights) == close(sk.brier_score_loss(y, scores, sample_weight=weights), scores)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_metrics_at_a_threshold_equal_those_of_sklearn(case: Case):
    y, scores, weights, threshold = case
    alerted = scores.astype(np.float64) >= threshold
    weigh = {"sample_weight": weights}
    assert metrics.kappa(y, scores, threshold, weights) == close(sk.cohen_kappa_score(y, alerted, **weigh))
    assert metrics.f1(y, scores, threshold, weights) == close(sk.f1_score(y, alerted, zero_division=0, **weigh))
    assert metrics.recall(y, scores, threshold, weights) == close(sk.recall_score(y, alerted, **weigh))
    alerts = alerted.sum() if weights is None else weights[alerted].sum()
    if alerts > 0:
        assert metrics.precision(y, scores, threshold, weights) == close(sk.precision_score(y, alerted, **weigh))
    else:
        with pytest.raises(EvaluationError, match="no row reaches the threshold"):
            metrics.precision(y, scores, threshold, weights)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_best_kappa_and_f1_are_the_maxima_over_every_threshold(case: Case):
    y, scores, weights, _ = case
    thresholds = [*np.unique(scores).astype(float), 2.0]
    assert metrics.best_kappa(y, scores, weights) == close(
        max(metrics.kappa(y, scores, threshold, weights) for threshold in thresholds)
    )
    assert metrics.best_f1(y, scores, weights) == close(
        max(metrics.f1(y, scores, threshold, weights) for threshold in thresholds)
    )


def test_best_kappa_of_a_score_that_is_worse_than_chance_is_that_of_alerting_nothing():
    assert metrics.best_kappa(np.array([1, 0, 0, 0]), np.array([0.1, 0.9, 0.8, 0.7])) == 0


def test_a_float32_score_is_not_rounded_up_to_a_threshold_just_above_it():
    scores = np.array([0.1, 0.9], dtype=np.float32)
    threshold = float(scores[0]) + 1e-10
    assert (scores >= threshold)[0], "NumPy compares in float32; without this trap the test below proves nothing"
    assert metrics.confusion(np.array([0, 1]), scores, threshold).alerts == 1


def daily_by_hand(y: Any, scores: Any, days: Any, k: int) -> tuple[float, float]:
    """Precision and recall on the budget when ties are broken by the order of the rows."""
    precisions, caught = [], 0
    for day in np.unique(days):
        here = np.flatnonzero(days == day)
        top = here[np.argsort(-scores[here], kind="stable")[:k]]
        precisions.append(y[top].mean())
        caught += y[top].sum()
    return float(np.mean(precisions)), caught / y.sum()


@st.composite
def small_days(draw: st.DrawFn) -> tuple[Any, Any, Any, int]:
    rows = draw(st.integers(2, 6))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows).filter(lambda v: 0 < sum(v) < rows)))
    scores = np.array(draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=rows, max_size=rows)))
    days = np.array(draw(st.lists(st.integers(-1, 1), min_size=rows, max_size=rows)))
    return y, scores, days, draw(st.integers(1, 4))


@settings(max_examples=50, deadline=None)
@given(small_days())
def test_ties_on_the_edge_of_the_budget_count_as_their_expected_value_over_all_orders(case: Any):
    y, scores, days, k = case
    orders = [list(order) for order in permutations(range(len(y)))]
    expected = np.mean([daily_by_hand(y[order], scores[order], days[order], k) for order in orders], axis=0)
    assert metrics.precision_at_k(y, scores, days, k) == close(expected[0])
    assert metrics.recall_at_k(y, scores, days, k) == close(expected[1])


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(1, 12))
def test_a_weight_is_a_number_of_copies_for_the_daily_budget(case: Case, k: int):
    y, scores, _, _ = case
    random = np.random.default_rng(len(y))
    days, copies = random.integers(0, 4, len(y)), random.integers(0, 4, len(y))
    copies[[np.argmax(y == 0), np.argmax(y == 1)]] += 1
    y_copies, score_copies, day_copies = (np.repeat(column, copies) for column in (y, scores, days))
    for metric in (metrics.precision_at_k, metrics.recall_at_k):
        assert metric(y, scores, days, k, copies) == close(metric(y_copies, score_copies, day_copies, k))


def test_daily_budget_without_ties_is_the_handbook_definition():
    random = np.random.default_rng(3)
    y, scores = (random.random(3000) < 0.05).astype(np.uint8), random.random(3000).astype(np.float32)
    days = random.integers(0, 20, 3000)
    assert len(np.unique(scores)) == len(scores)
    expected = daily_by_hand(y, scores, days, 10)
    assert metrics.precision_at_k(y, scores, days, 10) == close(expected[0])
    assert metrics.recall_at_k(y, scores, days, 10) == close(expected[1])


def test_a_short_day_alerts_all_its_rows_and_a_day_without_fraud_counts_as_zero():
    y, scores = np.array([1, 0, 0, 0, 0]), np.array([0.2, 0.1, 0.9, 0.8, 0.7])
    days = np.array([0, 0, 1, 1, 1])
    assert metrics.precision_at_k(y, scores, days, 3) == close((1 / 2 + 0) / 2)
    assert metrics.recall_at_k(y, scores, days, 3) == 1


def test_one_score_for_all_rows_gains_nothing_from_the_order_of_the_rows():
    y, scores, days = np.array([1] * 10 + [0] * 90), np.full(100, 0.5), np.zeros(100, dtype=np.int64)
    assert metrics.precision_at_k(y, scores, days, 10) == close(0.1)


GOOD_Y, GOOD_SCORES = np.array([0, 1, 0], dtype=np.uint8), np.array([0.1, 0.9, 0.3])
LABELLED = (
    metrics.average_precision,
    metrics.roc_auc,
    metrics.log_loss,
    metrics.brier,
    metrics.best_kappa,
    metrics.best_f1,
    lambda y, s, w=None: metrics.kappa(y, s, 0.5, w),
    lambda y, s, w=None: metrics.f1(y, s, 0.5, w),
    lambda y, s, w=None: metrics.precision(y, s, 0.5, w),
    lambda y, s, w=None: metrics.recall(y, s, 0.5, w),
    lambda y, s, w=None: metrics.precision_at_k(y, s, np.zeros(len(s), dtype=np.int64), 1, w),
    lambda y, s, w=None: metrics.recall_at_k(y, s, np.zeros(len(s), dtype=np.int64), 1, w),
)


@pytest.mark.parametrize("metric", LABELLED)
@pytest.mark.parametrize(
    ("y", "scores", "weights", "says"),
    [
        (GOOD_Y * 0, GOOD_SCORES, None, "all 3 rows are genuine"),
        (GOOD_Y * 0 + 1, GOOD_SCORES, None, "all 3 rows are frauds"),
        (GOOD_Y * 2, GOOD_SCORES, None, "other than 0 and 1"),
        (GOOD_Y[:2], GOOD_SCORES, None, "for 3 scores"),
        (GOOD_Y[:0], GOOD_SCORES[:0], None, "scores of shape"),
        (GOOD_Y, GOOD_SCORES[:, None], None, "scores of shape"),
        (GOOD_Y, np.array([0.1, np.nan, 0.3]), None, "1 of 3 scores are not in"),
        (GOOD_Y, np.array([0.1, np.inf, 0.3]), None, "not in"),
        (GOOD_Y, np.array([-0.1, 1.1, 0.3]), None, "2 of 3 scores"),
        (GOOD_Y, np.array([0, 1, 0]), None, "dtype int64"),
        (GOOD_Y, GOOD_SCORES, np.array([1, 0, 1]), "one class only"),
        (GOOD_Y, GOOD_SCORES, np.array([1.0, -1, 1]), "weights"),
        (GOOD_Y, GOOD_SCORES, np.array([1.0, np.nan, 1]), "weights"),
        (GOOD_Y, GOOD_SCORES, np.array([1.0, 1]), "weights"),
    ],
)
def test_input_on_which_a_metric_is_not_defined_is_refused(metric: Any, y: Any, scores: Any, weights: Any, says: Any):
    assert np.isfinite(metric(GOOD_Y, GOOD_SCORES, np.ones(3)))
    with pytest.raises(EvaluationError, match=says):
        metric(y, scores, weights)


@pytest.mark.parametrize(
    ("days", "k"),
    [
        (np.array([0, 0]), 1),
        (np.array([0.0, 0.0, 1.0]), 1),
        (np.array([0, 0, 1]), 0),
        (np.array([0, 0, 1]), 1.5),
        (np.array([0, 0, 1]), True),
    ],
)
def test_unfit_days_and_budgets_are_refused(days: Any, k: Any):
    assert metrics.recall_at_k(GOOD_Y, GOOD_SCORES, np.array([0, 0, 1], dtype=np.uint8), 1) == 1
    with pytest.raises(EvaluationError):
        metrics.recall_at_k(GOOD_Y, GOOD_SCORES, days, k)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(EvaluationError, match="threshold of nan"):
        metrics.f1(GOOD_Y, GOOD_SCORES, float("nan"))
