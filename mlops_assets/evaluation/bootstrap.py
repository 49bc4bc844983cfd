"""Percentile bootstrap intervals for all metrics of a report in one pass.

What belongs here: resampling of rows, and intervals. What does not: the metrics themselves (`metrics`, `ranking`).

Rows are drawn with replacement (Efron and Tibshirani 1993, chapter 13), as counts that serve as integer row weights.
The scores are sorted once and a replicate costs a draw and a few cumulative sums; only one replicate's arrays are in
memory at a time. Counts belong to rows, not to ranks: with the same seed, two score vectors on the same rows are
evaluated on the same resamples, so differences between them are paired.

The two budget metrics are centred: their interval is that of the replicates, shifted by (estimate - mean of the
replicates). A day's share of caught frauds is concave in the number of frauds it draws, so resampling once more pulls
each day down by about the same amount; over many days that bias stays while the interval shrinks. Measured on simulated
data, 90 days of 300 rows: plain 95 % intervals covered the true value in 53-64 % of the cases, centred ones in 91-96 %.

Limits: rows are treated as independent. Frauds on one card or one day come in clusters, so the true uncertainty is
somewhat larger. With only a few dozen frauds the intervals of ranking metrics are slightly too narrow (measured
coverage: 90-95 %).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mlops_assets.evaluation.metrics import (
    Confusion,
    checked_budget,
    checked_days,
    checked_labels_and_scores,
    checked_threshold,
    refuse,
    row_log_loss,
)
from mlops_assets.evaluation.ranking import Array, BoolArray, DailyRanking, FloatArray, RankedScores, rows_of_budget
from mlops_assets.evaluation.threshold import checked_amounts

METRICS = (
    "average_precision",
    "roc_auc",
    "precision_at_budget",
    "recall_at_budget",
    "kappa",
    "f1",
    "log_loss",
    "brier",
)
AMOUNT_RECALL = "amount_recall"
CENTRED = ("precision_at_budget", "recall_at_budget")

# At 95 % this leaves at least one replicate outside the interval.
MIN_REPLICATES = 20
# A given fraud is missing from about 37 % of the draws; 100 draws in a row without any fraud are a bug.
MAX_DRAWS_PER_REPLICATE = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate on all rows and its percentile bootstrap interval.

    Attributes:
        estimate: The metric on the rows as they are.
        low: Lower end: the (1 - level) / 2 quantile over the replicates (shifted, for the metrics in CENTRED).
        high: Upper end.
        level: Nominal coverage.
        replicates: Number of resamples.
        seed: Seed of the resamples; the same seed gives the same interval.
    """

    estimate: float
    low: float
    high: float
    replicates: int
    seed: int
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Intervals by metric name, and how many draws had to be repeated because a metric was undefined on them."""

    intervals: dict[str, Interval]
    redrawn: int


def bootstrap(
    *,
    y_true: Array,
    scores: Array,
    days: Array,
    threshold: float,
    alerts_per_day: int,
    replicates: int,
    seed: int,
    amounts: Array | None = None,
    on_whole_day: Array | None = None,
    level: float = 0.95,
) -> Bootstrap:
    """Estimate every metric of METRICS with its interval.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        days: Day number of each row [n], integer.
        threshold: Alert when score >= threshold, for kappa, F1 and amount recall; chosen on other rows.
        alerts_per_day: Daily budget for precision and recall at budget.
        replicates: Number of resamples, at least MIN_REPLICATES.
        seed: Seed of numpy's default generator.
        amounts: Amount of each row [n]; adds `amount_recall`, the share of the fraudulent amount that is alerted.
        on_whole_day: Which rows the metrics of the daily budget count [n] bool (`ranking.rows_of_budget`); None: all.
        level: Nominal coverage of the intervals, in (0, 1).

    Raises:
        EvaluationError: A metric is not defined on these rows, or an argument is invalid.
    """
    _check_design(replicates, seed, level)
    scorer = _AllMetrics(
        y_true=y_true,
        scores=scores,
        days=days,
        threshold=threshold,
        alerts_per_day=alerts_per_day,
        amounts=amounts,
        on_whole_day=on_whole_day,
    )
    values = np.empty((replicates, len(scorer.names)))
    redrawn = 0
    for replicate, (counts, tries) in enumerate(resamples(len(scores), replicates, seed, scorer.defined)):
        values[replicate] = scorer(counts)
        redrawn += tries - 1
    intervals = {}
    for name, estimate, column in zip(scorer.names, scorer(np.ones(len(scores))), values.T, strict=True):
        low, high = _ends(column, level)
        if name in CENTRED:
            shift = estimate - float(column.mean())
            # Near 0 or 1 the replicates pile up at the bound, and a shifted end could pass the estimate or the bound.
            low, high = max(0.0, min(low + shift, estimate)), min(1.0, max(high + shift, estimate))
        intervals[name] = Interval(estimate, low, high, replicates, seed, level)
    return Bootstrap(intervals, redrawn)


def paired_difference(
    *,
    y_true: Array,
    scores: Array,
    baseline_scores: Array,
    replicates: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Estimate average precision of `scores` minus that of `baseline_scores` on the same rows.

    Both are evaluated on the same resamples, so what the two models have in common cancels out; the interval is much
    narrower than the two single intervals suggest. Positive means that `scores` rank better.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores of the model in question [n].
        baseline_scores: Scores of the model it is compared with [n].
        replicates: Number of resamples, at least MIN_REPLICATES.
        seed: Seed of numpy's default generator.
        level: Nominal coverage, in (0, 1).

    Raises:
        EvaluationError: Average precision is not defined on these rows, or an argument is invalid.
    """
    _check_design(replicates, seed, level)
    fraud, score = checked_labels_and_scores(y_true, scores)
    _, baseline_score = checked_labels_and_scores(y_true, baseline_scores)
    new, old = RankedScores(fraud, score), RankedScores(fraud, baseline_score)

    def difference(weights: FloatArray) -> float:
        return new.weighted(weights).average_precision() - old.weighted(weights).average_precision()

    draws = resamples(len(fraud), replicates, seed, lambda counts: _both_classes(fraud, counts))
    values = np.array([difference(counts) for counts, _ in draws])
    low, high = _ends(values, level)
    return Interval(difference(np.ones(len(fraud))), low, high, replicates, seed, level)


def resamples(
    rows: int, replicates: int, seed: int, defined: Callable[[FloatArray], bool]
) -> Iterator[tuple[FloatArray, int]]:
    """Yield, per replicate, how often each row was drawn [rows] float64, and how many draws that took.

    Args:
        rows: Rows to draw from, and drawn.
        replicates: Number of resamples.
        seed: Seed of numpy's default generator.
        defined: Tells whether the metrics are defined for these counts; if not, the draw is repeated.

    Raises:
        EvaluationError: A replicate failed `defined` MAX_DRAWS_PER_REPLICATE times in a row.
    """
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        for tries in range(1, MAX_DRAWS_PER_REPLICATE + 1):
            drawn = generator.integers(0, rows, size=rows)
            counts = np.bincount(drawn, minlength=rows).astype(np.float64)
            if defined(counts):
                yield counts, tries
                break
        else:
            refuse(
                f"{MAX_DRAWS_PER_REPLICATE} resamples in a row on which a metric is not defined",
                fix="evaluate on a longer period with more frauds",
            )


class _AllMetrics:
    """All metrics of a report as one function of the row weights."""

    def __init__(
        self,
        *,
        y_true: Array,
        scores: Array,
        days: Array,
        threshold: float,
        alerts_per_day: int,
        amounts: Array | None,
        on_whole_day: Array | None,
    ) -> None:
        fraud, score = checked_labels_and_scores(y_true, scores)
        self.names = METRICS if amounts is None else (*METRICS, AMOUNT_RECALL)
        self._fraud = np.flatnonzero(fraud)
        self._ranked = RankedScores(fraud, score)
        counted = rows_of_budget(fraud, on_whole_day)
        # None where it is all of them, which saves a copy of the weights per replicate.
        self._counted = None if counted.all() else np.flatnonzero(counted)
        self._counted_frauds = np.flatnonzero(fraud & counted)
        self._daily = DailyRanking(fraud[counted], score[counted], checked_days(days, len(fraud))[counted])
        self._k = checked_budget(alerts_per_day)
        alerted = score >= checked_threshold(threshold)
        self._caught = alerted[self._fraud]
        # One matrix product gives the three sums over all rows that need no order.
        self._sums = np.stack(
            [alerted.astype(np.float64), row_log_loss(fraud, score, scores.dtype), (score - fraud) ** 2]
        )
        self._amounts = None if amounts is None else checked_amounts(amounts, len(fraud))[self._fraud]
        if self._amounts is not None and self._amounts.sum() == 0:
            refuse("no fraud has an amount above 0", where="amounts", fix="pass the contract's amounts, or none")

    def defined(self, counts: FloatArray) -> bool:
        """Return whether both classes were drawn, a fraud the budget counts and, with amounts, a fraudulent amount."""
        drawn = counts[self._fraud]
        frauds = drawn.sum()
        some_amount = self._amounts is None or drawn @ self._amounts > 0
        return bool(0 < frauds < len(counts) and counts[self._counted_frauds].any() and some_amount)

    def __call__(self, weights: FloatArray) -> list[float]:
        total = float(weights.sum())
        drawn = weights[self._fraud]
        alerts, log_loss, brier = (self._sums @ weights).tolist()
        frauds = float(drawn.sum())
        at_threshold = Confusion(float(drawn[self._caught].sum()), alerts, frauds, total - frauds)
        ranking = self._ranked.weighted(weights)
        values = [
            ranking.average_precision(),
            ranking.roc_auc(),
            *self._daily.at_budget(self._k, weights if self._counted is None else weights[self._counted]),
            at_threshold.kappa(),
            at_threshold.f1(),
            log_loss / total,
            brier / total,
        ]
        if self._amounts is not None:
            money = drawn * self._amounts
            values.append(float(money[self._caught].sum() / money.sum()))
        return values


def _ends(values: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _both_classes(fraud: BoolArray, counts: FloatArray) -> bool:
    return bool(0 < counts[fraud].sum() < len(counts))


def _check_design(replicates: int, seed: int, level: float) -> None:
    if replicates < MIN_REPLICATES:
        refuse(f"{replicates} replicates", where="replicates", fix=f"ask for at least {MIN_REPLICATES}; 500 is usual")
    if seed < 0:
        refuse(f"a seed of {seed}", where="seed", fix="use an integer >= 0")
    if not 0 < level < 1:
        refuse(f"a level of {level}", where="level", fix="use a share such as 0.95")
