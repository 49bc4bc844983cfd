"""Threshold rules against brute force, and the traps of float32, ties and JSON."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.threshold import ALERT_NOTHING, Threshold, by_alert_budget, by_cost


@st.composite
def validation_rows(draw: st.DrawFn) -> tuple[Any, Any, Any, Any]:
    """Scores with ties in either dtype, whole amounts (so that sums are exact), and days in no order."""
    rows = draw(st.integers(2, 50))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 3, 10, 10_000]))
    scores = (random.integers(0, levels + 1, rows) / levels).astype(draw(st.sampled_from([np.float32, np.float64])))
    y = (random.random(rows) < 0.3).astype(np.uint8)
    y[random.permutation(rows)[:2]] = [0, 1]
    return y, scores, random.integers(0, 100, rows).astype(float), random.integers(0, 5, rows)


@settings(max_examples=200, deadline=None)
@given(validation_rows(), st.integers(0, 60))
def test_cost_threshold_is_the_cheapest_and_among_equals_the_highest(rows: Any, alert_cost: Any):
    y, scores, amounts, _ = rows
    candidates = [ALERT_NOTHING, *sorted({float(score) for score in scores}, reverse=True)]

    def cost(threshold: float) -> float:
        alerted = scores.astype(float) >= threshold
        return float(amounts[(y == 1) & ~alerted].sum() + alert_cost * alerted.sum())

    costs = [cost(candidate) for candidate in candidates]
    choice = by_cost(y, scores, amounts, alert_cost)
    assert choice.cost == min(costs)
    assert choice.threshold.value == candidates[costs.index(min(costs))]
    assert choice.threshold.alerts == choice.threshold.alerted(scores).sum()
    assert choice.cost_of_no_alerts == costs[0]
    assert choice.thresholds.tolist() == candidates[1:]
    assert choice.costs.tolist() == costs[1:]


@settings(max_examples=200, deadline=None)
@given(validation_rows(), st.integers(1, 12))
def test_budget_threshold_is_the_lowest_that_keeps_the_budget(rows: Any, alerts_per_day: Any):
    _, scores, _, days = rows
    budget = alerts_per_day * len(set(days.tolist()))
    affordable = [float(score) for score in scores if (scores.astype(float) >= float(score)).sum() <= budget]
    threshold = by_alert_budget(scores, days, alerts_per_day)
    assert threshold.value == min(affordable, default=ALERT_NOTHING)
    assert threshold.alerts == threshold.alerted(scores).sum() <= budget


@settings(max_examples=100, deadline=None)
@given(validation_rows())
def test_a_threshold_alerts_the_same_rows_in_both_dtypes_and_after_json(rows: Any):
    y, scores, amounts, days = rows
    for chosen in (by_cost(y, scores, amounts, 5).threshold, by_alert_budget(scores, days, 3)):
        again = Threshold.from_json_dict(json.loads(json.dumps(chosen.to_json_dict(), allow_nan=False)))
        assert again == chosen
        alerts = chosen.alerted(scores)
        assert (again.alerted(scores.astype(np.float64)) == alerts).all()
        assert ((scores >= again.value) == alerts).all(), "NumPy's own float32 comparison must agree too"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alert_nothing_holds_for_a_score_of_exactly_one(dtype: Any):
    certain = np.array([1.0], dtype=dtype)
    assert not (certain >= ALERT_NOTHING).any()
    assert (np.array([1.0], dtype=np.float32) >= float(np.nextafter(1, 2))).all(), "why the next float is no choice"
    assert json.loads(json.dumps(ALERT_NOTHING, allow_nan=False)) == ALERT_NOTHING


def test_alerts_that_cost_more_than_all_frauds_are_not_raised():
    choice = by_cost(np.array([0, 1]), np.array([0.2, 0.9]), np.array([5.0, 10.0]), 11)
    assert choice.threshold.alerts_nothing
    assert choice.threshold.alerts == 0
    assert choice.cost == choice.cost_of_no_alerts == 10


def test_an_alert_that_saves_just_what_it_costs_is_not_raised():
    assert by_cost(np.array([0, 1]), np.array([0.2, 0.9]), np.array([5.0, 10.0]), 10).threshold.alerts_nothing
    assert by_cost(np.array([0, 1]), np.array([0.2, 0.9]), np.array([5.0, 10.0]), 9.9).threshold.value == 0.9


def test_a_tie_at_the_top_that_is_larger_than_the_budget_alerts_nothing():
    threshold = by_alert_budget(np.array([0.9, 0.9, 0.9, 0.1]), np.array([1, 1, 1, 1]), 2)
    assert threshold.alerts_nothing
    assert threshold.alerts == 0


def test_quiet_days_lend_their_budget_to_busy_ones():
    scores, days = np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([0, 0, 0, 0, 1])
    assert by_alert_budget(scores, days, 2).value == 0.6


@pytest.mark.parametrize(
    ("value", "label"), [(0.1234567, "0.123"), (0.99951, "0.9995"), (1 - 1e-9, "0.999999999"), (1.0, "1"), (0.0, "0")]
)
def test_the_label_of_a_threshold_below_one_never_reads_one(value: Any, label: Any):
    assert Threshold(value, "cost", 1.0, 1, 1).label == label


Y, SCORES, AMOUNTS = np.array([0, 1, 0]), np.array([0.1, 0.9, 0.3]), np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("y", "scores", "amounts", "alert_cost", "says"),
    [
        (Y * 0, SCORES, AMOUNTS, 1, "all 3 rows are genuine"),
        (Y, SCORES * np.nan, AMOUNTS, 1, "not in"),
        (Y, SCORES, AMOUNTS[:2], 1, "amounts of shape"),
        (Y, SCORES, -AMOUNTS, 1, "negative"),
        (Y, SCORES, AMOUNTS * np.inf, 1, "not finite"),
        (Y, SCORES, np.array(["1", "2", "3"]), 1, "amounts of shape"),
        (Y, SCORES, AMOUNTS, -1, "alert cost of -1"),
        (Y, SCORES, AMOUNTS, np.nan, "alert cost of nan"),
    ],
)
def test_cost_rule_refuses_unfit_input(y: Any, scores: Any, amounts: Any, alert_cost: Any, says: Any):
    assert by_cost(Y, SCORES, AMOUNTS, 1).threshold.value == 0.9
    with pytest.raises(EvaluationError, match=says):
        by_cost(y, scores, amounts, alert_cost)


@pytest.mark.parametrize(
    ("scores", "days", "alerts_per_day"),
    [(SCORES[:0], Y[:0], 1), (SCORES * 2, Y, 1), (SCORES, Y[:2], 1), (SCORES, Y / 2, 1), (SCORES, Y, 0)],
)
def test_budget_rule_refuses_unfit_input(scores: Any, days: Any, alerts_per_day: Any):
    with pytest.raises(EvaluationError):
        by_alert_budget(scores, days, alerts_per_day)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_is_neither_a_score_nor_alert_nothing_is_refused(value: Any):
    with pytest.raises(EvaluationError, match="a threshold of"):
        Threshold(value, "cost", 1.0, 0, 10)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"value": 0.5, "rule": "cost", "setting": "x", "alerts": 1, "rows": 2},
        {"value": 0.5, "rule": "guess", "setting": 1, "alerts": 1, "rows": 2},
        {"value": None, "rule": "cost", "setting": 1, "alerts": 1, "rows": 2},
    ],
)
def test_a_document_that_is_no_threshold_is_refused(document: Any):
    with pytest.raises(EvaluationError):
        Threshold.from_json_dict(document)
