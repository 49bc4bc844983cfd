"""What each threshold would have done, and thresholds chosen from that table later."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.operating_points import OperatingPoints, budget_table
from mlops_assets.evaluation.threshold import ALERT_NOTHING, by_alert_budget, by_cost

ROWS = 3_000
DRAWN = np.random.default_rng(4)
Y = (DRAWN.random(ROWS) < 0.03).astype(np.uint8)
SCORES = np.clip(DRAWN.normal(0.2 + 0.3 * Y, 0.15), 0, 1).round(3).astype(np.float32)
DAYS = DRAWN.integers(0, 10, ROWS)
AMOUNTS = DRAWN.exponential(80, ROWS)
WHOLE = DAYS > 0
POINTS = OperatingPoints.of(Y, SCORES, DAYS, AMOUNTS, WHOLE)


@pytest.mark.parametrize("cost", [0.0, 1.0, 10.0, 60.0, 1e6])
def test_the_threshold_of_least_cost_is_that_of_the_rows(cost: float):
    assert POINTS.by_cost(cost) == by_cost(Y, SCORES, AMOUNTS, cost).threshold


@pytest.mark.parametrize("budget", [1, 7, 40, 300, 10_000])
def test_the_threshold_of_a_budget_is_that_of_the_rows(budget: int):
    chosen = by_alert_budget(SCORES[WHOLE], DAYS[WHOLE], budget)
    found = POINTS.by_alert_budget(budget)

    assert (found.value, found.rule, found.setting) == (chosen.value, "alert_budget", budget)
    assert found.alerts == (found.value <= SCORES).sum()


def test_it_counts_alerts_frauds_and_money():
    alerted = SCORES.astype(np.float64) >= 0.5
    alerts, caught, money = POINTS.at(0.5)
    assert (alerts, caught) == (alerted.sum(), Y[alerted].sum())
    assert money == pytest.approx(AMOUNTS[alerted & (Y == 1)].sum())
    assert POINTS.at(ALERT_NOTHING) == (0, 0, 0.0)
    assert POINTS.at(0.0)[:2] == (ROWS, Y.sum())


def test_it_survives_json_and_is_small_however_many_rows_there_are():
    document = json.loads(json.dumps(POINTS.to_json_dict(), allow_nan=False))
    assert OperatingPoints.from_json_dict(document) == POINTS

    many = DRAWN.random(200_000)
    large = OperatingPoints.of(many > 0.99, many, np.zeros(len(many), dtype=np.int64), None, None)
    assert len(large.thresholds) < 2_000
    assert large.alerts[-1] == 200_000
    assert large.alerts[999] == 1_000
    assert max(b / a for a, b in zip(large.alerts[1_000:-1], large.alerts[1_001:], strict=True)) < 1.02


def test_what_is_no_table_is_refused():
    with pytest.raises(EvaluationError, match="not a table"):
        OperatingPoints.from_json_dict({"rows": 1})
    with pytest.raises(EvaluationError, match="with gaps"):
        OperatingPoints.from_json_dict(replace(POINTS, caught=[1]).to_json_dict())
    without = OperatingPoints.of(Y, SCORES, DAYS, None, None)
    with pytest.raises(EvaluationError, match="needs amounts"):
        without.by_cost(1.0)
    with pytest.raises(EvaluationError, match="budget"):
        POINTS.by_alert_budget(0)


def test_a_table_of_budgets_marks_the_present_one():
    text = budget_table(POINTS, (5, 50), 20)

    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["5", "20 (now)", "50"]
    alerts, caught, money = POINTS.at(POINTS.by_alert_budget(20).value)
    assert f"| {alerts:,} | {caught:,} | {100 * caught / Y.sum():.1f} % |" in lines[3]
    assert f"{money:,.0f}" in lines[3]
    assert "money" not in budget_table(OperatingPoints.of(Y, SCORES, DAYS, None, None), (5,), 5)
