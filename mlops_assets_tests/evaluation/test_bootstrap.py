"""Bootstrap intervals against a slow bootstrap through scikit-learn, and their coverage on a simulated population."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation import metrics
from mlops_assets.evaluation.bootstrap import (
    AMOUNT_RECALL,
    CENTRED,
    MAX_DRAWS_PER_REPLICATE,
    METRICS,
    Bootstrap,
    bootstrap,
    paired_difference,
    resamples,
)

THRESHOLD, BUDGET = 0.4, 2


def population(random: np.random.Generator, days: int, rows_per_day: int, fraud_rate: float = 0.05) -> dict[str, Any]:
    rows = days * rows_per_day
    y = (random.random(rows) < fraud_rate).astype(np.uint8)
    y[:2] = [0, 1]
    scores = np.where(y == 1, random.beta(2, 3, rows), random.beta(0.3, 8, rows)).astype(np.float32)
    return {"y_true": y, "scores": scores, "days": np.repeat(np.arange(days), rows_per_day)}


def run(rows: dict[str, Any], *, replicates: int = 100, seed: int = 1, **more: Any) -> Bootstrap:
    fixed: dict[str, Any] = {"threshold": THRESHOLD, "alerts_per_day": BUDGET, "replicates": replicates, "seed": seed}
    return bootstrap(**rows, **fixed, **more)


def slow_metrics(rows: dict[str, Any], amounts: Any, counts: Any) -> dict[str, float]:
    y, scores, days = rows["y_true"], rows["scores"], rows["days"]
    alerted, wide = scores.astype(float) >= THRESHOLD, scores.astype(float)
    copies = counts.astype(int)
    y_drawn, scores_drawn, days_drawn = (np.repeat(column, copies) for column in (y, scores, days))
    money = counts * amounts * y
    clipped = np.clip(wide, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    return {
        "average_precision": sk.average_precision_score(y, scores, sample_weight=counts),
        "roc_auc": sk.roc_auc_score(y, scores, sample_weight=counts),
        "precision_at_budget": metrics.precision_at_k(y_drawn, scores_drawn, days_drawn, BUDGET),
        "recall_at_budget": metrics.recall_at_k(y_drawn, scores_drawn, days_drawn, BUDGET),
        "kappa": sk.cohen_kappa_score(y, alerted, sample_weight=counts),
        "f1": sk.f1_score(y, alerted, sample_weight=counts),
        "log_loss": sk.log_loss(y, clipped, sample_weight=counts),
        "brier": sk.brier_score_loss(y, wide, sample_weight=counts),
        AMOUNT_RECALL: money[alerted].sum() / money.sum(),
    }


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 10, 10_000]), st.sampled_from([0.5, 0.9]))
def test_every_interval_equals_that_of_a_slow_bootstrap_with_the_same_counts(seed: Any, levels: Any, level: Any):
    random = np.random.default_rng(seed)
    rows = population(random, days=5, rows_per_day=30, fraud_rate=0.1)
    rows["scores"] = (np.round(rows["scores"] * levels) / levels).astype(np.float32)
    amounts = random.integers(1, 50, 150).astype(float)
    fast = run(rows, replicates=25, seed=seed, amounts=amounts, level=level)
    draws = resamples(150, 25, seed, lambda counts: 0 < counts[rows["y_true"] == 1].sum() < 150)
    slow = [slow_metrics(rows, amounts, counts) for counts, _ in draws]
    estimates = slow_metrics(rows, amounts, np.ones(150))
    for name, interval in fast.intervals.items():
        values = np.array([replicate[name] for replicate in slow])
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        if name in CENTRED:
            shift = estimates[name] - values.mean()
            low, high = max(0, min(low + shift, estimates[name])), min(1, max(high + shift, estimates[name]))
        expected = (estimates[name], low, high)
        assert (interval.estimate, interval.low, interval.high) == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_an_interval_holds_its_estimate_and_stays_in_range():
    outside = 0
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
                assert held or name not in CENTRED
                outside += level == 0.95 and not held
    assert outside <= 2, "a percentile interval misses its own estimate only when the replicates are very lopsided"


def test_the_seed_decides_the_interval_and_the_order_of_days_in_the_input_does_not():
    rows = population(np.random.default_rng(5), days=5, rows_per_day=100)
    first = run(rows, seed=7)
    assert run(rows, seed=7) == first
    assert run(rows, seed=8).intervals["roc_auc"] != first.intervals["roc_auc"]
    relabelled = {**rows, "days": 1000 - rows["days"]}
    assert run(relabelled, seed=7).intervals["brier"] == first.intervals["brier"]
    ours, theirs = first.intervals["recall_at_budget"], run(relabelled, seed=7).intervals["recall_at_budget"]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_a_wider_level_gives_a_wider_interval():
    rows = population(np.random.default_rng(5), days=5, rows_per_day=200, fraud_rate=0.02)
    half, most = (run(rows, replicates=200, level=level).intervals for level in (0.5, 0.99))
    for name in METRICS:
        wide, narrow = most[name], half[name]
        assert wide.low < narrow.low <= narrow.high <= wide.high, name
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low), name


def test_intervals_cover_the_truth_of_a_simulated_population_as_often_as_they_say():
    """Nominal 95 %; the band is what 150 draws and the known shortness with few frauds allow.

    The second assertion is the test of the test: intervals of half the width must fall out of the band, so an
    interval that is wrong by that much can't pass. 40 days make an uncentred budget metric fail, too.
    """
    days, per_day, samples = 40, 50, 150
    random = np.random.default_rng(20)
    big = population(random, days=1, rows_per_day=400_000)
    y, scores = big["y_true"], big["scores"]
    truth = {
        "average_precision": metrics.average_precision(y, scores),
        "roc_auc": metrics.roc_auc(y, scores),
        "kappa": metrics.kappa(y, scores, THRESHOLD),
        "f1": metrics.f1(y, scores, THRESHOLD),
        "log_loss": metrics.log_loss(y, scores),
        "brier": metrics.brier(y, scores),
    }
    # The budget metrics are defined for days of this size, so their truth is a mean over many such days.
    many = population(random, days=8000, rows_per_day=per_day)
    columns = (many["y_true"], many["scores"], many["days"])
    truth["precision_at_budget"] = metrics.precision_at_k(*columns, BUDGET)
    truth["recall_at_budget"] = metrics.recall_at_k(*columns, BUDGET)

    hits, half_hits = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)
    for sample in range(samples):
        for name, interval in run(population(random, days, per_day), replicates=80, seed=sample).intervals.items():
            hits[name] += interval.low <= truth[name] <= interval.high
            middle, quarter = (interval.low + interval.high) / 2, (interval.high - interval.low) / 4
            half_hits[name] += abs(truth[name] - middle) <= quarter
    coverage = {name: count / samples for name, count in hits.items()}
    assert all(0.86 <= share <= 0.99 for share in coverage.values()), coverage
    assert all(count / samples < 0.8 for count in half_hits.values()), half_hits


def test_resamples_of_one_class_are_drawn_again_and_counted():
    rows = {"y_true": np.array([1] + [0] * 49), "scores": np.linspace(0.9, 0.1, 50), "days": np.zeros(50, dtype=int)}
    result = run(rows, replicates=200)
    # A single fraud is absent from 0.98 ** 50 = 36 % of the draws, so 200 replicates need about 115 more.
    assert 70 < result.redrawn < 170
    plenty = population(np.random.default_rng(1), days=5, rows_per_day=100, fraud_rate=0.2)
    assert run(plenty).redrawn == 0


def test_resamples_without_fraudulent_money_are_drawn_again():
    rows = population(np.random.default_rng(1), days=1, rows_per_day=200, fraud_rate=0.2)
    amounts = np.where(np.arange(200) == 1, 10.0, 0.0)  # row 1 is a fraud, and the only one with money
    result = run(rows, amounts=amounts)
    assert result.redrawn > 20
    caught = float(rows["scores"][1] >= THRESHOLD)
    assert result.intervals[AMOUNT_RECALL].low == result.intervals[AMOUNT_RECALL].high == caught


def test_redrawing_ends():
    asked = []

    def never(counts: Any) -> bool:
        asked.append(counts.sum())
        return False

    with pytest.raises(EvaluationError, match="resamples in a row"):
        list(resamples(10, 5, 1, never))
    assert asked == [10] * MAX_DRAWS_PER_REPLICATE


def test_counts_are_drawn_with_replacement_and_independently_of_the_scores():
    counts = np.array([counts for counts, _ in resamples(50, 400, 3, lambda _: True)])
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.05)


def test_paired_difference_of_a_model_with_itself_is_exactly_zero():
    rows = population(np.random.default_rng(2), days=1, rows_per_day=500)
    same = paired_difference(
        y_true=rows["y_true"], scores=rows["scores"], baseline_scores=rows["scores"], replicates=50, seed=1
    )
    assert (same.low, same.estimate, same.high) == (0, 0, 0)


def test_paired_difference_is_that_of_two_slow_bootstraps_on_the_same_counts_and_narrower_than_unpaired():
    random = np.random.default_rng(4)
    rows = population(random, days=1, rows_per_day=1000)
    y, scores = rows["y_true"], rows["scores"]
    noisy = np.clip(scores + random.normal(0, 0.15, 1000), 0, 1).astype(np.float32)
    pair = {"y_true": y, "scores": scores, "baseline_scores": noisy}
    interval = paired_difference(**pair, replicates=60, seed=9, level=0.8)
    draws = resamples(1000, 60, 9, lambda counts: 0 < counts[y == 1].sum() < 1000)
    single = np.array(
        [[sk.average_precision_score(y, each, sample_weight=counts) for each in (scores, noisy)] for counts, _ in draws]
    )
    low, high = np.quantile(single[:, 0] - single[:, 1], [0.1, 0.9])
    estimate = sk.average_precision_score(y, scores) - sk.average_precision_score(y, noisy)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((estimate, low, high))
    assert high - low < 0.7 * np.ptp(np.quantile(single[:, 0] - np.roll(single[:, 1], 1), [0.1, 0.9]))
    assert interval.low > 0, "noise on the scores must show as a loss"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"replicates": 19}, "19 replicates"),
        ({"seed": -1}, "seed of -1"),
        ({"level": 1.0}, "level of 1.0"),
        ({"level": 0.0}, "level of 0.0"),
        ({"amounts": np.zeros(100)}, "no fraud has an amount"),
        ({"amounts": np.ones(99)}, "amounts of shape"),
    ],
)
def test_an_unfit_design_is_refused(change: Any, says: Any):
    rows = population(np.random.default_rng(1), days=1, rows_per_day=100)
    assert run(rows, replicates=20).intervals
    with pytest.raises(EvaluationError, match=says):
        run(rows, **change)


def test_unfit_rows_are_refused():
    rows = population(np.random.default_rng(1), days=1, rows_per_day=100)
    for change in ({"y_true": rows["y_true"] * 0}, {"scores": rows["scores"] * 9}, {"days": rows["days"][:5]}):
        with pytest.raises(EvaluationError):
            run({**rows, **change})
    with pytest.raises(EvaluationError, match="for 99 scores"):
        paired_difference(
            y_true=rows["y_true"], scores=rows["scores"], baseline_scores=rows["scores"][:99], replicates=20, seed=1
        )
