"""All metrics of a report as one function of how often each cluster of rows is taken.

What belongs here: evaluating one model under the draws of a bootstrap; everything that does not depend on the draw is
computed once. What does not: draws (`clusters`), intervals (`intervals`, `bootstrap`), the metrics' definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mlops_assets.evaluation.calibration import CalibrationBins
from mlops_assets.evaluation.cards import DailyCards, PastFrauds, unknown_rows
from mlops_assets.evaluation.clusters import Clusters
from mlops_assets.evaluation.metrics import (
    Confusion,
    checked_budget,
    checked_days,
    checked_labels_and_scores,
    checked_threshold,
    row_log_loss,
)
from mlops_assets.evaluation.money import Money
from mlops_assets.evaluation.ranking import Array, BoolArray, DailyRanking, FloatArray, RankedScores, rows_of_budget
from mlops_assets.evaluation.threshold import checked_alert_cost

METRICS: Final = (
    "average_precision",
    "roc_auc",
    "precision_at_budget",
    "recall_at_budget",
    "kappa",
    "f1",
    "log_loss",
    "brier",
    "calibration_error",
)
AMOUNT_RECALL, MONEY_SAVED, SAVED_OVER_RANDOM = "amount_recall", "money_saved", "money_saved_over_random"
MONEY: Final = (AMOUNT_RECALL, MONEY_SAVED, SAVED_OVER_RANDOM)
CARDS: Final = ("card_precision_at_budget",)
UNKNOWN_CARDS: Final = ("unknown_card_average_precision", "unknown_card_precision_at_budget")


# Some metrics from the copies of each cluster [clusters] and of each row [n].
_Block = Callable[[FloatArray, FloatArray], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that models are evaluated on, and what evaluating them takes.

    Attributes:
        y: Labels [n], 0 or 1.
        days: Day number of each row [n], integer.
        alerts_per_day: Daily budget of the budget metrics.
        on_whole_day: Whether the rows hold the whole day of a row [n] bool, for the budget metrics; None: of all rows.
        entities: Card of each row [n], or None if the data have no entity.
        past: Frauds from before, for the metrics on unknown cards; None leaves them out.
        amounts: Amount of each row [n], or None if the data have no amounts.
        alert_cost: Cost of checking one alert, in the currency of the amounts.
    """

    y: Array
    days: Array
    alerts_per_day: int
    on_whole_day: BoolArray | None = None
    entities: Array | None = None
    past: PastFrauds | None = None
    amounts: Array | None = None
    alert_cost: float = 0.0

    @property
    def clusters(self) -> Clusters:
        """The rows that are resampled together."""
        return Clusters.of(checked_days(self.days, len(self.y)), self.entities)

    def where(self, kept: BoolArray) -> Rows:
        """Return the rows at which `kept` [n] is true."""

        def taken(values: Array | None) -> Any:
            return None if values is None else values[kept]

        return replace(
            self,
            y=self.y[kept],
            days=self.days[kept],
            on_whole_day=taken(self.on_whole_day),
            entities=taken(self.entities),
            amounts=taken(self.amounts),
        )


class Scorer:
    """Metrics of one model as a function of the copies of each cluster.

    Args:
        rows: The rows.
        clusters: Their clusters.
        scores: Scores [n], float32 or float64 in [0, 1].
        threshold: Alert when score >= threshold; chosen on other rows.
        wanted: Metrics that are needed; None for all that the rows allow. Some others may come with them.
        bins: Of the calibration error, if these rows are a part of others; None: from the scores.

    Raises:
        EvaluationError: A metric is not defined on these rows, or the input is invalid.
    """

    def __init__(
        self,
        rows: Rows,
        clusters: Clusters,
        scores: Array,
        threshold: float,
        wanted: Collection[str] | None = None,
        bins: CalibrationBins | None = None,
    ) -> None:
        fraud, score = checked_labels_and_scores(rows.y, scores)
        days, k = checked_days(rows.days, len(fraud)), checked_budget(rows.alerts_per_day)
        alerted = score >= checked_threshold(threshold)
        counted = rows_of_budget(fraud, rows.on_whole_day)
        here = _Scored(fraud, score, days, counted, clusters, k)
        self._codes = clusters.codes
        self.bins = bins
        # What is not wanted is not made: a block holds up to 24 bytes a row.
        blocks: list[tuple[tuple[str, ...], Callable[[], _Block]]] = [
            (METRICS[:2], lambda: _ranking(here)),
            (METRICS[2:4], lambda: _at_budget(here)),
            (METRICS[4:6], lambda: _alerts(fraud, alerted)),
            (METRICS[6:8], lambda: _losses(row_log_loss(fraud, score, scores.dtype), (score - fraud) ** 2)),
            (METRICS[8:], lambda: self._calibration(fraud, score)),
        ]
        if rows.amounts is not None:
            money, alert_cost = Money.of(fraud, alerted, rows.amounts), checked_alert_cost(rows.alert_cost)
            blocks.append((MONEY, lambda: _money(money, alert_cost)))
        if rows.entities is not None:
            blocks.append((CARDS, lambda: _cards(here)))
            if rows.past is not None and _is_wanted(UNKNOWN_CARDS, wanted):
                unknown = unknown_rows(fraud, days, rows.entities, rows.past)
                if (fraud & unknown & counted).any() and (unknown & ~fraud).any():
                    blocks.append((UNKNOWN_CARDS, lambda: _unknown_cards(here, unknown)))
        blocks = [block for block in blocks if _is_wanted(block[0], wanted)]
        self._blocks = [made() for _, made in blocks]
        self.names = tuple(name for names, _ in blocks for name in names)

    def __call__(self, copies: FloatArray) -> list[float]:
        """Return the metrics named by `names`; those on unknown cards are NaN if none with a fraud is taken."""
        weights = copies[self._codes]
        return [value for compute in self._blocks for value in compute(copies, weights)]

    def _calibration(self, fraud: BoolArray, score: FloatArray) -> _Block:
        bins = self.bins = self.bins or CalibrationBins.of(fraud, score)
        return lambda _, weights: [bins.error(weights)]


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the metrics are computed from; `counted` are the rows of the daily budget `k`."""

    fraud: BoolArray
    score: FloatArray
    days: Array
    counted: BoolArray
    clusters: Clusters
    k: int

    def cards(self, at: BoolArray) -> DailyCards:
        """Return the cards of some rows [n]."""
        return DailyCards(self.fraud[at], self.score[at], self.days[at], self.clusters.codes[at])


def _is_wanted(names: Collection[str], wanted: Collection[str] | None) -> bool:
    return wanted is None or not set(wanted).isdisjoint(names)


# No block may hold the scorer: a cycle would keep it in memory until the garbage collector comes by.
def _ranking(here: _Scored) -> _Block:
    ranked = RankedScores(here.fraud, here.score)

    def compute(_: FloatArray, weights: FloatArray) -> list[float]:
        ranking = ranked.weighted(weights)
        return [ranking.average_precision(), ranking.roc_auc()]

    return compute


def _at_budget(here: _Scored) -> _Block:
    counted, k = here.counted, here.k
    daily = DailyRanking(here.fraud[counted], here.score[counted], here.days[counted])
    if here.clusters.unit != "day":
        if counted.all():
            return lambda _, weights: daily.at_budget(k, weights)
        return lambda _, weights: daily.at_budget(k, weights[counted])
    # Whole days are drawn: their own figures never change, only how often each counts.
    rows = np.flatnonzero(counted)
    whole_days, cluster_of_day = daily.by_day(k, np.ones(len(rows))), here.clusters.codes[rows[daily.first_rows]]
    return lambda copies, _: whole_days.figures(copies[cluster_of_day])


def _alerts(fraud: BoolArray, alerted: BoolArray) -> _Block:
    at = [np.flatnonzero(rows) for rows in (alerted & fraud, alerted, fraud)]

    def compute(_: FloatArray, weights: FloatArray) -> list[float]:
        caught, alerts, frauds = (float(weights[rows].sum()) for rows in at)
        counts = Confusion(caught, alerts, frauds, float(weights.sum()) - frauds)
        return [counts.kappa(), counts.f1()]

    return compute


def _losses(*of_rows: FloatArray) -> _Block:
    losses = np.stack(of_rows)
    return lambda _, weights: (losses @ weights / weights.sum()).tolist()


def _cards(here: _Scored) -> _Block:
    cards, k = here.cards(here.counted), here.k
    return lambda copies, _: [cards.at_budget(k, copies)]


def _unknown_cards(here: _Scored, unknown: BoolArray) -> _Block:
    rows, frauds, k = np.flatnonzero(unknown), here.fraud[unknown], here.k
    ranked, cards = RankedScores(frauds, here.score[rows]), here.cards(unknown & here.counted)

    def compute(copies: FloatArray, weights: FloatArray) -> list[float]:
        drawn = weights[rows]
        if drawn[frauds].sum() == 0:
            return [np.nan, np.nan]
        return [ranked.weighted(drawn).average_precision(), cards.at_budget(k, copies)]

    return compute


def _money(money: Money, alert_cost: float) -> _Block:
    return lambda _, weights: [
        money.caught(weights) / money.total(weights),
        money.saved(weights, alert_cost),
        money.saved_over_random(weights),
    ]
