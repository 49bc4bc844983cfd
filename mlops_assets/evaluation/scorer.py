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
    ) -> None:
        fraud, score = checked_labels_and_scores(rows.y, scores)
        days = checked_days(rows.days, len(fraud))
        self._codes = clusters.codes
        self._k = checked_budget(rows.alerts_per_day)
        self._ranked = RankedScores(fraud, score)
        alerted = score >= checked_threshold(threshold)
        self._fraud = fraud.astype(np.float64)
        # One matrix product gives the sums over all rows that need no order.
        self._at_threshold = np.stack([alerted & fraud, alerted]).astype(np.float64)
        self._losses = np.stack([row_log_loss(fraud, score, scores.dtype), (score - fraud) ** 2])
        counted = rows_of_budget(fraud, rows.on_whole_day)
        blocks: list[tuple[tuple[str, ...], _Block]] = [
            (METRICS[:2], self._ranking),
            (METRICS[2:4], self._at_budget(counted, fraud, score, days, clusters)),
            (METRICS[4:6], self._alerts),
            (METRICS[6:8], lambda _, weights: (self._losses @ weights / weights.sum()).tolist()),
            (METRICS[8:], _calibration(CalibrationBins.of(fraud, score))),
        ]
        at_stake = np.ones(clusters.count)
        if rows.amounts is not None:
            money = Money.of(fraud, alerted, rows.amounts)
            blocks.append((MONEY, _money(money, checked_alert_cost(rows.alert_cost))))
            of_fraud = self._codes[money.frauds]
            at_stake = np.bincount(of_fraud, money.at_stake, clusters.count).astype(np.float64)
        if rows.entities is not None:
            cards = DailyCards(fraud[counted], score[counted], days[counted], self._codes[counted])
            blocks.append((CARDS, lambda copies, _: [cards.at_budget(self._k, copies)]))
            if rows.past is not None:
                unknown = unknown_rows(fraud, days, rows.entities, rows.past)
                if (fraud & unknown & counted).any() and (unknown & ~fraud).any():
                    blocks.append((UNKNOWN_CARDS, self._unknown_cards(unknown, counted, fraud, score, days)))
        blocks = [block for block in blocks if wanted is None or not set(wanted).isdisjoint(block[0])]
        self._blocks = [compute for _, compute in blocks]
        self.names = tuple(name for names, _ in blocks for name in names)
        # Per cluster: frauds, those that the budget counts, rows, and what is at stake.
        self._sums = np.stack(
            [
                np.bincount(self._codes[fraud], minlength=clusters.count),
                np.bincount(self._codes[fraud & counted], minlength=clusters.count),
                np.bincount(self._codes, minlength=clusters.count),
                at_stake,
            ]
        )

    def defined(self, copies: FloatArray) -> bool:
        """Return whether all metrics are defined, except those on unknown cards; `copies` [clusters]."""
        frauds, counted, rows, at_stake = (self._sums @ copies).tolist()
        return bool(0 < frauds < rows and counted > 0 and at_stake > 0)

    def __call__(self, copies: FloatArray) -> list[float]:
        """Return the metrics named by `names`; those on unknown cards are NaN if none with a fraud is taken."""
        weights = copies[self._codes]
        return [value for compute in self._blocks for value in compute(copies, weights)]

    def _ranking(self, _: FloatArray, weights: FloatArray) -> list[float]:
        ranking = self._ranked.weighted(weights)
        return [ranking.average_precision(), ranking.roc_auc()]

    def _alerts(self, _: FloatArray, weights: FloatArray) -> list[float]:
        caught, alerts = (self._at_threshold @ weights).tolist()
        frauds = float(self._fraud @ weights)
        counts = Confusion(caught, alerts, frauds, float(weights.sum()) - frauds)
        return [counts.kappa(), counts.f1()]

    def _at_budget(
        self, counted: BoolArray, fraud: BoolArray, score: FloatArray, days: Array, clusters: Clusters
    ) -> _Block:
        daily = DailyRanking(fraud[counted], score[counted], days[counted])
        rows = np.flatnonzero(counted)
        if clusters.unit != "day":
            return lambda _, weights: daily.at_budget(self._k, weights[rows])
        # Whole days are drawn: their own figures never change, only how often each counts.
        whole_days, cluster_of_day = daily.by_day(self._k, np.ones(len(rows))), self._codes[rows[daily.first_rows]]
        return lambda copies, _: whole_days.figures(copies[cluster_of_day])

    def _unknown_cards(
        self, unknown: BoolArray, counted: BoolArray, fraud: BoolArray, score: FloatArray, days: Array
    ) -> _Block:
        rows, frauds = np.flatnonzero(unknown), fraud[unknown]
        ranked = RankedScores(frauds, score[rows])
        at = unknown & counted
        cards = DailyCards(fraud[at], score[at], days[at], self._codes[at])

        def compute(copies: FloatArray, weights: FloatArray) -> list[float]:
            here = weights[rows]
            if here[frauds].sum() == 0:
                return [np.nan, np.nan]
            return [ranked.weighted(here).average_precision(), cards.at_budget(self._k, copies)]

        return compute


def _calibration(bins: CalibrationBins) -> _Block:
    return lambda _, weights: [bins.error(weights)]


def _money(money: Money, alert_cost: float) -> _Block:
    return lambda _, weights: [
        money.caught(weights) / money.total(weights),
        money.saved(weights, alert_cost),
        money.saved_over_random(weights),
    ]
