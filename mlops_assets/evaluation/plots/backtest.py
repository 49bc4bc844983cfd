"""The picture of a backtest: how the model performs on the days after it was trained.

What belongs here: drawing. What does not: the numbers (`backtest`), the common look (`style`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlops_assets.evaluation.backtest import DAILY, DayAfter
from mlops_assets.evaluation.intervals import Interval
from mlops_assets.evaluation.plots.style import (
    BLUE,
    DASHED,
    GREEN,
    MUTED,
    ORANGE,
    legend,
    note,
    panel_and_strip,
    png,
)

_LOOKS = {
    "average_precision": ("average precision", BLUE, "o", -0.18),
    "precision_at_budget": ("precision", ORANGE, "s", 0.0),
    "recall_at_budget": ("recall on the budget", GREEN, "^", 0.18),
}
_MOST_LABELS = 10


def days_after_picture(days: Sequence[DayAfter], overall: Interval, *, as_of: str) -> bytes:
    """Draw the metrics of each day with their intervals, average precision over all days, and the frauds below.

    Args:
        days: At least one day, in order.
        overall: Average precision over all days.
        as_of: The day that the model was trained as of.
    """
    overall_text = f"{overall.estimate:.3f} ({overall.low:.3f} to {overall.high:.3f})"
    figure, axes, strip = panel_and_strip(f"Days after {as_of}", f"average precision {overall_text}")
    for name in DAILY:
        label, colour, marker, shift = _LOOKS[name]
        drawn = [(at + shift, day.metrics[name]) for at, day in enumerate(days) if name in day.metrics]
        places = [at for at, _ in drawn]
        values = [interval.estimate for _, interval in drawn]
        below = [interval.estimate - interval.low for _, interval in drawn]
        above = [interval.high - interval.estimate for _, interval in drawn]
        axes.errorbar(
            places, values, yerr=[below, above], fmt=marker, color=colour, label=label, markersize=5, linewidth=1.3
        )
    axes.axhline(overall.estimate, color=MUTED, linestyle=DASHED, linewidth=1.2)
    note(axes, "all days", (-0.4, overall.estimate))
    axes.set(ylim=(-0.02, 1.04), xlim=(-0.5, len(days) - 0.5), ylabel="on the day")
    legend(axes)
    strip.bar(range(len(days)), [day.frauds for day in days], color=MUTED, width=0.6)
    strip.set_ylabel("frauds")
    step = -(-len(days) // _MOST_LABELS)
    strip.set_xticks(range(0, len(days), step), [_short(days[at].label) for at in range(0, len(days), step)])
    return png(figure)


def _short(label: str) -> str:
    """Return a date without its year; the title has it."""
    return label[5:] if label[:4].isdecimal() else label
