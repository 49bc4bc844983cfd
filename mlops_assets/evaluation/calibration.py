"""Calibration: how far predicted and observed fraud rates are apart, bin by bin.

What belongs here: the bins, and the expected calibration error. What does not: the picture (`plots/curves`), intervals
(`bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.metrics import checked_labels_and_scores
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray

# As many as the picture shows.
BINS = 12


def expected_calibration_error(y_true: Array, scores: Array) -> float:
    """Mean over rows of |observed - predicted fraud rate| of the row's bin (Naeini et al., AAAI 2015).

    The bins are those of `bins_of_equal_prediction`. The value is on the scale of a fraud rate: compare it with that of
    the rows. It is never 0 on real rows, not even for a perfect model, because observed rates scatter.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].

    Raises:
        EvaluationError: The input is invalid.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    return CalibrationBins.of(fraud, score).error(np.ones(len(fraud)))


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Rows in bins of their scores.

    Attributes:
        bins: Bin of each row [n] int8.
        surplus: Label minus score of each row [n].
        shift: What is added to a bin's gap, its sum of surplus over the number of all rows [BINS]; None: nothing.
    """

    bins: npt.NDArray[np.int8]
    surplus: FloatArray
    shift: FloatArray | None = None

    @classmethod
    def of(cls, fraud: BoolArray, score: FloatArray) -> CalibrationBins:
        """Place rows by their scores alone."""
        return cls(bins_of_equal_prediction(score).astype(np.int8), fraud - score)

    def part(self, kept: BoolArray) -> CalibrationBins:
        """Return some of the rows, with their gaps shifted to those of all rows.

        The gaps of fewer rows scatter more, which would hide how much the error on all rows owes to scatter.

        Args:
            kept: Which rows [n].
        """
        bins, surplus = self.bins[kept], self.surplus[kept]
        on_all = np.bincount(self.bins, weights=self.surplus, minlength=BINS) / len(self.bins)
        here = np.bincount(bins, weights=surplus, minlength=BINS) / len(bins)
        return CalibrationBins(bins, surplus, on_all - here)

    def error(self, weights: FloatArray) -> float:
        """Return the expected calibration error under row weights [n]."""
        gaps = np.bincount(self.bins, weights=weights * self.surplus, minlength=0 if self.shift is None else BINS)
        if self.shift is not None:
            gaps = gaps + self.shift * weights.sum()
        return float(np.abs(gaps).sum() / weights.sum())


def bins_of_equal_prediction(score: FloatArray) -> npt.NDArray[np.int64]:
    """Return the bin of each row [n], of BINS bins with about the same sum of scores; equal scores share a bin.

    Bins of equal row counts would put nearly all frauds into the last one, bins of equal width nearly all rows into the
    first. The bins depend on the scores alone, so the observed rates stay unbiased.
    """
    distinct, counts = np.unique(score, return_counts=True)
    running = np.cumsum(distinct * counts)
    if running[-1] == 0:
        return np.zeros(len(score), dtype=np.int64)
    middle = running - distinct * counts / 2
    bins = np.minimum((BINS * middle / running[-1]).astype(np.int64), BINS - 1)
    first = np.searchsorted(bins, np.arange(1, BINS))  # a bin's lowest score; bins rise with scores
    return np.searchsorted(distinct[first[first < len(bins)]], score, side="right")
