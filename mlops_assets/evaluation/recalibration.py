"""Calibration of scores by two numbers, where that helps: a slope and an intercept of the log-odds.

What belongs here: fitting them, and whether they help. What does not: measuring calibration (`calibration`), putting
them into a model (`training/calibrated`).

Platt, "Probabilistic outputs for support vector machines" (1999), on log-odds instead of margins. A slope above 0 keeps
the order of the scores, so only what depends on their size changes: losses, costs, thresholds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlops_assets.evaluation.bootstrap import Contender, compare
from mlops_assets.evaluation.scorer import Rows

if TYPE_CHECKING:
    from mlops_assets.evaluation.intervals import Design
    from mlops_assets.evaluation.ranking import Array, FloatArray

# With fewer frauds in a half, two numbers are mostly chance.
_MIN_FRAUDS: Final = 30
_STEPS, _CLOSE = 100, 1e-9
_EDGE: Final = 1e-7
_FAR: Final = 500.0  # exp does not overflow


@dataclass(frozen=True)
class Recalibration:
    """Two numbers that bring scores closer to rates of fraud.

    Attributes:
        slope: Factor of the log-odds, above 0.
        intercept: Added to them.
        gain_low: Lower end of the gain in log loss on the later half of the rows, by numbers from the earlier half.
        gain_high: Its upper end.
    """

    slope: float
    intercept: float
    gain_low: float
    gain_high: float

    def __call__(self, scores: Array) -> FloatArray:
        """Return calibrated scores [n] of scores [n] in [0, 1]."""
        return _calibrated(scores, self.slope, self.intercept)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the numbers as a document that strict JSON can hold."""
        return asdict(self)


def recalibration(rows: Rows, scores: Array, design: Design) -> Recalibration | None:
    """Return what calibrates scores, or None where it is not shown to help.

    The numbers are fitted on the earlier half of the days and tried on the later half. Where the whole interval of the
    gain in log loss is above 0, they are fitted again on all rows.

    Args:
        rows: Rows that the model was not fitted on.
        scores: Their scores [n], float32 or float64 in [0, 1].
        design: Replicates, seed and level of the interval.
    """
    days = np.sort(rows.days)
    earlier = rows.days < days[len(days) // 2]
    fraud = rows.y == 1
    for part in (earlier, ~earlier):
        if not _MIN_FRAUDS <= int(fraud[part].sum()) < int(part.sum()):
            return None
    tried = _fitted(fraud[earlier], scores[earlier])
    if tried is None:
        return None
    later = rows.where(~earlier)
    new, old = _calibrated(scores[~earlier], *tried), scores[~earlier].astype(np.float64)
    gain = compare(
        later, candidate=Contender(new, 0.5), baseline=Contender(old, 0.5), design=design, wanted=("log_loss",)
    ).gains["log_loss"]
    found = _fitted(fraud, scores)
    if found is None or not gain.interval.low > 0:
        return None
    return Recalibration(*found, gain.interval.low, gain.interval.high)


def _log_odds(scores: Array) -> FloatArray:
    inside = np.clip(scores.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)


def _calibrated(scores: Array, slope: float, intercept: float) -> FloatArray:
    return 1 / (1 + np.exp(-(slope * _log_odds(scores) + intercept)))


def _fitted(fraud: Array, scores: Array) -> tuple[float, float] | None:
    """Return slope and intercept of least log loss, by Newton's method; None if the scores are not worth it."""
    X = np.stack([_log_odds(scores), np.ones(len(scores))], axis=1)

    def loss(at: FloatArray) -> float:
        margin = X @ at
        return float((np.logaddexp(0, margin) - fraud * margin).sum())

    rate = fraud.mean()
    found = np.array([0.0, np.log(rate) - np.log1p(-rate)])  # scores that say nothing
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(X @ found, -_FAR, _FAR)))
        curvature = (X * (p * (1 - p))[:, None]).T @ X
        if not np.isfinite(curvature).all() or np.linalg.cond(curvature) > 1 / _CLOSE:
            return None
        step = np.linalg.solve(curvature, X.T @ (p - fraud))
        before = loss(found)
        while loss(found - step) > before and np.abs(step).max() > _CLOSE:  # too far
            step = step / 2
        found = found - step
        if np.abs(step).max() <= _CLOSE * (1 + np.abs(found).max()):
            return (float(found[0]), float(found[1])) if found[0] > 0 else None
    return None
