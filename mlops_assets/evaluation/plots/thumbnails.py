"""Thumbnails: curves small enough to stand in a cell of Dagster's table of metadata, as SVG.

What belongs here: drawing them. What does not: pictures to read values from (`curves`), Dagster.

Dagster shows Markdown of less than 1,000 characters at once and hides anything longer behind a link. Written out as
base64, an SVG of `MAX_BYTES` stays below that; a PNG of this size would be a smudge.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlops_assets.evaluation.metrics import checked_labels_and_scores
from mlops_assets.evaluation.plots.style import BLUE, MUTED
from mlops_assets.evaluation.ranking import Array, FloatArray, RankedScores

MAX_BYTES: Final = 690
_WIDTH, _HEIGHT, _LINE = 240, 110, 14
_POINTS = 32


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
    across = np.round((x - x[0]) / (max(float(x[-1] - x[0]), 1e-12)) * (_WIDTH - 4) + 2).astype(int)
    box = _HEIGHT - _LINE
    up = np.round(box - 2 - (y - bottom) / max(top - bottom, 1e-12) * (box - 6)).astype(int)
    points = " ".join(f"{a},{b}" for a, b in zip(across, up, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<path d="M1 1V{box}H{_WIDTH}" fill="none" stroke="{MUTED}"/>'
        f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="2"/>'
        f'<text x="2" y="{_HEIGHT - 2}" font-size="11" font-family="sans-serif">{caption}</text></svg>'
    )
