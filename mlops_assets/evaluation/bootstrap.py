"""Clustered bootstrap of all metrics of one model, and of the differences between two models on the same rows.

What belongs here: running the replicates and naming the intervals. What does not: which rows are drawn together
(`clusters`), the interval's form (`intervals`), the metrics under a draw (`scorer`).

Clusters are drawn with replacement (Efron and Tibshirani 1993, chapter 13; clusters: Davison and Hinkley 1997, section
3.8), as counts that serve as integer row weights. The scores are sorted once, and a replicate costs a draw and a few
cumulative sums; only one replicate's arrays are in memory at a time. So many rows that the replicates would take longer
than some minutes get fewer of them (`Design.within_budget`).

Resampling is biased where a metric is not smooth: a day's share of caught frauds falls when frauds are drawn twice.
Intervals therefore lie about the estimate and take only their width from the replicates. The calibration error is
the exception: scatter alone makes it too high, on the rows as on each resample, so that bias is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mlops_assets.evaluation.clusters import Clusters, Unit, draws
from mlops_assets.evaluation.intervals import Design, Interval, Scale, standard_error, student
from mlops_assets.evaluation.metrics import checked_labels_and_scores
from mlops_assets.evaluation.ranking import Array, FloatArray
from mlops_assets.evaluation.scorer import MONEY_SAVED, SAVED_OVER_RANDOM, Rows, Scorer

LOWER_IS_BETTER: Final = ("log_loss", "brier", "calibration_error")
SCALES: Final[Mapping[str, Scale]] = {
    "roc_auc": "log_odds",
    "kappa": "plain",
    "log_loss": "log",
    "brier": "log",
    MONEY_SAVED: "plain",
    SAVED_OVER_RANDOM: "plain",
}
COMPARED: Final = ("average_precision", "precision_at_budget", "brier", "calibration_error", MONEY_SAVED)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the intervals rest on.

    Attributes:
        unit: What was drawn: entities, days, or (for lack of days) single rows, which understates the uncertainty when
            frauds come in series.
        clusters: Number of them.
        with_fraud: Number of them that hold a fraud.
        effective: Number of equally large clusters that would tell as much (`Clusters.effective`).
        redrawn: Resamples that were drawn again because a metric was undefined on them; more than a few mean that there
            are too few frauds for an interval.
    """

    unit: Unit
    clusters: int
    with_fraud: int
    effective: float
    redrawn: int


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Intervals by metric name, and what they rest on."""

    intervals: dict[str, Interval]
    sample: Sample


@dataclass(frozen=True, slots=True)
class Contender:
    """A model in a comparison.

    Attributes:
        scores: Scores [n], float32 or float64 in [0, 1].
        threshold: The model's own: alert when score >= threshold; chosen on other rows.
    """

    scores: Array
    threshold: float


@dataclass(frozen=True, slots=True)
class Gain:
    """One metric of two models on the same rows.

    Attributes:
        candidate: The candidate's value.
        baseline: The baseline's value.
        interval: By how much the candidate is better. Positive is better, also for the Brier score, where less is.
        error: Standard error of that.
        freedom: Degrees of freedom of Student's t that go with it.
    """

    candidate: float
    baseline: float
    interval: Interval
    error: float = 0.0
    freedom: float = 1.0

    def lower_end(self, level: float) -> float:
        """Return the lower end of a two-sided interval of another level."""
        return self.interval.estimate - student(level, self.freedom) * self.error


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        gains: By metric name: those of COMPARED that the rows allow.
        sample: What the intervals rest on.
    """

    gains: dict[str, Gain]
    sample: Sample


def bootstrap(rows: Rows, *, scores: Array, threshold: float, design: Design) -> Bootstrap:
    """Estimate every metric that the rows allow, with its interval.

    Args:
        rows: The rows: labels, days, entities, amounts.
        scores: Scores [n], float32 or float64 in [0, 1].
        threshold: Alert when score >= threshold; chosen on other rows.
        design: Replicates, seed and level.

    Raises:
        EvaluationError: A metric is not defined on these rows, or an argument is invalid.
    """
    clusters, design = rows.clusters, design.within_budget(len(rows.y))
    scorer = Scorer(rows, clusters, scores, threshold)
    estimates, values, sample = _replicates(rows, clusters, design, scorer, scorer.defined)
    intervals = {
        name: design.interval(
            estimate,
            column,
            effective=sample.effective,
            scale=SCALES.get(name, "angle"),
            without_bias=name == "calibration_error",
        )
        for name, estimate, column in zip(scorer.names, estimates.tolist(), values.T, strict=True)
    }
    return Bootstrap(intervals, sample)


def compare(
    rows: Rows,
    *,
    candidate: Contender,
    baseline: Contender,
    design: Design,
    levels: Mapping[str, float] | None = None,
    wanted: Collection[str] = COMPARED,
) -> Comparison:
    """Estimate by how much the candidate is better than the baseline.

    Both are evaluated on the same resamples, so what they have in common cancels out; the intervals are much narrower
    than the two models' own suggest. A model has no gain over itself: estimate, low and high are exactly 0.

    Args:
        rows: The rows, which neither model has seen.
        candidate: The model in question.
        baseline: The model that it is compared with.
        design: Replicates, seed and level.
        levels: Another level of some metrics, by name.
        wanted: Their metrics; those that the rows do not allow are left out.

    Raises:
        EvaluationError: A metric is not defined on these rows, or an argument is invalid.
    """
    clusters, design = rows.clusters, design.within_budget(len(rows.y))
    new, old = (Scorer(rows, clusters, model.scores, model.threshold, wanted=wanted) for model in (candidate, baseline))
    names = [name for name in new.names if name in wanted]
    at = [new.names.index(name) for name in names]
    direction = np.array([-1.0 if name in LOWER_IS_BETTER else 1.0 for name in names])

    def difference(copies: FloatArray) -> FloatArray:
        return direction * (np.array(new(copies))[at] - np.array(old(copies))[at])

    estimates, values, sample = _replicates(rows, clusters, design, difference, new.defined)
    once = np.ones(clusters.count)
    gains = {}
    for number, name in enumerate(names):
        chosen = replace(design, level=(levels or {}).get(name, design.level))
        interval = chosen.interval(float(estimates[number]), values[:, number], effective=sample.effective)
        error = standard_error(values[:, number], sample.effective)
        gains[name] = Gain(new(once)[at[number]], old(once)[at[number]], interval, *error)
    return Comparison(gains, sample)


def _replicates(
    rows: Rows,
    clusters: Clusters,
    design: Design,
    statistic: Callable[[FloatArray], FloatArray | list[float]],
    defined: Callable[[FloatArray], bool],
) -> tuple[FloatArray, FloatArray, Sample]:
    """Return a statistic on the rows as they are [metrics] and on each resample [replicates, metrics]."""
    fraud, _ = checked_labels_and_scores(rows.y, np.zeros(len(rows.y)))
    estimates = np.array(statistic(np.ones(clusters.count)))
    values = np.empty((design.replicates, len(estimates)))
    redrawn = 0
    for replicate, (copies, tries) in enumerate(draws(clusters.count, design.replicates, design.seed, defined)):
        values[replicate] = statistic(copies)
        redrawn += tries - 1
    sample = Sample(clusters.unit, clusters.count, clusters.with_fraud(fraud), clusters.effective(fraud), redrawn)
    return estimates, values, sample
