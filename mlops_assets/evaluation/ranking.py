"""Scores sorted once, so that a ranking metric under any row weights costs one cumulative sum.

What belongs here: the sorted structures behind `metrics` and `bootstrap`, which trust their input. What does not:
checks of labels and scores (`metrics`), metrics that need no order (log loss, Brier), resampling (`bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class FraudGroups:
    """Tie groups that hold a fraud, in rows that were put in some order.

    Between two frauds every ranking metric needs only the *total* weight of the rows, so after one cumulative sum
    over all rows the work is done on the few groups that hold a fraud.

    Args:
        fraud: Label of each row, in that order [n].
        opens: True where a row does not tie with the row before it [n]; the first is True.
    """

    def __init__(self, fraud: BoolArray, opens: BoolArray) -> None:
        begins = np.flatnonzero(opens)
        ends = np.append(begins[1:], len(fraud))
        self._rows = np.flatnonzero(fraud)
        groups = (np.cumsum(opens) - 1)[self._rows]
        self._first = np.flatnonzero(np.diff(groups, prepend=-1))
        self.begin = begins[groups[self._first]]
        self.end = ends[groups[self._first]]

    def fraud_weight(self, weights: FloatArray) -> FloatArray:
        """Weight of the frauds of each group [groups], from the weights of all rows in order [n]."""
        return np.add.reduceat(weights[self._rows], self._first)


class RankedScores:
    """Scores sorted once, from the highest; any weights then cost one cumulative sum.

    Args:
        fraud: Labels [n] bool, both classes present.
        score: Scores [n] float64.
    """

    def __init__(self, fraud: BoolArray, score: FloatArray) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._groups = FraudGroups(fraud[self._order], _changes(score[self._order]))

    def weighted(self, weights: FloatArray) -> WeightedRanking:
        """Rank under row weights [n]; both classes must keep a positive weight."""
        ordered = weights[self._order]
        running = np.concatenate(([0.0], np.cumsum(ordered)))
        return WeightedRanking(
            gained=self._groups.fraud_weight(ordered),
            above=running[self._groups.begin],
            alerts=running[self._groups.end],
            total=float(running[-1]),
        )


@dataclass(frozen=True, slots=True)
class WeightedRanking:
    """What the ranking metrics need, one entry per tie group that holds a fraud, from the highest score down.

    Attributes:
        gained: Weight of the group's frauds [groups].
        above: Weight of all rows that score higher [groups].
        alerts: Weight of all rows that score at least as high, the alerts of a threshold there [groups].
        total: Weight of all rows.
    """

    gained: FloatArray
    above: FloatArray
    alerts: FloatArray
    total: float

    def average_precision(self) -> float:
        """Sum over groups of (recall gained) x (precision there)."""
        caught = np.cumsum(self.gained)
        # A group that was not drawn at all weighs 0 and adds 0; only its 0 / 0 must be avoided.
        share = np.divide(self.gained, self.alerts, out=np.zeros_like(self.gained), where=self.alerts > 0)
        return float(share @ caught) / float(caught[-1])

    def roc_auc(self) -> float:
        """Genuine weight below each fraud, ties counted one half, over all pairs."""
        caught = np.cumsum(self.gained)
        frauds = float(caught[-1])
        genuine_above = self.above - (caught - self.gained)
        genuine_to_here = self.alerts - caught
        genuine = self.total - frauds
        below = genuine - (genuine_above + genuine_to_here) / 2
        return float(self.gained @ below) / (frauds * genuine)

    # For a fixed number of caught frauds both measures fall with every further alert, so their maximum lies at a
    # group that holds a fraud, or at alert-nothing, where both are 0.
    def best_kappa(self) -> float:
        """Largest kappa over the thresholds."""
        caught = np.cumsum(self.gained)
        frauds = float(caught[-1])
        disagreement = self.alerts + frauds - 2 * caught
        by_chance = (self.alerts * (self.total - frauds) + (self.total - self.alerts) * frauds) / self.total
        return max(0.0, float(np.max(1 - disagreement / by_chance)))

    def best_f1(self) -> float:
        """Largest F1 over the thresholds."""
        caught = np.cumsum(self.gained)
        return float(np.max(2 * caught / (self.alerts + float(caught[-1]))))


def rows_of_budget(fraud: BoolArray, on_whole_day: BoolArray | None) -> BoolArray:
    """Return which rows the metrics of a daily budget are computed on [n].

    These are the rows on whole days; on the first minutes of a day a whole day's budget catches everything. If no whole
    day has a fraud, it is all rows: a metric of parts of days is better than none, and a report says so.

    Args:
        fraud: Labels [n].
        on_whole_day: Whether the rows hold the whole day of a row [n]; None: of all rows.
    """
    if on_whole_day is None or not (fraud & on_whole_day).any():
        return np.ones(len(fraud), dtype=bool)
    return on_whole_day


class DailyRanking:
    """Rows sorted once by day and falling score, for the metrics of a daily alert budget.

    Args:
        fraud: Labels [n] bool.
        score: Scores [n] float64.
        days: Day number of each row [n].
    """

    def __init__(self, fraud: BoolArray, score: FloatArray, days: Array) -> None:
        self._order = np.lexsort((-score, days))
        new_day = _changes(days[self._order])
        self._groups = FraudGroups(fraud[self._order], new_day | _changes(score[self._order]))
        self._day_begin = np.flatnonzero(new_day)
        self._day_end = np.append(self._day_begin[1:], len(fraud))
        self._day_of_group = np.searchsorted(self._day_begin, self._groups.begin, side="right") - 1

    def at_budget(self, k: int, weights: FloatArray) -> tuple[float, float]:
        """Precision@k (mean over days) and recall@k (over all frauds) under row weights [n]."""
        return self.by_day(k, weights).figures(np.ones(len(self._day_begin)))

    def by_day(self, k: int, weights: FloatArray) -> DailyAlerts:
        """Count each day's alerts under row weights [n]: copies of a row compete for its day's budget."""
        ordered = weights[self._order]
        running = np.concatenate(([0.0], np.cumsum(ordered)))
        gained = self._groups.fraud_weight(ordered)
        above = running[self._groups.begin] - running[self._day_begin][self._day_of_group]
        size = running[self._groups.end] - running[self._groups.begin]
        room = np.clip(k - above, 0.0, size)
        caught = np.divide(gained * room, size, out=np.zeros_like(gained), where=size > 0)
        days = len(self._day_begin)
        return DailyAlerts(
            alerts=np.minimum(k, running[self._day_end] - running[self._day_begin]),
            caught=np.bincount(self._day_of_group, weights=caught, minlength=days).astype(np.float64),
            frauds=np.bincount(self._day_of_group, weights=gained, minlength=days).astype(np.float64),
        )

    @property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """Position of one row of each day [days]."""
        return self._order[self._day_begin]


@dataclass(frozen=True, slots=True)
class DailyAlerts:
    """Alerts of each day, caught frauds among them, and all frauds [days]; rows that tie at the edge count in part."""

    alerts: FloatArray
    caught: FloatArray
    frauds: FloatArray

    def figures(self, copies: FloatArray) -> tuple[float, float]:
        """Precision@k (mean over days) and recall@k (over all frauds), each day taken `copies` [days] times."""
        copies = copies * (self.alerts > 0)  # a day without rows is not a day without success
        daily = np.divide(self.caught, self.alerts, out=np.zeros_like(self.caught), where=self.alerts > 0)
        return float(copies @ daily / copies.sum()), float(copies @ self.caught / (copies @ self.frauds))


def _changes(values: Array) -> BoolArray:
    # True where a value differs from the one before it, and at the first.
    return np.concatenate(([True], values[1:] != values[:-1]))
