"""What each threshold would have done on rows that the model was not fitted on: alerts, frauds and money caught.

What belongs here: the table of thresholds, and choosing another one from it later. What does not: the first choice,
which has the rows themselves (`threshold`), who may change it (`registry/policies`).

The table holds sums only, so it can be kept with a model where rows of customers can't. The highest scores each have a
place of their own, as alerts are few; further down places lie 1 % apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np

from mlops_assets.evaluation.metrics import checked_budget, checked_labels_and_scores, refuse
from mlops_assets.evaluation.ranking import Array, BoolArray, rows_of_budget
from mlops_assets.evaluation.threshold import ALERT_NOTHING, Rule, Threshold, checked_alert_cost

_EXACT: Final = 1_000
_STEP: Final = 1.01


@dataclass(frozen=True)
class OperatingPoints:
    """Thresholds and what they do, from the highest threshold to the lowest.

    Attributes:
        rows: Rows they were measured on.
        frauds: Frauds among them.
        money: Sum of the frauds' amounts; None without amounts.
        budget_days: Days that an alert budget is counted on, which are whole.
        thresholds: Alert when score >= threshold.
        alerts: Alerts among all rows.
        budget_alerts: Alerts on the days of the budget.
        caught: Frauds among the alerts.
        money_caught: Sum of their amounts; empty without amounts.
    """

    rows: int
    frauds: int
    money: float | None
    budget_days: int
    thresholds: list[float]
    alerts: list[int]
    budget_alerts: list[int]
    caught: list[int]
    money_caught: list[float]

    @classmethod
    def of(
        cls, y_true: Array, scores: Array, days: Array, amounts: Array | None, on_whole_day: BoolArray | None
    ) -> Self:
        """Measure them.

        Args:
            y_true: Labels [n], 0 or 1.
            scores: Scores [n], float32 or float64 in [0, 1].
            days: Day number of each row [n].
            amounts: Amount of each row [n], >= 0, or None.
            on_whole_day: Whether the rows hold the whole day of a row [n]; None: of all rows.
        """
        fraud, score = checked_labels_and_scores(y_true, scores)
        counted = rows_of_budget(fraud, on_whole_day)
        order = np.argsort(-score, kind="stable")
        falling = score[order]
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        at = last[_places(len(last))]

        def sums(values: Array) -> Array:
            return np.cumsum(values[order])[at]

        money = None if amounts is None else np.where(fraud, amounts, 0.0)
        return cls(
            rows=len(score),
            frauds=int(fraud.sum()),
            money=None if money is None else float(money.sum()),
            budget_days=len(np.unique(days[counted])),
            thresholds=falling[at].tolist(),
            alerts=(at + 1).tolist(),
            budget_alerts=sums(counted.astype(np.int64)).tolist(),
            caught=sums(fraud.astype(np.int64)).tolist(),
            money_caught=[] if money is None else sums(money).tolist(),
        )

    def by_cost(self, alert_cost: float) -> Threshold:
        """Return the threshold of least cost, as `threshold.by_cost` does.

        Raises:
            EvaluationError: There are no amounts, or the cost is not a number >= 0.
        """
        cost = checked_alert_cost(alert_cost)
        if self.money is None:
            refuse("a threshold by cost needs amounts", where="policy", fix="choose the rule alert_budget")
        losses = self.money - np.array(self.money_caught) + cost * np.array(self.alerts)
        best = int(np.argmin(losses))
        return self._threshold(None if self.money <= losses[best] else best, "cost", cost)

    def by_alert_budget(self, alerts_per_day: int) -> Threshold:
        """Return the lowest threshold whose alerts fit into the budget, as `threshold.by_alert_budget` does.

        Raises:
            EvaluationError: The budget is below 1.
        """
        budget = checked_budget(alerts_per_day) * self.budget_days
        affordable = int(np.searchsorted(self.budget_alerts, budget, side="right"))
        return self._threshold(affordable - 1 if affordable else None, "alert_budget", float(alerts_per_day))

    def at(self, threshold: float) -> tuple[int, int, float | None]:
        """Return alerts, frauds caught and money caught from a threshold on."""
        place = int(np.searchsorted(-np.array(self.thresholds), -threshold, side="right"))
        if not place:
            return 0, 0, None if self.money is None else 0.0
        money = None if self.money is None else self.money_caught[place - 1]
        return self.alerts[place - 1], self.caught[place - 1], money

    def to_json_dict(self) -> dict[str, Any]:
        """Return a document from which `from_json_dict` rebuilds the table exactly."""
        return asdict(self)

    @classmethod
    def from_json_dict(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild the table; EvaluationError if the document is not one."""
        try:
            found = cls(**document)
            lengths = {len(getattr(found, name)) for name in ("thresholds", "alerts", "budget_alerts", "caught")}
        except TypeError as error:
            refuse(
                f"not a table of thresholds: {error}", where="operating points", fix="materialize `tuned_model` again"
            )
        if len(lengths) != 1 or len(found.money_caught) not in (0, *lengths):
            refuse("a table of thresholds with gaps", where="operating points", fix="materialize `tuned_model` again")
        return found

    def _threshold(self, place: int | None, rule: Rule, setting: float) -> Threshold:
        value = ALERT_NOTHING if place is None else self.thresholds[place]
        return Threshold(value, rule, setting, 0 if place is None else self.alerts[place], self.rows)


def budget_table(points: OperatingPoints, budgets: Sequence[int], present: int) -> str:
    """Return a Markdown table of what other alert budgets would do.

    Args:
        points: What each threshold did.
        budgets: Alerts per day.
        present: The budget of now, which is added and marked.
    """
    names = ["alerts a day", "score from", "alerts", "frauds caught", "of the frauds", "precision"]
    names += [] if points.money is None else ["money caught"]
    lines = [f"| {' | '.join(names)} |", "|--:" * len(names) + "|"]
    for budget in sorted({*budgets, present}):
        threshold = points.by_alert_budget(budget)
        alerts, caught, amount = points.at(threshold.value)
        cells = [
            f"{budget:,}{' (now)' if budget == present else ''}",
            threshold.label,
            f"{alerts:,}",
            f"{caught:,}",
            f"{100 * caught / points.frauds:.1f} %",
            f"{100 * caught / alerts if alerts else 0:.1f} %",
            *([] if amount is None else [f"{amount:,.0f}"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if alerts == points.rows:
            break  # a larger budget alerts no more
    return "\n".join(lines)


def _places(distinct: int) -> Array:
    """Return which of the distinct scores are kept, by their rank from 0: the first ones, the last, and 1 % apart."""
    steps = [*range(min(distinct, _EXACT))]
    at = float(_EXACT)
    while at < distinct:
        steps.append(int(at))
        at *= _STEP
    return np.unique([*steps, distinct - 1])
