"""The report of one model on one block of rows that nothing was tuned on.

What belongs here: putting the metrics, their intervals and the threshold together, and exporting the report (MLflow
metrics, JSON, Markdown). What does not: the metrics (`metrics`), intervals (`bootstrap`), pictures (`plots`), and any
decision based on the report.

Which metrics, and why several: average precision for the ranking where it matters, ROC AUC for comparison with the
literature, precision and recall on the daily budget for what investigators will see, the same on cards, and on cards
that nobody knows yet (Fraud Detection Handbook, chapter 4), kappa and F1 for the alerts of the chosen threshold, money
for what they are worth, log loss, Brier score and calibration error for the probabilities.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlops_assets.evaluation.bootstrap import LOWER_IS_BETTER, Sample, bootstrap
from mlops_assets.evaluation.intervals import Design, Interval
from mlops_assets.evaluation.ranking import Array, rows_of_budget
from mlops_assets.evaluation.scorer import AMOUNT_RECALL, CARDS, MONEY_SAVED, SAVED_OVER_RANDOM, UNKNOWN_CARDS, Rows
from mlops_assets.evaluation.threshold import Threshold

_LABELS = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision_at_budget": "precision on the daily budget",
    "recall_at_budget": "recall on the daily budget",
    "kappa": "Cohen's kappa at the threshold",
    "f1": "F1 at the threshold",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "calibration_error": "expected calibration error",
    AMOUNT_RECALL: "share of fraudulent money alerted",
    MONEY_SAVED: "money saved against no alerts",
    SAVED_OVER_RANDOM: "money saved against random alerts",
    CARDS[0]: "card precision on the daily budget",
    UNKNOWN_CARDS[0]: "average precision, unknown cards only",
    UNKNOWN_CARDS[1]: "card precision, unknown cards only",
}
_UNITS = {
    "entity": "entities",
    "day": "days",
    "row": "rows, for lack of days: too narrow if frauds come in series",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model performs on one block of rows.

    Attributes:
        rows: Number of rows.
        frauds: Number of frauds among them.
        fraud_rate: frauds / rows; also the average precision of a random score.
        days: Number of days that have rows.
        whole_days: Number of days that the metrics of the daily budget count; 0 if no whole day has a fraud, so that
            they count parts of days as days.
        alerts: Rows alerted by the threshold.
        alerts_per_day: Daily budget of the budget metrics.
        threshold: The alert threshold, chosen on other rows.
        metrics: Intervals by name: `scorer.METRICS`, those of money with amounts, those of cards with entities.
        sample: What the intervals rest on.
    """

    rows: int
    frauds: int
    fraud_rate: float
    days: int
    whole_days: int
    alerts: int
    alerts_per_day: int
    threshold: Threshold
    metrics: dict[str, Interval]
    sample: Sample

    def flat(self, prefix: str = "test") -> dict[str, float]:
        """Return plain numbers for MLflow: `test_average_precision`, `test_average_precision_low`, `..._high`, ..."""
        numbers = {
            f"{prefix}_rows": float(self.rows),
            f"{prefix}_frauds": float(self.frauds),
            f"{prefix}_fraud_rate": self.fraud_rate,
            f"{prefix}_alerts": float(self.alerts),
            f"{prefix}_threshold": self.threshold.value,
        }
        for name, interval in self.metrics.items():
            numbers[f"{prefix}_{name}"] = interval.estimate
            numbers[f"{prefix}_{name}_low"] = interval.low
            numbers[f"{prefix}_{name}_high"] = interval.high
        return numbers

    def to_json_dict(self) -> dict[str, Any]:
        """Return the whole report as a document that strict JSON can hold."""
        return asdict(self)

    def table_markdown(self) -> str:
        """Return a table of the metrics, headed by one line about the rows they were measured on.

        Dagster shows a text of 1,000 characters and more only on a click, so the table is terse.
        """
        intervals = list(self.metrics.values())
        level, replicates = intervals[0].level, intervals[0].replicates
        # A level such as 0.95 has no exact binary form; `:g` hides that 100 x 0.95 may not be 95 to the last digit.
        head = f"{100 * level:g} % interval"
        block = f"{self.rows:,} rows on {self.days:,} days, {self.frauds:,} frauds ({_percent(self.fraud_rate)})."
        lines = [
            f"{block} {self._threshold_text()} Daily budget: {self.alerts_per_day:,} alerts{self._days_of_budget()}.",
            "",
            f"| metric (↓ lower is better) | estimate | {head} |",
            "|:--|--:|:-:|",
        ]
        for name, interval in self.metrics.items():
            ends = f"{_number(interval.low)} to {_number(interval.high)}"
            lower = " ↓" if name in LOWER_IS_BETTER else ""
            lines.append(f"|{_LABELS[name]}{lower}|{_number(interval.estimate)}|{ends}|")
        sample = self.sample
        redrawn = f", {sample.redrawn:,} of them redrawn" if sample.redrawn else ""
        drawn = f"{_UNITS[sample.unit]} ({sample.with_fraud:,} of {sample.clusters:,} have a fraud)"
        foot = f"Intervals: bootstrap over {drawn}, {replicates:,} replicates{redrawn}, seed {intervals[0].seed}."
        lines += ["", foot]
        return "\n".join(lines) + "\n"

    def _days_of_budget(self) -> str:
        if self.whole_days == self.days:
            return ""
        if not self.whole_days:
            return ", also on parts of days: there is no whole day with a fraud"
        return f", on the {self.whole_days:,} whole days"

    def _threshold_text(self) -> str:
        reason = {
            "cost": f"least cost at {self.threshold.setting:g} per alert",
            "alert_budget": f"{self.threshold.setting:g} alerts a day",
        }[self.threshold.rule]
        if self.threshold.alerts_nothing:
            return f"Threshold: alert nothing ({reason} on validation)."
        return f"Threshold: {self.threshold.label} ({reason} on validation), which alerts {self.alerts:,} rows here."


def evaluate(rows: Rows, *, scores: Array, threshold: Threshold, design: Design) -> Evaluation:
    """Evaluate scores on rows that neither the model nor the threshold has seen.

    Args:
        rows: Labels, days, entities and amounts of the rows, the daily budget and the cost of an alert.
        scores: Scores [n], float32 or float64 probabilities of fraud.
        threshold: Chosen on validation rows (`threshold.by_cost`, `threshold.by_alert_budget`).
        design: Replicates and seed; 500 replicates cost about two seconds for 60,000 rows.

    Raises:
        EvaluationError: A metric is not defined on these rows, or an argument is invalid.
    """
    result = bootstrap(rows, scores=scores, threshold=threshold.value, design=design)
    counted = rows_of_budget(rows.y == 1, rows.on_whole_day)
    only_parts = rows.on_whole_day is not None and not np.array_equal(counted, rows.on_whole_day)
    frauds = int(np.count_nonzero(rows.y))
    return Evaluation(
        rows=len(rows.y),
        frauds=frauds,
        fraud_rate=frauds / len(rows.y),
        days=len(np.unique(rows.days)),
        whole_days=0 if only_parts else len(np.unique(rows.days[counted])),
        alerts=int(np.count_nonzero(threshold.alerted(scores))),
        alerts_per_day=rows.alerts_per_day,
        threshold=threshold,
        metrics=result.intervals,
        sample=result.sample,
    )


def _number(value: float) -> str:
    # Three decimals, but three significant digits for small values, such as the losses on rare frauds, and none for
    # sums of money.
    if abs(value) >= 100:  # noqa: PLR2004 - where the forms meet, here and below
        return f"{value:,.0f}"
    return f"{value:#.3g}" if 0 < abs(value) < 0.1 else f"{value:.3f}"  # noqa: PLR2004


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
