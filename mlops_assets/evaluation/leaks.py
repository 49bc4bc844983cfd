"""Features that give the target away: three rules that name them before a search is paid for.

What belongs here: the rules, on arrays and counts. What does not: reading rows (`training/readiness`), what a run does
with a finding (`training/tuning`).

A feature leaks if it would not be known, in this form, when a transaction is scored. No rule on values can prove that,
so the rules look for what hardly any honest feature does:

- It **decides** the target by itself: ranked by this feature alone, rows reach an average precision of 0.9.
- It is **filled only for frauds**: 9 of 10 rows that have a value, or one other than the usual, are frauds.
- It **changes when the label comes**: of the rows that were delivered again, frauds changed in it far more often than
  genuine rows.

Each rule needs 20 frauds (the last one 20 rows of either kind), so that a few lucky rows can't raise an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.ranking import BoolArray, FloatArray, RankedScores

DECISIVE = 0.9
FEWEST_FRAUDS = 20
# Of a feature with a usual value (zero, false), the other values count as filled.
_USUAL_SHARE = 0.5
# Changed rows: the shares must differ by this much and by so many standard errors (by chance in 1 of 100,000 features).
_LEAST_DIFFERENCE = 0.2
_STANDARD_ERRORS = 4.3
# For features that are decisive without being monotone: most bins of each class, and fewest frauds per bin of theirs.
_BINS, _FRAUDS_PER_BIN = 64, 10


@dataclass(frozen=True)
class Leak:
    """A feature and why it is suspected."""

    feature: str
    reason: str


@dataclass(frozen=True)
class ChangedRows:
    """Rows that were delivered again, and how many changed in a feature.

    Attributes:
        frauds: Rows that are frauds.
        changed_frauds: Those of them whose value changed.
        others: Genuine rows.
        changed_others: Those of them whose value changed.
    """

    frauds: int
    changed_frauds: int
    others: int
    changed_others: int


def find_leaks(
    features: Sequence[str],
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.uint8],
    weights: FloatArray,
    changes: Mapping[str, ChangedRows],
) -> list[Leak]:
    """Return the features that a rule names, each once, in order.

    Args:
        features: Names of the columns of `X`.
        X: Training and validation rows [n, features]; NaN is missing.
        y: 1 = fraud [n].
        weights: How many rows each row stands for [n], > 0: genuine rows may be a sample.
        changes: Re-delivered rows by feature, where the table has any.
    """
    fraud = y == 1
    found = []
    for number, name in enumerate(features):
        reason = ""
        if FEWEST_FRAUDS <= fraud.sum() < len(fraud):
            values = X[:, number].astype(np.float64)
            reason = _filled_for_frauds(values, fraud, weights) or _decides(values, fraud, weights)
        reason = reason or (_changes_with_label(changes[name]) if name in changes else "")
        if reason:
            found.append(Leak(name, reason))
    return found


def _decides(values: FloatArray, fraud: BoolArray, weights: FloatArray) -> str:
    # Missing values rank lowest, or highest where the values fall.
    lowest = np.where(np.isnan(values), -np.inf, values)
    falling = np.where(np.isnan(values), -np.inf, -values)
    best = max(_average_precision(score, fraud, weights) for score in (lowest, falling))
    if best < DECISIVE:
        best = max(best, _average_precision(_cross_fitted(values, fraud, weights), fraud, weights))
    if best < DECISIVE:
        return ""
    return f"it nearly decides the target alone: average precision {best:.2f}"


def _average_precision(score: FloatArray, fraud: BoolArray, weights: FloatArray) -> float:
    return RankedScores(fraud, score).weighted(weights).average_precision()


def _cross_fitted(values: FloatArray, fraud: BoolArray, weights: FloatArray) -> FloatArray:
    """Return for each row the share of frauds in its bin, counted on the other half of the rows [n]."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    edges = np.quantile(known, np.linspace(0, 1, _BINS + 1))
    of_frauds = values[fraud & ~np.isnan(values)]
    if len(of_frauds):
        at = np.linspace(0, 1, min(_BINS, max(1, len(of_frauds) // _FRAUDS_PER_BIN)) + 1)
        edges_of_frauds, times = np.unique(np.quantile(of_frauds, at), return_counts=True)
        # A value that many frauds share is a bin of its own. Any other must not be: the bin would mark a single fraud,
        # and so the largest one belongs to the bin below it.
        shared = edges_of_frauds[times > 1]
        last = edges_of_frauds[-1:]
        edges_of_frauds = edges_of_frauds if times[-1] > 1 else edges_of_frauds[:-1]
        edges = np.concatenate([edges, edges_of_frauds, np.nextafter([*shared, *last], np.inf)])
    edges = np.unique(edges)
    bins = np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right") + 1)
    half = np.arange(len(values)) % 2
    share = float(weights[fraud].sum() / weights.sum())
    rates = np.empty(len(values))
    for side in (0, 1):
        there, size = half != side, len(edges) + 2
        rows = np.bincount(bins[there], weights=weights[there], minlength=size)
        frauds = np.bincount(bins[there & fraud], weights=weights[there & fraud], minlength=size)
        rates[half == side] = ((frauds + share) / (rows + 1))[bins[half == side]]
    return rates


def _filled_for_frauds(values: FloatArray, fraud: BoolArray, weights: FloatArray) -> str:
    filled = ~np.isnan(values)
    word = "filled"
    if filled.all():
        usual, counts = np.unique(values, return_inverse=True)
        per_value = np.bincount(counts, weights=weights)
        if per_value.max() <= _USUAL_SHARE * weights.sum():
            return ""
        most = usual[per_value.argmax()]
        filled, word = values != most, f"other than {most:g}"
    frauds = int((filled & fraud).sum())
    share = float(weights[filled & fraud].sum() / weights[filled].sum()) if frauds else 0.0
    # A column that everybody has says nothing, however many frauds the table holds.
    if frauds < FEWEST_FRAUDS or share < DECISIVE or weights[filled].sum() > _USUAL_SHARE * weights.sum():
        return ""
    return f"it is {word} for frauds only: {share:.0%} of these rows are frauds"


def _changes_with_label(rows: ChangedRows) -> str:
    if min(rows.frauds, rows.others) < FEWEST_FRAUDS:
        return ""
    of_frauds, of_others = rows.changed_frauds / rows.frauds, rows.changed_others / rows.others
    share = (rows.changed_frauds + rows.changed_others) / (rows.frauds + rows.others)
    error = (share * (1 - share) * (1 / rows.frauds + 1 / rows.others)) ** 0.5
    if of_frauds - of_others < max(_LEAST_DIFFERENCE, _STANDARD_ERRORS * error):
        return ""
    return (
        f"it changes when the label comes: in {of_frauds:.0%} of the frauds that were delivered again, and in "
        f"{of_others:.0%} of the genuine rows"
    )
