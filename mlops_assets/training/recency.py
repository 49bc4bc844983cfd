"""Recency: how much a training row counts by its age.

What belongs here: the weights that a point gives to rows, and what they add up to. What does not: the ranges of the two
parameters (`parameters`, `space`), fitting (`objective`).

Fraud changes, so an old row may say less about tomorrow than a new one. Two parameters of a point say how much less: a
row older than `train_window_days` does not count, and a row counts half as much as one that is `half_life_days` younger
(exponential forgetting; Gama et al. 2014, "A survey on concept drift adaptation", section 3.1.2). Ages are whole days
back from the last day of the rows that are fitted on, so every fold, the final fit and the production model apply a
point alike. A weight of 1/2 is half a row: regularization and `min_child_weight` weigh more where less counts.

Rows outside the window keep their place, with weight 0: all trials share one binning of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.training.parameters import HALF_LIFE, RECENCY, WINDOW

if TYPE_CHECKING:
    from mlops_assets.training.space import Point


def row_weights(point: Point, days: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Return how much each row counts, from 0 to 1, float32 [rows]; None where the point leaves all rows alike.

    Args:
        point: The hyperparameters.
        days: Day number of each row [rows].
    """
    if not any(name in point for name in RECENCY):
        return None
    ages = (days.max() - days).astype(np.float64)
    weights = np.exp2(-ages / point[HALF_LIFE]) if HALF_LIFE in point else np.ones(len(days))
    if WINDOW in point:
        weights[ages >= point[WINDOW]] = 0.0
    return weights.astype(np.float32)


def counted_rows(point: Point, days: npt.NDArray[np.int64]) -> float:
    """Return what the weights add up to: the number of rows, where the point leaves all alike."""
    weights = row_weights(point, days)
    return len(days) if weights is None else float(weights.sum(dtype=np.float64))
