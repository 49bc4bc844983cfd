"""How far the features of later rows lie from those of earlier ones.

What belongs here: bins that are frozen on the earlier rows, the population stability index (PSI) in them, and how large
it gets by chance. What does not: what follows from it (`registry`).

Without any drift PSI is about chi-squared / harmonic size: with 10 bins its 95 % point is 0.11 at 150 rows and 0.0003
at 100,000. So a feature counts as drifted only above both the usual 0.1 and what chance explains at these sizes
(Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation
2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Counts = npt.NDArray[np.float64]
NOTABLE: Final = 0.1
_BINS: Final = 10
# Half a row in a bin, so that an empty one gives no infinite value.
_EMPTY: Final = 0.5
_CHANCE: Final = 0.05


@dataclass(frozen=True)
class FeatureDrift:
    """One feature's drift.

    Attributes:
        feature: Its name.
        psi: Population stability index.
        by_chance: What it stays below without drift, in 95 of 100 comparisons of all features.
    """

    feature: str
    psi: float
    by_chance: float

    @property
    def drifted(self) -> bool:
        """Whether it is notable, and more than chance."""
        return self.psi > max(NOTABLE, self.by_chance)


def feature_drift(earlier: Matrix, later: Matrix, features: Sequence[str]) -> list[FeatureDrift]:
    """Return the drift of each feature, largest first.

    Args:
        earlier: Rows that the bins are frozen on [n, features], NaN where missing.
        later: Rows that are compared with them [m, features], categories with the same codes.
        features: Names of the columns.
    """
    if not len(earlier) or not len(later):
        return []
    edges = edges_of(earlier)
    return drift_of(counts_in(earlier, edges), counts_in(later, edges), features)


def edges_of(earlier: Matrix) -> list[npt.NDArray[np.floating]]:
    """Return the inner edges of each feature's bins, from rows [n, features]."""
    return [_edges(earlier[:, at]) for at in range(earlier.shape[1])]


def counts_in(rows: Matrix, edges: Sequence[npt.NDArray[np.floating]]) -> list[Counts]:
    """Return rows per bin, for each feature; the last bin is that of missing values.

    Args:
        rows: Feature values [n, features].
        edges: As `edges_of` returns them. Counts of parts of the rows can be added.
    """
    return [_counts(rows[:, at], inner) for at, inner in enumerate(edges)]


def drift_of(earlier: Sequence[Counts], later: Sequence[Counts], features: Sequence[str]) -> list[FeatureDrift]:
    """Return the drift of each feature, largest first, from rows per bin; there are rows on both sides."""
    found = []
    for name, before, after in zip(features, earlier, later, strict=True):
        used = (before + after) > 0
        p, q = (np.maximum(counts[used], _EMPTY) / counts.sum() for counts in (before, after))
        psi = float(((q - p) * np.log(q / p)).sum())
        chance = _chi_squared(int(used.sum()) - 1, 1 - _CHANCE / len(features))
        found.append(FeatureDrift(name, psi, chance * (1 / before.sum() + 1 / after.sum())))
    return sorted(found, key=lambda drift: -drift.psi)


def _edges(values: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    known = values[~np.isnan(values)]
    return np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS)) if len(known) else np.empty(0)


def _counts(values: npt.NDArray[np.float32], edges: npt.NDArray[np.floating]) -> Counts:
    """Return rows per bin; the last bin is that of missing values."""
    missing = np.isnan(values)
    counts = np.bincount(np.searchsorted(edges, values[~missing], side="left"), minlength=len(edges) + 1)
    return np.append(counts, missing.sum()).astype(np.float64)


def _chi_squared(freedom: int, level: float) -> float:
    """Return a quantile of the chi-squared distribution (Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    step = 2 / (9 * freedom)
    return float(freedom * (1 - step + NormalDist().inv_cdf(level) * math.sqrt(step)) ** 3)
