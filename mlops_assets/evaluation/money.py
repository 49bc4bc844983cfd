"""Money: what alerts save, against alerting nothing and against alerting at random.

What belongs here: sums of money under row weights. What does not: choosing the threshold that saves most (`threshold`),
intervals (`bootstrap`).

A caught fraud saves its amount and every alert costs the same, as in `threshold.by_cost`. Alerts at random means as
many alerts on rows drawn at random: they catch the same share of the fraudulent money as of the rows, and cost as much,
so the alerts' cost cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlops_assets.evaluation.metrics import checked_labels_and_scores, checked_threshold, refuse
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray
from mlops_assets.evaluation.threshold import checked_alert_cost, checked_amounts


def money_saved(y_true: Array, scores: Array, amounts: Array, threshold: float, alert_cost: float) -> float:
    """Amounts of the caught frauds minus the cost of all alerts, in the currency of the amounts; may be negative.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        amounts: Amount at stake in each row [n], >= 0.
        threshold: Alert when score >= threshold; chosen on other rows.
        alert_cost: Cost of checking one alert, >= 0.

    Raises:
        EvaluationError: The input is invalid.
    """
    money, ones = _of(y_true, scores, amounts, threshold)
    return money.saved(ones, checked_alert_cost(alert_cost))


def money_saved_over_random(y_true: Array, scores: Array, amounts: Array, threshold: float) -> float:
    """Amounts of the caught frauds minus what as many alerts on random rows would catch; see `money_saved`."""
    money, ones = _of(y_true, scores, amounts, threshold)
    return money.saved_over_random(ones)


@dataclass(frozen=True, slots=True)
class Money:
    """What is at stake in each row.

    Attributes:
        alerts: Positions of the rows that are alerted [alerts].
        frauds: Positions of the frauds [frauds].
        at_stake: Amount of each fraud [frauds].
        alerted: Whether it is alerted [frauds] bool.
    """

    alerts: Array
    frauds: Array
    at_stake: FloatArray
    alerted: BoolArray

    @classmethod
    def of(cls, fraud: BoolArray, alerted: BoolArray, amounts: Array) -> Money:
        """Check the amounts [n] and keep those of the frauds.

        Raises:
            EvaluationError: Amounts that are invalid, or all 0.
        """
        frauds = np.flatnonzero(fraud)
        at_stake = checked_amounts(amounts, len(fraud))[frauds]
        if at_stake.sum() == 0:
            refuse("no fraud has an amount above 0", where="amounts", fix="pass the contract's amounts, or none")
        return cls(np.flatnonzero(alerted), frauds, at_stake, alerted[frauds])

    def total(self, weights: FloatArray) -> float:
        """Amounts of all frauds, under row weights [n]."""
        return float(weights[self.frauds] @ self.at_stake)

    def caught(self, weights: FloatArray) -> float:
        """Amounts of the alerted frauds."""
        return float(weights[self.frauds] @ (self.at_stake * self.alerted))

    def saved(self, weights: FloatArray, alert_cost: float) -> float:
        """What is saved against alerting nothing."""
        return self.caught(weights) - alert_cost * float(weights[self.alerts].sum())

    def saved_over_random(self, weights: FloatArray) -> float:
        """What is saved against as many alerts at random."""
        share = float(weights[self.alerts].sum()) / float(weights.sum())
        return self.caught(weights) - share * self.total(weights)


def _of(y_true: Array, scores: Array, amounts: Array, threshold: float) -> tuple[Money, FloatArray]:
    fraud, score = checked_labels_and_scores(y_true, scores)
    return Money.of(fraud, score >= checked_threshold(threshold), amounts), np.ones(len(fraud))
