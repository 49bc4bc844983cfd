"""Pictures of an explanation: which features drive the model, and in which direction; each is returned as PNG bytes.

What belongs here: drawing SHAP values. What does not: computing them (`explanations`), what pictures share (`style`).

The rules of `curves` hold here too: no pyplot, no mathtext, colours that stay apart for the colour-blind.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from mlops_assets.evaluation.explanations import Explanation
from mlops_assets.evaluation.plots.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    SMALL_SIZE,
    one_panel,
    png,
)

_TOP_FEATURES = 15
# A few hundred dots show as much as a thousand, in a much smaller file.
_DOTS = 400
_COLUMNS_OF_DOTS = 90
_HALF_ROW = 0.38
_LOW, _HIGH = 5, 95
_COLOURS = LinearSegmentedColormap.from_list("low to high", [BLUE, "#C9C9C9", ORANGE], N=16)


def importance(explanation: Explanation) -> bytes:
    """Draw the mean size of each feature's contribution, largest first."""
    ranked = list(explanation.importance.items())
    shown, rest = ranked[:_TOP_FEATURES], ranked[_TOP_FEATURES:]
    others = f"; {len(rest)} more features: {sum(value for _, value in rest):.3g}" if rest else ""
    sample = f"{len(explanation.rows):,} sampled rows with {explanation.frauds:,} frauds"
    figure, axes = one_panel("What moves the score (SHAP)", f"{sample}{others}")
    widths = [value for _, value in shown]
    bars = axes.barh(range(len(shown)), widths, color=BLUE, height=0.7)
    axes.bar_label(bars, [f"{value:.3g}" for value in widths], padding=3, fontsize=SMALL_SIZE - 1, color=MUTED)
    axes.set(xlim=(0, 1.1 * (max(widths) or 1.0)), xlabel="mean size of the contribution to the log-odds of fraud")
    _name_rows(axes, [name for name, _ in shown])
    return png(figure)


def summary(explanation: Explanation) -> bytes:
    """Draw each sampled row's contribution as a dot per feature, coloured by the feature's value in that row.

    Dots of about the same contribution are stacked, as in the summary plot of Lundberg et al. (2018). Colours run over
    ranks of the values, because a feature such as an amount is skewed; a missing value is drawn hollow.
    """
    names = list(explanation.importance)[:_TOP_FEATURES]
    contributions = explanation.contributions
    columns = np.array([contributions.features.index(name) for name in names])
    # Spread evenly over the sample, which is ordered by time: each call draws the same dots.
    picked = np.unique(np.linspace(0, len(explanation.rows) - 1, _DOTS).astype(int))
    values = contributions.values[np.ix_(picked, columns)].astype(np.float64)
    figure, axes = one_panel(
        "How values move the score (SHAP)",
        f"a dot is one of {len(picked):,} rows; blue: low value, orange: high, hollow: missing",
    )
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    margin = 0.04 * ((high - low) or 1.0)
    axes.set(xlim=(low - margin, high + margin), xlabel="contribution to the log-odds of fraud")
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, column in enumerate(columns):
        x = values[:, row]
        y = row + _stacked(x, (low, high))
        value = explanation.X[picked, column]
        missing = np.isnan(value)
        colours = _COLOURS(_ranks(value[~missing], explanation.X[:, column]))
        axes.scatter(x[~missing], y[~missing], s=5, c=colours, linewidths=0)
        axes.scatter(x[missing], y[missing], s=5, facecolors="none", edgecolors=MUTED, linewidths=0.5)
    _name_rows(axes, names)
    return png(figure)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(max(len(names), 5) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def _stacked(x: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return offsets across the row [n] that spread dots of nearly the same position symmetrically."""
    low, high = limits
    place = ((x - low) / ((high - low) or 1.0) * (_COLUMNS_OF_DOTS - 1)).astype(int)
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], place[order])
    nth = np.empty(len(x), dtype=np.int64)
    nth[order] = np.arange(len(x)) - first
    # 0, 1, -1, 2, -2, ... and all rows of dots share one scale, at most as high as the row.
    side = np.where(nth % 2 == 1, (nth + 1) // 2, -(nth // 2))
    return side * min(0.06, _HALF_ROW / max(1, int(np.abs(side).max())))


def _ranks(value: npt.NDArray[np.float32], of: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return where values lie between the low and high ones of their feature, 0 to 1 [n]; 0.5 when all are equal."""
    known = np.sort(of[~np.isnan(of)])
    if len(known) == 0 or known[0] == known[-1]:
        return np.full(len(value), 0.5)
    middle = (np.searchsorted(known, value, "left") + np.searchsorted(known, value, "right")) / 2 / len(known)
    return np.clip((middle - _LOW / 100) / ((_HIGH - _LOW) / 100), 0.0, 1.0)
