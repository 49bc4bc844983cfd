"""The report: its numbers are those of the metrics, and its three forms hold them."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation import metrics
from mlops_assets.evaluation.calibration import expected_calibration_error
from mlops_assets.evaluation.cards import PastFrauds, card_precision_at_k, unknown_rows
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.money import money_saved, money_saved_over_random
from mlops_assets.evaluation.report import Evaluation, evaluate
from mlops_assets.evaluation.scorer import METRICS, Rows
from mlops_assets.evaluation.threshold import ALERT_NOTHING, Threshold, by_cost

ROWS, DAYS = 4000, 10
RANDOM = np.random.default_rng(11)
Y = (RANDOM.random(ROWS) < 0.03).astype(np.uint8)
SCORES = np.where(Y == 1, RANDOM.beta(2, 2, ROWS), RANDOM.beta(0.3, 9, ROWS)).astype(np.float32)
AMOUNTS = RANDOM.gamma(1, 80, ROWS)
CARDS = RANDOM.integers(0, 900, ROWS)
DAY = np.sort(RANDOM.integers(0, DAYS, ROWS))
CHOSEN = by_cost(Y[:2000], SCORES[:2000], AMOUNTS[:2000], 20).threshold
GOOD: dict[str, Any] = {
    "y": Y[2000:],
    "scores": SCORES[2000:],
    "days": DAY[2000:],
    "entities": CARDS[2000:],
    "past": PastFrauds(CARDS[:2000][Y[:2000] == 1], DAY[:2000][Y[:2000] == 1], 2),
    "amounts": AMOUNTS[2000:],
    "alert_cost": 20.0,
    "threshold": CHOSEN,
    "alerts_per_day": 5,
    "replicates": 40,
    "seed": 3,
}


def evaluated(**change: Any) -> Evaluation:
    wanted = {**GOOD, **change}
    design = Design(wanted.pop("replicates"), wanted.pop("seed"))
    scores, threshold = wanted.pop("scores"), wanted.pop("threshold")
    return evaluate(Rows(**wanted), scores=scores, threshold=threshold, design=design)


@pytest.fixture(scope="module")
def report() -> Evaluation:
    return evaluated()


def test_estimates_are_those_of_the_point_metrics(report: Evaluation):
    y, scores, days = GOOD["y"], GOOD["scores"], GOOD["days"]
    alerted = scores >= CHOSEN.value
    amounts, cards = GOOD["amounts"], GOOD["entities"]
    new = unknown_rows(y == 1, days, cards, GOOD["past"])
    expected = {
        "average_precision": metrics.average_precision(y, scores),
        "roc_auc": metrics.roc_auc(y, scores),
        "precision_at_budget": metrics.precision_at_k(y, scores, days, 5),
        "recall_at_budget": metrics.recall_at_k(y, scores, days, 5),
        "kappa": metrics.kappa(y, scores, CHOSEN.value),
        "f1": metrics.f1(y, scores, CHOSEN.value),
        "log_loss": metrics.log_loss(y, scores),
        "brier": metrics.brier(y, scores),
        "calibration_error": expected_calibration_error(y, scores),
        "amount_recall": amounts[alerted & (y == 1)].sum() / amounts[y == 1].sum(),
        "money_saved": money_saved(y, scores, amounts, CHOSEN.value, 20.0),
        "money_saved_over_random": money_saved_over_random(y, scores, amounts, CHOSEN.value),
        "card_precision_at_budget": card_precision_at_k(y, scores, days, cards, 5),
        "unknown_card_average_precision": metrics.average_precision(y[new], scores[new]),
        "unknown_card_precision_at_budget": card_precision_at_k(y[new], scores[new], days[new], cards[new], 5),
    }
    assert 0 < np.count_nonzero(~new) < 2000
    assert {name: interval.estimate for name, interval in report.metrics.items()} == pytest.approx(expected)
    assert list(report.metrics) == list(expected)
    assert (report.rows, report.frauds, report.days) == (2000, int(y.sum()), len(set(days.tolist())))
    assert report.fraud_rate == report.frauds / 2000
    assert report.alerts == alerted.sum() > 0


def test_without_amounts_the_report_has_neither_money_nor_cards():
    report = evaluated(amounts=None, entities=None)
    assert tuple(report.metrics) == METRICS
    assert "money" not in report.table_markdown()
    assert "card" not in report.table_markdown()
    assert "bootstrap over days (5 of 5 have a fraud)" in report.table_markdown()
    one_day = evaluated(amounts=None, entities=None, days=GOOD["days"] * 0)
    assert "bootstrap over rows, for lack of days: too narrow" in one_day.table_markdown()


def test_flat_numbers_are_finite_and_carry_the_prefix(report: Evaluation):
    flat = report.flat()
    interval = report.metrics["average_precision"]
    assert flat["test_average_precision"] == interval.estimate
    assert flat["test_average_precision_low"] == interval.low
    assert flat["test_average_precision_high"] == interval.high
    assert flat["test_threshold"] == CHOSEN.value
    assert len(flat) == 5 + 3 * len(report.metrics)
    assert all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert {name.replace("test_", "champion_", 1) for name in flat} == set(report.flat("champion"))


def test_json_document_is_strict_json_and_complete(report: Evaluation):
    document = json.loads(json.dumps(report.to_json_dict(), allow_nan=False))
    assert set(document) == {field.name for field in dataclasses.fields(Evaluation)}
    assert Threshold.from_json_dict(document["threshold"]) == report.threshold
    assert document["metrics"]["brier"] == dataclasses.asdict(report.metrics["brier"])


def test_table_has_one_row_per_metric_with_its_numbers(report: Evaluation):
    text = report.table_markdown()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(report.metrics)
    assert len({line.count("|") for line in table}) == 1
    precision = report.metrics["average_precision"]
    assert f"|average precision|{precision.estimate:.3f}|{precision.low:.3f} to {precision.high:.3f}|" in table
    assert "| metric (↓ lower is better) | estimate | 95 % interval |" in table
    lower = {line.split("|")[1].removesuffix(" ↓") for line in table if "↓|" in line}
    assert lower == {"log loss (nats)", "Brier score", "expected calibration error"}
    assert f"{report.frauds} frauds" in text
    assert f"Threshold: {CHOSEN.label} (least cost at 20 per alert" in text
    assert "bootstrap over entities (" in text
    assert "40 replicates, seed 3" in text
    small = next(line for line in table if "Brier" in line)
    assert f"{report.metrics['brier'].estimate:#.3g}" in small
    assert "0.000" not in small


def test_table_says_so_when_nothing_is_alerted_and_when_resamples_were_redrawn():
    y = np.zeros(60, dtype=np.uint8)
    y[7] = 1
    text = evaluated(
        y=y,
        scores=np.linspace(0, 1, 60),
        days=np.arange(60) // 20,
        amounts=None,
        entities=None,
        threshold=Threshold(ALERT_NOTHING, "alert_budget", 4, 0, 50),
        alerts_per_day=4,
        replicates=30,
        seed=0,
    ).table_markdown()
    assert "Threshold: alert nothing (4 alerts a day on validation)" in text
    assert "of them redrawn" in text


@pytest.mark.parametrize(
    "change",
    [
        {"y": GOOD["y"] * 0},
        {"y": GOOD["y"][:-1]},
        {"scores": GOOD["scores"] * np.float32("nan")},
        {"days": GOOD["days"] / 2},
        {"amounts": -GOOD["amounts"]},
        {"alerts_per_day": 0},
        {"replicates": 3},
    ],
)
def test_unfit_input_is_refused(change: Any):
    with pytest.raises(EvaluationError):
        evaluated(**change)


def test_the_budget_counts_whole_days_only():
    """Against the point metrics on the rows of the whole days; the first block's day is 60 rows of 200."""
    y, scores, days = GOOD["y"], GOOD["scores"], GOOD["days"]
    whole = days != days.min()

    report = evaluated(on_whole_day=whole)

    for name, metric in (("precision_at_budget", metrics.precision_at_k), ("recall_at_budget", metrics.recall_at_k)):
        assert report.metrics[name].estimate == pytest.approx(metric(y[whole], scores[whole], days[whole], 5))
        assert report.metrics[name].low <= report.metrics[name].estimate <= report.metrics[name].high
    assert report.metrics["average_precision"] == evaluated().metrics["average_precision"]
    assert (report.days, report.whole_days) == (len(set(days)), len(set(days)) - 1)
    assert f"Daily budget: 5 alerts, on the {report.whole_days} whole days." in report.table_markdown()


def test_without_a_whole_day_that_has_a_fraud_parts_of_days_count_and_the_report_says_so(report: Evaluation):
    for whole in (np.zeros(2000, dtype=bool), GOOD["y"] == 0):
        parts = evaluated(on_whole_day=whole)

        assert parts.metrics == report.metrics
        assert parts.whole_days == 0
        assert "5 alerts, also on parts of days: there is no whole day with a fraud." in parts.table_markdown()
    assert "Daily budget: 5 alerts.\n" in report.table_markdown()
