"""The days after: each by itself, with the report's own metrics, and a day without frauds says so."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from mlops_assets.evaluation.backtest import DAILY, DayAfter, days_after, days_markdown
from mlops_assets.evaluation.intervals import Design, Interval
from mlops_assets.evaluation.metrics import average_precision, precision_at_k, recall_at_k
from mlops_assets.evaluation.plots.backtest import days_after_picture
from mlops_assets.evaluation.scorer import Rows

RANDOM = np.random.default_rng(5)
DAYS = np.repeat([20_000, 20_001, 20_002], [300, 200, 50])
Y = (RANDOM.random(len(DAYS)) < 0.1).astype(np.uint8)
Y[DAYS == 20_002] = 0
SCORES = np.clip(0.3 * Y + RANDOM.random(len(DAYS)) * 0.7, 0, 1).astype(np.float32)
CARDS = RANDOM.integers(0, 200, len(DAYS))
BUDGET = 20


def made(*, dated: bool = True, whole: bool = True) -> list[DayAfter]:
    rows = Rows(y=Y, days=DAYS, alerts_per_day=BUDGET, on_whole_day=(DAYS != 20_000) | whole, entities=CARDS)
    return days_after(rows, scores=SCORES, dated=dated, threshold=0.5, design=Design(50, 1))


def test_each_day_has_its_own_rows_and_metrics():
    found = made()

    assert [(day.label, day.rows) for day in found] == [("2024-10-04", 300), ("2024-10-05", 200), ("2024-10-06", 50)]
    for day in found[:2]:
        at = day.day == DAYS
        values = [day.metrics[name].estimate for name in DAILY]
        assert day.frauds == Y[at].sum()
        assert values == pytest.approx(
            [
                average_precision(Y[at], SCORES[at]),
                precision_at_k(Y[at], SCORES[at], DAYS[at], BUDGET),
                recall_at_k(Y[at], SCORES[at], DAYS[at], BUDGET),
            ]
        )
        assert all(interval.low <= interval.estimate <= interval.high for interval in day.metrics.values())


def test_a_day_of_one_class_has_no_metrics_and_is_still_counted():
    last = made()[-1]

    assert (last.rows, last.frauds, last.metrics) == (50, 0, {})
    assert "| 2024-10-06 | 50 | 0 | one class | one class | one class |" in days_markdown(made())
    json.dumps([day.to_json_dict() for day in made()], allow_nan=False)


def test_days_of_data_without_dates_are_counted():
    assert [day.label for day in made(dated=False)] == ["day 20000", "day 20001", "day 20002"]


@pytest.mark.parametrize("days", [1, 3])
def test_the_picture_is_drawn_of_one_day_as_of_several_with_and_without_metrics(days: int):
    drawn = days_after_picture(made()[-days:], Interval(0.5, 0.4, 0.6, 50, 1), as_of="2024-10-03")

    assert Image.open(io.BytesIO(drawn)).size == (960, 600)


def test_a_part_of_a_day_has_no_metrics_of_a_daily_budget():
    first, second, _ = made(whole=False)

    assert list(first.metrics) == ["average_precision"]
    assert (first.whole, second.whole) == (False, True)
    assert second == made()[1]
    line = days_markdown([first]).splitlines()[2]
    assert line.endswith("| part of a day | part of a day |")
    assert days_after_picture([first, second], Interval(0.5, 0.4, 0.6, 50, 1), as_of="2024-10-03").startswith(
        b"\x89PNG"
    )
