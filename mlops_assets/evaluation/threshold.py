"""Choice of the alert threshold, on validation rows only.

What belongs here: rules that turn validation scores into one number, and that number with a record of how it was
chosen. What does not: how good the alerts are (`metrics`, `report`), and any look at the test rows: a threshold chosen
there would flatter every metric that uses it.

A threshold is always one of the scores it was chosen from, so that `score >= threshold` gives the same alerts
whether the scores are stored as float32 or float64, and after a trip through JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from mlops_assets.evaluation.metrics import (
    checked_budget,
    checked_days,
    checked_labels_and_scores,
    checked_scores,
    refuse,
)
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray

Rule = Literal["cost", "alert_budget"]

# No score reaches it. Not np.nextafter(1, 2): NumPy rounds that to 1.0 beside float32 scores, and a score of 1.0 would
# be alerted. Not infinity: JSON can't represent it.
ALERT_NOTHING = 2.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """An alert threshold and how it was chosen.

    Attributes:
        value: Alert when score >= value; in [0, 1], or ALERT_NOTHING.
        rule: What was optimised.
        setting: The rule's parameter: cost of one alert in the currency of the amounts, or alerts per day.
        alerts: Alerts among the rows it was chosen on.
        rows: Rows it was chosen on.
    """

    value: float
    rule: Rule
    setting: float
    alerts: int
    rows: int

    def __post_init__(self) -> None:
        if not (0 <= self.value <= 1 or self.value == ALERT_NOTHING):
            refuse(
                f"a threshold of {self.value}",
                where="threshold",
                fix=f"choose one in [0, 1], or {ALERT_NOTHING} to alert nothing",
            )
        if self.rule not in ("cost", "alert_budget"):
            refuse(f"an unknown rule {self.rule!r}", where="threshold", fix="use cost or alert_budget")

    @property
    def alerts_nothing(self) -> bool:
        """Whether no score can reach the threshold."""
        return self.value == ALERT_NOTHING

    @property
    def label(self) -> str:
        """The value as shown to people: three digits, or as many as distinguish it from 1."""
        return next((text for n in range(3, 18) if float(text := f"{self.value:.{n}g}") < 1), f"{self.value:g}")

    def alerted(self, scores: Array) -> BoolArray:
        """Return which rows are alerted [n]; compares as float64, so that no score is rounded."""
        return checked_scores(scores) >= self.value

    def to_json_dict(self) -> dict[str, Any]:
        """Return a JSON-safe document from which `from_json_dict` rebuilds this threshold exactly."""
        return asdict(self)

    @classmethod
    def from_json_dict(cls, document: dict[str, Any]) -> Self:
        """Rebuild a threshold; EvaluationError if the document is not one."""
        try:
            return cls(
                value=float(document["value"]),
                rule=document["rule"],
                setting=float(document["setting"]),
                alerts=int(document["alerts"]),
                rows=int(document["rows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            refuse(
                f"not a threshold: {error!r}", where="threshold document", fix="write it with Threshold.to_json_dict"
            )


@dataclass(frozen=True, slots=True)
class CostChoice:
    """The threshold of least cost, and the whole curve for the picture.

    Attributes:
        threshold: The choice.
        cost: Its cost on the rows it was chosen on, in the currency of the amounts.
        cost_of_no_alerts: Amount of all frauds: what doing nothing costs.
        thresholds: Distinct scores, falling [m] float64.
        costs: Cost of alerting from each of them up [m] float64.
    """

    threshold: Threshold
    cost: float
    cost_of_no_alerts: float
    thresholds: FloatArray
    costs: FloatArray


def by_cost(y_true: Array, scores: Array, amounts: Array, alert_cost: float) -> CostChoice:
    """Choose the threshold of least cost = amount of the missed frauds + alert_cost x alerts, in O(n log n).

    All distinct scores and alert-nothing are tried. Among equal costs the highest threshold wins: the same cost with
    fewer customers disturbed. A caught fraud is assumed to cost only its alert: the cost matrix of Correa Bahnsen et
    al., "Cost sensitive credit card fraud detection using Bayes minimum risk", ICMLA 2013.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        amounts: Amount at stake in each row [n], >= 0.
        alert_cost: Cost of checking one alert, in the same currency, >= 0.

    Raises:
        EvaluationError: Labels of one class only, or invalid input.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    amount = checked_amounts(amounts, len(fraud))
    cost = checked_alert_cost(alert_cost)
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last_of_tie = _last_of_ties(falling)
    at_stake = np.where(fraud, amount, 0.0)
    stopped = np.cumsum(at_stake[order])[last_of_tie]
    # The total is the end of the same running sum, so that catching everything leaves a loss of exactly 0.
    total = float(stopped[-1])
    costs = (total - stopped) + cost * (last_of_tie + 1)
    best = int(np.argmin(costs))  # the first, that is the highest threshold, among equals
    nothing_is_best = total <= costs[best]
    threshold = Threshold(
        value=ALERT_NOTHING if nothing_is_best else float(falling[last_of_tie[best]]),
        rule="cost",
        setting=cost,
        alerts=0 if nothing_is_best else int(last_of_tie[best]) + 1,
        rows=len(score),
    )
    return CostChoice(threshold, float(min(total, costs[best])), total, falling[last_of_tie], costs)


def by_alert_budget(scores: Array, days: Array, alerts_per_day: int) -> Threshold:
    """Choose the lowest threshold whose alerts fit into alerts_per_day x (number of days that have rows).

    The budget holds on average: a busy day may spend what a quiet one saved. It is never exceeded in total: tied scores
    are alerted together or not at all, so fewer alerts may result, and none (ALERT_NOTHING) when the tie at the very
    top is larger than the budget. Labels are not needed, so recent rows whose labels are still unknown will do.

    Args:
        scores: Scores [n], float32 or float64 in [0, 1].
        days: Day number of each row [n], any integer dtype.
        alerts_per_day: Alerts that can be checked in a day, at least 1.

    Raises:
        EvaluationError: The input is invalid.
    """
    score = checked_scores(scores)
    budget = checked_budget(alerts_per_day) * len(np.unique(checked_days(days, len(score))))
    falling = -np.sort(-score)
    alerts_at = _last_of_ties(falling) + 1
    affordable = int(np.searchsorted(alerts_at, budget, side="right"))
    alerts = int(alerts_at[affordable - 1]) if affordable else 0
    return Threshold(
        value=float(falling[alerts - 1]) if alerts else ALERT_NOTHING,
        rule="alert_budget",
        setting=float(alerts_per_day),
        alerts=alerts,
        rows=len(score),
    )


def checked_amounts(amounts: Array, rows: int) -> FloatArray:
    """Return amounts as float64 [n]; EvaluationError unless there is one finite amount >= 0 per row."""
    if amounts.shape != (rows,) or amounts.dtype.kind not in "iuf":
        refuse(
            f"amounts of shape {amounts.shape} and dtype {amounts.dtype} for {rows} rows",
            where="amounts",
            fix="pass one number per row",
        )
    if not np.all(np.isfinite(amounts) & (amounts >= 0)):
        refuse("amounts that are negative or not finite", where="amounts", fix="repair or quarantine those rows")
    return amounts.astype(np.float64)


def checked_alert_cost(alert_cost: float) -> float:
    """Return the cost of an alert; EvaluationError unless it is finite and at least 0."""
    if not (np.isfinite(alert_cost) and alert_cost >= 0):
        refuse(f"an alert cost of {alert_cost}", where="alert_cost", fix="pass a finite amount of money >= 0")
    return float(alert_cost)


def _last_of_ties(falling: FloatArray) -> Array:
    # Position of the last row of each run of equal scores [distinct scores].
    return np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
