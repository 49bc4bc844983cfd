"""The report of one model on one block of rows that nothing was tuned on.

What belongs here: putting the metrics, their intervals and the threshold together, and exporting the report (MLflow
metrics, JSON, Markdown). What does not: the metrics (`metrics`), intervals (`bootstrap`), pictures (`plots`), and any
decision based on the report.

Which metrics, and why several: average precision for the ranking where it matters, ROC AUC for comparison with the
literature, precision and recall on the daily budget for what investigators will see, kappa and F1 for the alerts of
the chosen threshold, log loss and Brier score for the probabilities (Fraud Detection Handbook, chapter 4).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlops_assets.evaluation.bootstrap import AMOUNT_RECALL, Interval, bootstrap
from mlops_assets.evaluation.ranking import Array, rows_of_budget
from mlops_assets.evaluation.threshold import Threshold

# Name in a report, and whether higher is better.
_LABELS = {
    "average_precision": ("average precision", True),
    "roc_auc": ("ROC AUC", True),
    "precision_at_budget": ("precision on the daily budget", True),
    "recall_at_budget": ("recall on the daily budget", True),
    "kappa": ("Cohen's kappa at the threshold", True),
    "f1": ("F1 at the threshold", True),
    "log_loss": ("log loss (nats)", False),
    "brier": ("Brier score", False),
    AMOUNT_RECALL: ("share of fraudulent money alerted", True),
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
        metrics: Intervals by name: `bootstrap.METRICS`, and `amount_recall` where amounts were given.
        redrawn: Resamples that were drawn again because a metric was undefined on them; more than a few mean that the
            block has too few frauds for an interval.
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
    redrawn: int

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
        """Return a table of the metrics, headed by one line about the rows they were measured on."""
        intervals = list(self.metrics.values())
        level, replicates = intervals[0].level, intervals[0].replicates
        # A level such as 0.95 has no exact binary form; `:g` hides that 100 x 0.95 may not be 95 to the last digit.
        head = f"{100 * level:g} % interval"
        block = f"{self.rows:,} rows on {self.days:,} days, {self.frauds:,} frauds ({_percent(self.fraud_rate)})."
        lines = [
            f"{block} {self._threshold_text()} Daily budget: {self.alerts_per_day:,} alerts{self._days_of_budget()}.",
            "",
            f"| metric | estimate | {head} | better |",
            "|:--|--:|:-:|:-:|",
        ]
        for name, interval in self.metrics.items():
            label, more_is_better = _LABELS[name]
            ends = f"{_number(interval.low)} to {_number(interval.high)}"
            lines.append(
                f"| {label} | {_number(interval.estimate)} | {ends} | {'higher' if more_is_better else 'lower'} |"
            )
        redrawn = f", {self.redrawn:,} of them redrawn" if self.redrawn else ""
        lines += ["", f"Intervals: bootstrap over rows, {replicates:,} replicates{redrawn}, seed {intervals[0].seed}."]
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


def evaluate(
    *,
    y: Array,
    scores: Array,
    days: Array,
    on_whole_day: Array | None = None,
    amounts: Array | None,
    threshold: Threshold,
    alerts_per_day: int,
    replicates: int,
    seed: int,
) -> Evaluation:
    """Evaluate scores on rows that neither the model nor the threshold has seen.

    Args:
        y: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 probabilities of fraud.
        days: Day number of each row [n], integer.
        on_whole_day: Whether the rows hold the whole day of a row [n] bool; None: of all rows.
        amounts: Amount at stake in each row [n], or None if the data have no amounts.
        threshold: Chosen on validation rows (`threshold.by_cost`, `threshold.by_alert_budget`).
        alerts_per_day: Alerts that can be checked in a day.
        replicates: Bootstrap replicates; 500 cost about a second for 60,000 rows.
        seed: Seed of the bootstrap.

    Raises:
        EvaluationError: A metric is not defined on these rows, or an argument is invalid.
    """
    result = bootstrap(
        y_true=y,
        scores=scores,
        days=days,
        threshold=threshold.value,
        alerts_per_day=alerts_per_day,
        replicates=replicates,
        seed=seed,
        amounts=amounts,
        on_whole_day=on_whole_day,
    )
    counted = rows_of_budget(y == 1, on_whole_day)
    only_parts = on_whole_day is not None and not np.array_equal(counted, on_whole_day)
    frauds = int(np.count_nonzero(y))
    return Evaluation(
        rows=len(y),
        frauds=frauds,
        fraud_rate=frauds / len(y),
        days=len(np.unique(days)),
        whole_days=0 if only_parts else len(np.unique(days[counted])),
        alerts=int(np.count_nonzero(threshold.alerted(scores))),
        alerts_per_day=alerts_per_day,
        threshold=threshold,
        metrics=result.intervals,
        redrawn=result.redrawn,
    )


def _number(value: float) -> str:
    # Three decimals, but three significant digits for small values, such as the losses on rare frauds.
    return f"{value:#.3g}" if 0 < abs(value) < 0.1 else f"{value:.3f}"  # noqa: PLR2004 - where the two forms meet


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
