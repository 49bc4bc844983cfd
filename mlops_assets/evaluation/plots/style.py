"""How every picture looks: size, colours, type, axes for scores and counts, PNG bytes.

What belongs here: what two pictures share. What does not: what a picture shows (`plots`).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from mlops_assets.evaluation.ranking import FloatArray

# Okabe and Ito (2008), "Color universal design".
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, GRID = "#222222", "#6B6B6B", "#E3E3E3"
TEXT_SIZE, SMALL_SIZE = 9.5, 9.0
DASHED = (0, (4, 3))

# Scores and rates are drawn on a logit axis between these bounds: rare frauds crowd both ends of [0, 1].
_SCORE_FLOOR, _SCORE_CEILING = 1e-5, 1 - 1e-4
_SCORE_TICKS = np.array([1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999])
_SIZE_INCHES, _DPI, _PALETTE = (6.4, 4.0), 150, 48
# The share of the height for titles, and that of a line of text in the axes.
_TITLE_SHARE, _LINE_HEIGHT, _MIDDLE = 0.125, 0.065, 0.5
_WHOLE_FROM = 1000


def one_panel(title: str, subtitle: str = "") -> tuple[Figure, Axes]:
    """Return a figure of the common size with a title, the numbers to take away under it, and one set of axes."""
    figure = _titled(title, subtitle)
    axes = figure.add_subplot()
    _dress(axes)
    return figure, axes


def panel_and_strip(title: str, subtitle: str) -> tuple[Figure, Axes, Axes]:
    """Return a titled figure with a panel and a flat strip under it that shares its x axis."""
    figure = _titled(title, subtitle)
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    _dress(axes)
    _dress(strip)
    return figure, axes, strip


def png(figure: Figure) -> bytes:
    """Render a figure; the same figure gives the same bytes, because no version or date is written into it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # There are few hues: with a palette the picture looks the same and the file is a third of the size.
    drawn.quantize(_PALETTE, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def legend(axes: Axes) -> None:
    """Put a legend in one line at the top right, outside the data, level with the subtitle."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.01, 1.01),
        ncols=3,
        frameon=False,
        fontsize=TEXT_SIZE,
        borderaxespad=0.0,
        handlelength=1.4,
        columnspacing=1.2,
    ).set_in_layout(False)


def note(axes: Axes, text: str, at: tuple[float, float], *, from_right: bool = False) -> None:
    """Label a reference line just above a point of it; the text ends there when `from_right`."""
    offset, align = ((-4, 4), "right") if from_right else ((4, 4), "left")
    axes.annotate(text, at, offset, textcoords="offset points", ha=align, color=MUTED, fontsize=TEXT_SIZE)


def label_vertical(axes: Axes, at: float, text: str) -> None:
    """Label a vertical line at its top, towards the middle of the picture; set the limits of the axes first."""
    left = at > sum(axes.get_xlim()) / 2
    offset, align = ((-4, 0), "right") if left else ((4, 0), "left")
    place: dict[str, Any] = {"ha": align, "va": "top", "color": INK, "fontsize": TEXT_SIZE}
    axes.annotate(text, (at, 0.97), offset, ("data", "axes fraction"), "offset points", **place)


def mark(axes: Axes, at: tuple[float, float], text: str) -> None:
    """Mark the chosen point and label it, below if there is room; set the limits of the axes first."""
    axes.plot(
        *at, "o", color=ORANGE, markersize=8, markeredgecolor="white", markeredgewidth=1.2, zorder=4, clip_on=False
    )
    to_axes = axes.transData + axes.transAxes.inverted()
    x, y = to_axes.transform(at)
    right, above = x < _MIDDLE, y < _LINE_HEIGHT * (1.5 + text.count("\n"))
    axes.annotate(
        text,
        at,
        (10 if right else -10, 10 if above else -10),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if above else "top",
        color=ORANGE,
        fontsize=TEXT_SIZE,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        zorder=5,
    )


def score_position(score: FloatArray) -> FloatArray:
    """Return where scores stand on the score axis: the decimal logit, clipped to the bounds [n]."""
    clipped = np.clip(score, _SCORE_FLOOR, _SCORE_CEILING)
    return np.log10(clipped / (1 - clipped))


def score_limits(score: FloatArray) -> tuple[float, float]:
    """Return ends of a score axis, at ticks around the scores and never narrower than 0.1 to 0.9."""
    ticks = score_position(_SCORE_TICKS)
    position = score_position(np.append(score, [0.1, 0.9]))
    return float(ticks[ticks <= position.min()].max()), float(ticks[ticks >= position.max()].min())


def label_scores(axis: Axis, limits: tuple[float, float]) -> None:
    """Label an axis that holds score positions between `limits` with the scores."""
    ticks = zip(score_position(_SCORE_TICKS), _SCORE_TICKS, strict=True)
    inside = [(at, np.format_float_positional(score)) for at, score in ticks if limits[0] <= at <= limits[1]]
    axis.set_ticks([at for at, _ in inside], [label for _, label in inside])


def label_counts(axis: Axis, highest: float) -> None:
    """Label a log axis of counts at the powers of ten up to `highest`, in plain figures."""
    decades = [10**exponent for exponent in range(int(np.log10(highest)) + 1)]
    axis.set_ticks(decades, [f"{decade:,}" for decade in decades])
    axis.set_ticks([], minor=True)


def amount(money: float) -> str:
    """Write an amount of money, or a count, with thousands set apart."""
    return f"{money:,.0f}" if abs(money) >= _WHOLE_FROM else f"{money:.10g}"


def percent(share: float) -> str:
    """Write a share as a percentage in three digits."""
    return f"{100 * share:.3g} %"


def _titled(title: str, subtitle: str) -> Figure:
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - _TITLE_SHARE))
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    # Titles start at the edge of the picture, not of the axes: long feature names would leave them no room.
    figure.text(0.012, 0.985, title, va="top", fontsize=11.5, fontweight="bold", color=INK)
    figure.text(0.012, 0.92, subtitle, va="top", fontsize=TEXT_SIZE, color=MUTED)
    return figure


def _dress(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(labelcolor=INK, labelsize=SMALL_SIZE, color=MUTED)
    axes.xaxis.label.set(size=TEXT_SIZE, color=INK)
    axes.yaxis.label.set(size=TEXT_SIZE, color=INK)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
