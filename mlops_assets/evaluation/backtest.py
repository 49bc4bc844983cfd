"""How a model performs on each day after the one it was trained as of.

What belongs here: metrics per day with intervals, as JSON and Markdown. What does not: training the model and the
report over all days together (`final_model`), the picture (`plots/backtest`), which rows belong to which day.

Metrics and intervals are computed as in the report over all days (`bootstrap`). A day with only one class has none; the
report says so and fills nothing in. Without entities a single day can only be resampled by rows, so its intervals are
too narrow if frauds come in series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.evaluation.bootstrap import bootstrap
from mlops_assets.evaluation.intervals import Design, Interval
from mlops_assets.evaluation.ranking import Array
from mlops_assets.evaluation.scorer import Rows

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


def days_after(rows: Rows, *, scores: Array, dated: bool, threshold: float, design: Design) -> list[DayAfter]:
    """Evaluate each day by itself.

    Args:
        rows: Labels, days and entities of the rows, and the daily budget.
        scores: Scores [n], float32 or float64 in [0, 1].
        dated: Whether day numbers count from 1970-01-01; otherwise they count from the data's own origin.
        threshold: The alert threshold.
        design: Replicates and seed behind each interval.

    Raises:
        EvaluationError: An argument is invalid.
    """
    evaluated = []
    for day in np.unique(rows.days).tolist():
        at = rows.days == day
        frauds, count = int(np.count_nonzero(rows.y[at])), int(np.count_nonzero(at))
        whole = rows.on_whole_day is None or bool(rows.on_whole_day[at].all())
        metrics: dict[str, Interval] = {}
        if 0 < frauds < count:
            here = Rows(
                y=rows.y[at],
                days=rows.days[at],
                alerts_per_day=rows.alerts_per_day,
                entities=None if rows.entities is None else rows.entities[at],
            )
            intervals = bootstrap(here, scores=scores[at], threshold=threshold, design=design).intervals
            metrics = {name: intervals[name] for name in DAILY if whole or name not in _OF_BUDGET}
        evaluated.append(DayAfter(int(day), _label(int(day), dated=dated), count, frauds, metrics, whole))
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
