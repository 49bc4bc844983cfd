"""How a model performs on each day after the one it was trained as of.

What belongs here: metrics per day with intervals, as JSON and Markdown. What does not: training the model and the
report over all days together (`final_model`), the picture (`plots/backtest`), which rows belong to which day.

Metrics and intervals are computed as in the report over all days (`bootstrap`). A day with only one class has none; the
report says so and fills nothing in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.evaluation.bootstrap import Interval, bootstrap
from mlops_assets.evaluation.ranking import Array

_OF_BUDGET: Final = ("precision_at_budget", "recall_at_budget")
DAILY: Final = ("average_precision", *_OF_BUDGET)


@dataclass(frozen=True)
class DayAfter:
    """One day and its metrics.

    Attributes:
        day: Day number, as in `Matrix.days`.
        label: Its name in tables and pictures.
        rows: Rows that were scored.
        frauds: Frauds among them.
        metrics: The metrics named by `DAILY`; empty when all rows are of one class. A part of a day has no metrics of
            the daily budget.
        whole: Whether the rows hold the whole day.
    """

    day: int
    label: str
    rows: int
    frauds: int
    metrics: dict[str, Interval]
    whole: bool = True

    def to_json_dict(self) -> dict[str, Any]:
        """Return the day as a document that strict JSON can hold."""
        return asdict(self)


def days_after(
    *,
    y: Array,
    scores: Array,
    days: Array,
    on_whole_day: Array,
    dated: bool,
    threshold: float,
    alerts_per_day: int,
    replicates: int,
    seed: int,
) -> list[DayAfter]:
    """Evaluate each day by itself.

    Args:
        y: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 probabilities of fraud.
        days: Day number of each row [n], integer.
        on_whole_day: Whether the rows hold the whole day of a row [n] bool.
        dated: Whether day numbers count from 1970-01-01; otherwise they count from the data's own origin.
        threshold: The alert threshold.
        alerts_per_day: Alerts that can be checked in a day.
        replicates: Bootstrap replicates behind each interval.
        seed: Seed of the bootstrap.

    Raises:
        EvaluationError: An argument is invalid.
    """
    evaluated = []
    for day in np.unique(days).tolist():
        at = days == day
        frauds, rows = int(np.count_nonzero(y[at])), int(np.count_nonzero(at))
        whole, metrics = bool(on_whole_day[at].all()), dict[str, Interval]()
        if 0 < frauds < rows:
            intervals = bootstrap(
                y_true=y[at],
                scores=scores[at],
                days=days[at],
                threshold=threshold,
                alerts_per_day=alerts_per_day,
                replicates=replicates,
                seed=seed,
            ).intervals
            metrics = {name: intervals[name] for name in DAILY if whole or name not in _OF_BUDGET}
        evaluated.append(DayAfter(int(day), _label(int(day), dated=dated), rows, frauds, metrics, whole))
    return evaluated


def days_markdown(days: Sequence[DayAfter]) -> str:
    """Return a table with a line for each day."""
    lines = [
        "| day | rows | frauds | average precision | precision on the budget | recall on the budget |",
        "|:--|--:|--:|:-:|:-:|:-:|",
    ]
    for day in days:
        missing = "part of a day" if day.metrics else "one class"
        cells = [_cell(day.metrics[name]) if name in day.metrics else missing for name in DAILY]
        lines.append(f"| {day.label} | {day.rows:,} | {day.frauds:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(interval: Interval) -> str:
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _label(day: int, *, dated: bool) -> str:
    return f"{datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC):%Y-%m-%d}" if dated else f"day {day}"
