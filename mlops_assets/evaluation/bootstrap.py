"""Clustered bootstrap of all metrics of one model, and of the differences between two models on the same rows.

What belongs here: running the replicates and naming the intervals. What does not: which rows are drawn together
(`clusters`), the interval's form (`intervals`), the metrics under a draw (`scorer`).

Clusters are drawn with replacement (Efron and Tibshirani 1993, chapter 13; clusters: Davison and Hinkley 1997, section
3.8), as counts that serve as integer row weights. The scores are sorted once, and a replicate costs a draw and a few
cumulative sums; only one replicate's arrays are in memory at a time. Of more rows than `bags.ROWS_WITHOUT_BAGS`,
estimates are still those on all rows, of one model after the other, but replicates are drawn from a part of the
clusters (`bags`). Where clusters are too few for that, there are fewer replicates (`Design.within_budget`).

Resampling is biased where a metric is not smooth: a day's share of caught frauds falls when frauds are drawn twice.
Intervals therefore lie about the estimate and take only their width from the replicates. The calibration error is
the exception: scatter alone makes it too high, on the rows as on each resample, so that bias is taken out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mlops_assets.evaluation.bags import BAGS, bags, draws_from_bag, share_of_bag
from mlops_assets.evaluation.clusters import Clusters, Unit, draws
from mlops_assets.evaluation.intervals import Design, Interval, Scale, standard_error, student
from mlops_assets.evaluation.metrics import checked_labels_and_scores
from mlops_assets.evaluation.ranking import Array, FloatArray
from mlops_assets.evaluation.scorer import MONEY_SAVED, SAVED_OVER_RANDOM, Rows, Scorer
from mlops_assets.evaluation.support import Support

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
    drawn = _drawn(rows, [Contender(scores, threshold)], design)
    intervals = {
        name: drawn.design.interval(
            float(drawn.estimates[0, number]),
            drawn.values[:, 0, number],
            effective=drawn.sample.effective,
            scale=SCALES.get(name, "angle"),
            without_bias=name == "calibration_error",
            about=None if drawn.about is None else drawn.about[:, 0, number],
        )
        for number, name in enumerate(drawn.names)
    }
    return Bootstrap(intervals, drawn.sample)


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
    drawn = _drawn(rows, [candidate, baseline], design, wanted)
    gains = {}
    for number, name in enumerate(drawn.names):
        if name not in wanted:
            continue
        direction = -1.0 if name in LOWER_IS_BETTER else 1.0
        new, old = drawn.estimates[:, number].tolist()
        estimate = direction * (new - old)
        values = direction * (drawn.values[:, 0, number] - drawn.values[:, 1, number])
        if drawn.about is not None:
            values += estimate - direction * (drawn.about[:, 0, number] - drawn.about[:, 1, number])
        chosen = replace(drawn.design, level=(levels or {}).get(name, design.level))
        interval = chosen.interval(estimate, values, effective=drawn.sample.effective)
        gains[name] = Gain(new, old, interval, *standard_error(values, drawn.sample.effective))
    return Comparison(gains, drawn.sample)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Metrics of one or two models, and their replicates.

    Attributes:
        names: Of the metrics.
        estimates: On all rows [models, metrics].
        values: On each resample [replicates, models, metrics].
        about: On the bag that each resample was drawn from, as `values`; None: resamples were drawn from all rows.
        design: With the number of resamples that were drawn.
        sample: What was drawn.
    """

    names: tuple[str, ...]
    estimates: FloatArray
    values: FloatArray
    about: FloatArray | None
    design: Design
    sample: Sample


def _drawn(rows: Rows, models: Sequence[Contender], design: Design, wanted: Collection[str] | None = None) -> _Drawn:
    clusters = rows.clusters
    fraud, _ = checked_labels_and_scores(rows.y, np.zeros(len(rows.y)))
    support = Support.of(rows, clusters, fraud)
    sample = Sample(clusters.unit, clusters.count, clusters.with_fraud(fraud), clusters.effective(fraud), 0)
    share = share_of_bag(len(rows.y), support.effective, rows.alerts_per_day)
    design = design.within_budget(round(share * len(rows.y)))
    if share < 1:
        return _from_bags(rows, clusters, support, models, design, wanted, share, sample)
    scorers = [Scorer(rows, clusters, model.scores, model.threshold, wanted) for model in models]
    estimates = _figures(scorers, np.ones(clusters.count))
    values, redrawn = _replicates(scorers, draws(clusters.count, design.replicates, design.seed, support.defined))
    return _Drawn(scorers[0].names, estimates, values, None, design, replace(sample, redrawn=redrawn))


def _from_bags(
    rows: Rows,
    clusters: Clusters,
    support: Support,
    models: Sequence[Contender],
    design: Design,
    wanted: Collection[str] | None,
    share: float,
    sample: Sample,
) -> _Drawn:
    names: tuple[str, ...] = ()
    estimates, bins = [], []
    for model in models:  # one scorer of all rows at a time
        scorer = Scorer(rows, clusters, model.scores, model.threshold, wanted)
        names = scorer.names
        estimates.append(scorer(np.ones(clusters.count)))
        bins.append(scorer.bins)
        del scorer
    values, about, redrawn = [], [], 0
    replicates = [len(part) for part in np.array_split(np.arange(design.replicates), BAGS)]
    for number, (bag, tries) in enumerate(bags(clusters.count, share, design.seed, support.all_defined)):
        inside = bag > 0
        kept, held = inside[clusters.codes], clusters.part(inside)
        part = rows.where(kept)
        scorers = [
            Scorer(part, held, model.scores[kept], model.threshold, wanted, of_all and of_all.part(kept))
            for model, of_all in zip(models, bins, strict=True)
        ]
        resamples = draws_from_bag(
            held.count, clusters.count, replicates[number], (design.seed, number), support.part(inside).defined
        )
        found, again = _replicates(scorers, resamples)
        values.append(found)
        about.append(np.broadcast_to(_figures(scorers, np.full(held.count, clusters.count / held.count)), found.shape))
        redrawn += again + tries - 1
    return _Drawn(
        names,
        np.array(estimates),
        np.concatenate(values),
        np.concatenate(about),
        design,
        replace(sample, redrawn=redrawn),
    )


def _figures(scorers: Sequence[Scorer], copies: FloatArray) -> FloatArray:
    return np.array([scorer(copies) for scorer in scorers])


def _replicates(scorers: Sequence[Scorer], resamples: Iterable[tuple[FloatArray, int]]) -> tuple[FloatArray, int]:
    """Return the metrics on each resample [replicates, models, metrics], and how many draws were repeated."""
    values, tries = zip(*((_figures(scorers, copies), tries) for copies, tries in resamples), strict=True)
    return np.array(values), sum(tries) - len(tries)
