"""When a trial that is under way has lost: the rules of early stopping and of pruning, on plain curves.

What belongs here: decisions from numbers. What does not: where the numbers come from (`trial`), hyperopt, Spark.

A curve is what a growing model was worth at its checkpoints: (trees, loss) with trees ascending, at least one, and
losses that are finite and better when smaller.

Pruning is the median stopping rule of Google Vizier (Golovin et al. 2017, "Google Vizier: A Service for Black-Box
Optimization", section 3.2.2): a trial ends when the best it has come to is strictly worse than the median of the
finished trials at the same number of trees. Vizier takes the median of their running *averages*; here it is that of
their running bests, like against like, because early stopping keeps a trial's best checkpoint and not its average.
The rule knows nothing of curves that cross: a slow learner that would have won late can be lost to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Curve = Sequence[tuple[int, float]]

# The median of fewer says little: a good trial would be ended because the first two happened to be better still.
FINISHED_BEFORE_PRUNING = 5


@dataclass(frozen=True)
class PruningThresholds:
    """What a trial must have come to: after so many trees, a loss at most so large; sent along with each new trial.

    Attributes:
        rounds: Trees, ascending; each bar holds until the next. Empty: nothing is pruned.
        losses: The bars, one for each entry of `rounds`.
    """

    rounds: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()

    def at(self, rounds: int) -> float | None:
        """Return the bar after so many trees, or None before the first."""
        place = bisect_right(self.rounds, rounds)
        return self.losses[place - 1] if place else None


def median_thresholds(curves: Sequence[Curve], minimum: int = FINISHED_BEFORE_PRUNING) -> PruningThresholds:
    """Return the medians of the running bests of finished trials.

    A curve that has ended counts on with its best, which is what that trial has to offer; one that has not begun does
    not count.

    Args:
        curves: Curves of finished trials, in any order; those of pruned trials would bend the bars.
        minimum: Curves that must have begun for there to be a bar.
    """
    if len(curves) < minimum:
        return PruningThresholds()
    rounds = np.unique([trees for curve in curves for trees, _ in curve])
    bests = np.full((len(curves), len(rounds)), np.inf)
    for row, curve in zip(bests, curves, strict=True):
        row[np.searchsorted(rounds, [trees for trees, _ in curve])] = [loss for _, loss in curve]
    bests = np.sort(np.minimum.accumulate(bests, axis=1), axis=0)  # what has not begun is infinite, and comes last
    begun = np.isfinite(bests).sum(axis=0)
    rounds, bests, begun = (kept[..., begun >= minimum] for kept in (rounds, bests, begun))
    columns = np.arange(len(rounds))
    medians = (bests[(begun - 1) // 2, columns] + bests[begun // 2, columns]) / 2
    return PruningThresholds(tuple(rounds.tolist()), tuple(medians.tolist()))


def is_due(rounds: int, last: int, every: int) -> bool:
    """Return whether a model is looked at after so many trees: every so often, and when it has all of them."""
    return rounds % every == 0 or rounds == last


def best_checkpoint(curve: Curve) -> tuple[int, float]:
    """Return trees and loss of the best checkpoint; of equals the smallest model."""
    return min(curve, key=lambda point: (point[1], point[0]))


def is_stale(curve: Curve, patience: int) -> bool:
    """Return whether the last `patience` trees or more brought nothing better; 0 means never."""
    return patience > 0 and curve[-1][0] - best_checkpoint(curve)[0] >= patience


def is_hopeless(curve: Curve, thresholds: PruningThresholds) -> bool:
    """Return whether the best so far is strictly worse than the bar."""
    bar = thresholds.at(curve[-1][0])
    return bar is not None and best_checkpoint(curve)[1] > bar
