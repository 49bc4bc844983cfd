"""Thumbnails: curves small enough to stand in a cell of Dagster's table of metadata, as SVG.

What belongs here: drawing them. What does not: pictures to read values from (`curves`), Dagster.

Dagster shows Markdown of less than 1,000 characters at once and hides anything longer behind a link. Written out as
base64, an SVG of `MAX_BYTES` stays below that; a PNG of this size would be a smudge.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlops_assets.evaluation.metrics import checked_labels_and_scores
from mlops_assets.evaluation.plots.style import BLUE, MUTED, ORANGE
from mlops_assets.evaluation.ranking import Array, FloatArray, RankedScores

MAX_BYTES: Final = 690
_WIDTH, _HEIGHT, _LINE = 240, 110, 14
_POINTS, _POINTS_OF_TWO, _STEPS = 32, 19, 14


def precision_recall(y_true: Array, scores: Array) -> str:
    """Draw precision over recall, both from 0 to 1.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].

    Raises:
        EvaluationError: Labels or scores on which the curve is not defined.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    ranking = RankedScores(fraud, score).weighted(np.ones(len(fraud)))
    caught = np.cumsum(ranking.gained)
    recall = np.linspace(0, 1, _POINTS)
    reached = np.minimum(np.searchsorted(caught / caught[-1], recall), len(caught) - 1)
    caption = f"precision over recall, AP {ranking.average_precision():.3f}"
    return line(recall, (caught / ranking.alerts)[reached], caption, low=0, high=1)


def two_precision_recalls(y_true: Array, challenger: Array, champion: Array) -> str:
    """Draw precision over recall of two models on the same rows, both from 0 to 1; the champion is dashed.

    Args:
        y_true: Labels [n], 0 or 1.
        challenger: Scores [n], float32 or float64 in [0, 1].
        champion: Scores [n] of the other.

    Raises:
        EvaluationError: Labels or scores on which the curves are not defined.
    """
    recall = np.linspace(0, 1, _POINTS_OF_TWO)
    paths, areas = [], []
    for scores, style in ((challenger, f'stroke="{BLUE}"'), (champion, f'stroke="{ORANGE}" stroke-dasharray="5 3"')):
        fraud, score = checked_labels_and_scores(y_true, scores)
        ranking = RankedScores(fraud, score).weighted(np.ones(len(fraud)))
        caught = np.cumsum(ranking.gained)
        reached = np.minimum(np.searchsorted(caught / caught[-1], recall), len(caught) - 1)
        paths.append(f'<polyline points="{_points(recall, (caught / ranking.alerts)[reached], 0, 1)}" {style}/>')
        areas.append(ranking.average_precision())
    caption = f"challenger AP {areas[0]:.3f}, champion {areas[1]:.3f} (dashed)"
    return _framed("".join(paths), caption)


def steps(moments: FloatArray, values: FloatArray, until: float, caption: str) -> str:
    """Draw a value that holds from each moment to the next.

    Args:
        moments: When each value began [n], ascending; the newest `_STEPS` are drawn.
        values: The values [n].
        until: End of the last one.
        caption: Plain words and figures.
    """
    moments, values = moments[-_STEPS:], values[-_STEPS:]
    x = np.append(np.repeat(moments, 2)[1:], until)
    points = _points(x, np.repeat(values, 2), 0, float(np.max(values)))
    return _framed(f'<polyline points="{points}" stroke="{BLUE}"/>', caption)


def line(x: FloatArray, y: FloatArray, caption: str, *, low: float | None = None, high: float | None = None) -> str:
    """Draw a curve with a caption below.

    Args:
        x: Positions [n], ascending; at most `_POINTS` of them are drawn.
        y: Values [n], finite.
        caption: Plain words and figures.
        low: Value at the bottom; the smallest when not given.
        high: Value at the top; the largest when not given.
    """
    shown = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
    x, y = x[shown], y[shown]
    bottom, top = float(np.min(y)) if low is None else low, float(np.max(y)) if high is None else high
    return _framed(f'<polyline points="{_points(x, y, bottom, top)}" stroke="{BLUE}"/>', caption)


def _points(x: FloatArray, y: FloatArray, bottom: float, top: float) -> str:
    box = _HEIGHT - _LINE
    across = np.round((x - x[0]) / (max(float(x[-1] - x[0]), 1e-12)) * (_WIDTH - 4) + 2).astype(int)
    up = np.round(box - 2 - (y - bottom) / max(top - bottom, 1e-12) * (box - 6)).astype(int)
    return " ".join(f"{a},{b}" for a, b in zip(across, up, strict=True))


def _framed(drawn: str, caption: str) -> str:
    box = _HEIGHT - _LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<path d="M1 1V{box}H{_WIDTH}" fill="none" stroke="{MUTED}"/>'
        f'<g fill="none" stroke-width="2">{drawn}</g>'
        f'<text x="2" y="{_HEIGHT - 2}" font-size="11" font-family="sans-serif">{caption}</text></svg>'
    )
