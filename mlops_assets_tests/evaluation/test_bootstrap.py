"""Bootstrap intervals against a slow bootstrap through scikit-learn, and two models against each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation import intervals, metrics
from mlops_assets.evaluation.bootstrap import Bootstrap, Contender, bootstrap, compare
from mlops_assets.evaluation.cards import PastFrauds, card_precision_at_k, unknown_rows
from mlops_assets.evaluation.clusters import draws
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import CARDS, METRICS, MONEY, UNKNOWN_CARDS, Rows
from mlops_assets_tests.evaluation.test_cards import error_by_pandas

THRESHOLD, BUDGET, ALERT_COST = 0.4, 2, 5.0
ANGLE = (lambda share: np.arcsin(np.sqrt(share)), lambda angle: np.sin(np.clip(angle, 0, np.pi / 2)) ** 2)
PLAIN = (lambda value: value, lambda value: value)
LOG = (np.log, np.exp)
SCALES: dict[str, Any] = {
    **dict.fromkeys((*METRICS, *MONEY, *CARDS, *UNKNOWN_CARDS), ANGLE),
    "roc_auc": (special.logit, special.expit),
    "kappa": PLAIN,
    "log_loss": LOG,
    "brier": LOG,
    "money_saved": PLAIN,
    "money_saved_over_random": PLAIN,
}


def population(random: np.random.Generator, days: int, rows_per_day: int, fraud_rate: float = 0.05) -> dict[str, Any]:
    rows = days * rows_per_day
    y = (random.random(rows) < fraud_rate).astype(np.uint8)
    y[:2] = [0, 1]
    scores = np.where(y == 1, random.beta(2, 3, rows), random.beta(0.3, 8, rows)).astype(np.float32)
    return {"y": y, "scores": scores, "days": np.repeat(np.arange(days), rows_per_day)}


def run(rows: dict[str, Any], *, replicates: int = 100, seed: int = 1, level: float = 0.95, **more: Any) -> Bootstrap:
    given_rows = {name: value for name, value in rows.items() if name != "scores"} | more
    return bootstrap(
        Rows(alerts_per_day=BUDGET, alert_cost=ALERT_COST, **given_rows),
        scores=rows["scores"],
        threshold=THRESHOLD,
        design=Design(replicates, seed, level),
    )


def slow_metrics(rows: dict[str, Any], counts: Any) -> dict[str, float]:
    """Return the metrics on rows that were copied as often as counted; copies of a card are cards of their own."""
    y, scores, days, cards, amounts = (rows[name] for name in ("y", "scores", "days", "entities", "amounts"))
    alerted, wide = scores.astype(float) >= THRESHOLD, scores.astype(float)
    copies = counts.astype(int)
    y_drawn, scores_drawn, days_drawn, card_drawn = (np.repeat(column, copies) for column in (y, scores, days, cards))
    copy = np.concatenate([np.arange(n) for n in copies])
    own_card = card_drawn * 1_000 + copy
    money = counts * amounts * y
    clipped = np.clip(wide, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    unknown = unknown_rows(y == 1, days, cards, rows["past"])
    new = np.repeat(unknown, copies)
    return {
        "average_precision": sk.average_precision_score(y, scores, sample_weight=counts),
        "roc_auc": sk.roc_auc_score(y, scores, sample_weight=counts),
        "precision_at_budget": metrics.precision_at_k(y_drawn, scores_drawn, days_drawn, BUDGET),
        "recall_at_budget": metrics.recall_at_k(y_drawn, scores_drawn, days_drawn, BUDGET),
        "kappa": sk.cohen_kappa_score(y, alerted, sample_weight=counts),
        "f1": sk.f1_score(y, alerted, sample_weight=counts),
        "log_loss": sk.log_loss(y, clipped, sample_weight=counts),
        "brier": sk.brier_score_loss(y, wide, sample_weight=counts),
        "calibration_error": error_by_pandas(y, wide, counts),
        "amount_recall": money[alerted].sum() / money.sum(),
        "money_saved": money[alerted].sum() - ALERT_COST * counts[alerted].sum(),
        "money_saved_over_random": money[alerted].sum() - counts[alerted].sum() / counts.sum() * money.sum(),
        "card_precision_at_budget": card_precision_at_k(y_drawn, scores_drawn, days_drawn, own_card, BUDGET),
        "unknown_card_average_precision": sk.average_precision_score(
            y[unknown], scores[unknown], sample_weight=counts[unknown]
        ),
        "unknown_card_precision_at_budget": card_precision_at_k(
            y_drawn[new], scores_drawn[new], days_drawn[new], own_card[new], BUDGET
        ),
    }


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 10, 10_000]), st.sampled_from([0.5, 0.9]))
def test_every_interval_equals_that_of_a_slow_bootstrap_with_the_same_counts(seed: Any, levels: Any, level: Any):
    random = np.random.default_rng(seed)
    rows = population(random, days=5, rows_per_day=60, fraud_rate=0.3)
    rows["scores"] = (np.round(rows["scores"] * levels) / levels).astype(np.float32)
    rows["entities"] = random.integers(0, 100, 300)
    rows["amounts"] = random.integers(1, 50, 300).astype(float)
    rows["past"] = PastFrauds(np.array([3, 4, 5]), np.array([-2, 0, -9]), label_delay_days=2)
    fast = run(rows, replicates=25, seed=seed, level=level)
    order = dict.fromkeys(rows["entities"].tolist())
    cluster = np.array([list(order).index(card) for card in rows["entities"].tolist()])
    frauds = np.bincount(cluster[rows["y"] == 1], minlength=len(order))
    slow = [
        slow_metrics(rows, copies[cluster])
        for copies, _ in draws(len(order), 25, seed, lambda copies: bool(copies @ frauds > 0))
    ]
    estimates = slow_metrics(rows, np.ones(300))
    effective = frauds.sum() ** 2 / (frauds**2).sum()
    width = stats.t(effective - 1).ppf((1 + level) / 2) * np.sqrt(effective / (effective - 1))

    assert tuple(fast.intervals) == (*METRICS, *MONEY, *CARDS, *UNKNOWN_CARDS)
    for name, interval in fast.intervals.items():
        values, estimate = np.array([replicate[name] for replicate in slow]), estimates[name]
        to_scale, back = SCALES[name]
        values, middle = to_scale(values), to_scale(estimate)
        if name == "calibration_error":
            middle -= values.mean() - middle
        ends = middle + width * values.std(ddof=1) * np.array([-1, 1])
        expected = (estimate, *back(ends))
        assert (interval.estimate, interval.low, interval.high) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_an_interval_holds_its_estimate_and_stays_in_range():
    for seed in range(25):
        rows = population(np.random.default_rng(seed), days=4, rows_per_day=100)
        for level in (0.5, 0.95):
            intervals = run(rows, replicates=60, seed=seed, level=level).intervals
            assert tuple(intervals) == METRICS
            for name, interval in intervals.items():
                assert (interval.replicates, interval.seed, interval.level) == (60, seed, level)
                lowest, highest = (-1 if name == "kappa" else 0), (np.inf if name == "log_loss" else 1)
                assert lowest <= interval.low <= interval.high <= highest, name
                held = interval.low <= interval.estimate <= interval.high
                assert held or name == "calibration_error", "its own bias is taken out"


def test_the_seed_decides_the_interval_and_the_names_of_days_and_entities_do_not():
    rows = population(np.random.default_rng(5), days=6, rows_per_day=100)
    rows["entities"] = np.random.default_rng(6).integers(0, 80, 600)
    first = run(rows, seed=7)
    assert run(rows, seed=7) == first
    assert run(rows, seed=8).intervals["roc_auc"] != first.intervals["roc_auc"]
    assert run({**rows, "entities": 1000 - rows["entities"]}, seed=7) == first
    assert run({**rows, "entities": np.array([f"card {n}" for n in rows["entities"]])}, seed=7) == first
    by_day = run({**rows, "entities": None}, seed=7)
    renamed = run({**rows, "entities": None, "days": 1000 - rows["days"]}, seed=7)
    for name, interval in by_day.intervals.items():
        other = renamed.intervals[name]
        assert (interval.low, interval.high) == pytest.approx((other.low, other.high)), name


def test_a_wider_level_gives_a_wider_interval():
    rows = population(np.random.default_rng(5), days=4, rows_per_day=200, fraud_rate=0.02)
    half, most = (run(rows, replicates=200, level=level).intervals for level in (0.5, 0.99))
    for name in METRICS:
        wide, narrow = most[name], half[name]
        assert wide.low <= narrow.low <= narrow.high <= wide.high, name
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low), name


def test_many_rows_get_fewer_replicates_and_an_interval_of_the_same_width(monkeypatch: pytest.MonkeyPatch):
    design = Design(500, 1)
    assert [design.within_budget(rows).replicates for rows in (0, 4_000_000, 5_000_000, 10**9)] == [500, 500, 400, 100]
    assert Design(50, 1).within_budget(10**9).replicates == 50, "never more than was asked for"

    rows = population(np.random.default_rng(5), days=20, rows_per_day=200, fraud_rate=0.02)
    whole = run(rows, replicates=500).intervals["average_precision"]
    monkeypatch.setattr(intervals, "ROW_DRAWS", 120 * 4_000)
    less = run(rows, replicates=500).intervals["average_precision"]
    assert (whole.replicates, less.replicates) == (500, 120)
    assert less.high - less.low == pytest.approx(whole.high - whole.low, rel=0.25)


def test_days_that_are_drawn_keep_their_own_budget():
    """A day that counts twice is two days with a budget each, not one day with twice the rows."""
    rows = population(np.random.default_rng(3), days=6, rows_per_day=50, fraud_rate=0.2)
    result = run(rows, replicates=30, seed=4, level=0.5)
    daily = np.array(
        [
            rows["y"][at][np.argsort(-rows["scores"][at])[:BUDGET]].mean()
            for at in (rows["days"] == day for day in range(6))
        ]
    )
    frauds = np.bincount(rows["days"], weights=rows["y"])
    drawn = [copies for copies, _ in draws(6, 30, 4, lambda copies: bool(copies @ frauds > 0))]
    values = np.array([copies @ daily / 6 for copies in drawn])

    assert result.sample.unit == "day"
    interval = result.intervals["precision_at_budget"]
    assert interval.estimate == pytest.approx(daily.mean())
    angles, effective = np.arcsin(np.sqrt(values)), result.sample.effective
    width = stats.t(effective - 1).ppf(0.75) * np.sqrt(effective / (effective - 1)) * angles.std(ddof=1)
    ends = np.sin(np.arcsin(np.sqrt(daily.mean())) + width * np.array([-1, 1])) ** 2
    assert (interval.low, interval.high) == pytest.approx(tuple(ends), rel=1e-5)


def test_resamples_of_one_class_are_drawn_again_and_counted():
    rows = {"y": np.array([1] + [0] * 49), "scores": np.linspace(0.9, 0.1, 50), "days": np.zeros(50, dtype=int)}
    result = run(rows, replicates=200)
    # A single fraud is absent from 0.98 ** 50 = 36 % of the draws, so 200 replicates need about 115 more.
    assert 70 < result.sample.redrawn < 170
    plenty = population(np.random.default_rng(1), days=4, rows_per_day=100, fraud_rate=0.2)
    assert run(plenty).sample.redrawn == 0


def test_resamples_without_fraudulent_money_are_drawn_again():
    rows = population(np.random.default_rng(1), days=1, rows_per_day=200, fraud_rate=0.2)
    amounts = np.where(np.arange(200) == 1, 10.0, 0.0)  # row 1 is a fraud, and the only one with money
    result = run(rows, amounts=amounts)
    assert result.sample.redrawn > 20
    caught = float(rows["scores"][1] >= THRESHOLD)
    money = result.intervals["amount_recall"]
    assert (money.low, money.high) == pytest.approx((caught, caught))


def test_without_amounts_entities_or_past_frauds_their_metrics_are_left_out():
    rows = population(np.random.default_rng(1), days=6, rows_per_day=50, fraud_rate=0.2)
    cards, nobody = np.arange(300) % 90, PastFrauds(np.array([], int), np.array([], int), 1)
    everybody = PastFrauds(np.arange(90), np.full(90, -9), 1)

    assert tuple(run(rows).intervals) == METRICS
    assert tuple(run(rows, amounts=np.ones(300)).intervals) == (*METRICS, *MONEY)
    assert tuple(run(rows, entities=cards).intervals) == (*METRICS, *CARDS)
    assert tuple(run(rows, entities=cards, past=nobody).intervals) == (*METRICS, *CARDS, *UNKNOWN_CARDS)
    assert tuple(run(rows, entities=cards, past=everybody).intervals) == (*METRICS, *CARDS)


def pair() -> tuple[Rows, Contender, Contender]:
    random = np.random.default_rng(4)
    drawn = population(random, days=7, rows_per_day=150)
    noisy = np.clip(drawn["scores"] + random.normal(0, 0.15, 1050), 0, 1).astype(np.float32)
    rows = Rows(
        y=drawn["y"],
        days=drawn["days"],
        alerts_per_day=BUDGET,
        entities=random.integers(0, 300, 1050),
        amounts=random.gamma(1, 80, 1050),
        alert_cost=ALERT_COST,
    )
    return rows, Contender(drawn["scores"], 0.4), Contender(noisy, 0.6)


def test_a_model_has_no_gain_over_itself():
    rows, model, _ = pair()
    same = compare(rows, candidate=model, baseline=model, design=Design(50, 1))
    assert list(same.gains) == ["average_precision", "precision_at_budget", "brier", "calibration_error", "money_saved"]
    for gain in same.gains.values():
        assert (gain.interval.low, gain.interval.estimate, gain.interval.high) == (0, 0, 0)
        assert gain.candidate == gain.baseline


def test_a_gain_is_the_difference_of_two_reports_and_its_interval_is_paired():
    rows, good, noisy = pair()
    design = Design(200, 9)
    result = compare(rows, candidate=good, baseline=noisy, design=design)
    alone = [bootstrap(rows, scores=m.scores, threshold=m.threshold, design=design) for m in (good, noisy)]
    for name, gain in result.gains.items():
        first, second = (report.intervals[name] for report in alone)
        sign = -1 if name in ("brier", "calibration_error") else 1
        assert (gain.candidate, gain.baseline) == (first.estimate, second.estimate)
        assert gain.interval.estimate == pytest.approx(sign * (first.estimate - second.estimate))
        apart = np.hypot(first.high - first.low, second.high - second.low)
        assert gain.interval.low < gain.interval.estimate < gain.interval.high
        assert gain.interval.high - gain.interval.low < apart, name
    assert result.gains["average_precision"].interval.low > 0, "noise on the scores must show as a loss"
    assert result.gains["brier"].interval.low > 0
    assert result.sample == alone[0].sample
    reverse = compare(rows, candidate=noisy, baseline=good, design=design).gains["average_precision"].interval
    forward = result.gains["average_precision"].interval
    assert (reverse.low, reverse.high) == pytest.approx((-forward.high, -forward.low))


def test_a_gain_has_a_lower_end_at_any_level():
    rows, good, noisy = pair()
    gain = compare(rows, candidate=good, baseline=noisy, design=Design(60, 1)).gains["average_precision"]
    narrow = compare(rows, candidate=good, baseline=noisy, design=Design(60, 1, 0.5)).gains["average_precision"]

    assert gain.lower_end(0.95) == pytest.approx(gain.interval.low)
    assert gain.lower_end(0.5) == pytest.approx(narrow.interval.low)


def test_only_some_metrics_are_compared_where_only_these_are_wanted():
    rows, good, noisy = pair()
    gains = compare(rows, candidate=good, baseline=noisy, design=Design(30, 1), wanted=("brier",)).gains
    assert list(gains) == ["brier"]


def test_a_gain_without_amounts_says_nothing_about_money():
    rows, good, noisy = pair()
    gains = compare(replace(rows, amounts=None), candidate=good, baseline=noisy, design=Design(30, 1)).gains
    assert list(gains) == ["average_precision", "precision_at_budget", "brier", "calibration_error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"replicates": 19}, "19 replicates"),
        ({"seed": -1}, "seed of -1"),
        ({"level": 1.0}, "level of 1.0"),
        ({"level": 0.0}, "level of 0.0"),
        ({"amounts": np.zeros(100)}, "no fraud has an amount"),
        ({"amounts": np.full(100, -1.0)}, "negative or not finite"),
        ({"amounts": np.ones(99)}, "for 100 rows"),
        ({"entities": np.arange(99)}, "entities of shape"),
        ({"days": np.zeros(99, dtype=int)}, "for 100 rows"),
    ],
)
def test_unfit_input_is_refused(change: dict[str, Any], says: str):
    rows = population(np.random.default_rng(1), days=1, rows_per_day=100)
    good: dict[str, Any] = {"amounts": np.ones(100)}
    assert run(rows, **good).intervals
    with pytest.raises(EvaluationError, match=says):
        run({**rows, **change} if "days" in change else rows, **{**good, **({} if "days" in change else change)})
