"""When to stop a running trial: the rules of early stopping and of pruning, on plain curves.

What belongs here: decisions from numbers. What does not: where the numbers come from (`trial`), hyperopt, Spark.

A curve is the loss of a growing model at its checkpoints: at least one (trees, loss), trees ascending, losses finite;
a smaller loss is better.

Pruning is the median stopping rule of Google Vizier (Golovin et al. 2017, "Google Vizier: A Service for Black-Box
Optimization", section 3.2.2): a trial ends when its best loss so far is strictly worse than the median of the finished
trials at the same number of trees. Vizier uses the median of their running *averages*; here it is the median of their
running bests, because early stopping keeps a trial's best checkpoint and not its average. The rule can't foresee
curves that cross: it may stop a slow learner that would have won later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Curve = Sequence[tuple[int, float]]
# A trial's loss on one fold, and its curve there.
FoldLosses = tuple[float, Curve]

# A median of fewer trials means little: a good trial would be stopped because the first two happened to be better.
FINISHED_BEFORE_PRUNING = 5


@dataclass(frozen=True)
class PruningThresholds:
    """The largest loss allowed after a number of trees; each new trial carries its thresholds.

    Attributes:
        rounds: Trees, ascending; each threshold holds until the next. Empty: nothing is pruned.
        losses: The thresholds, one for each entry of `rounds`.
    """

    rounds: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()

    def at(self, rounds: int) -> float | None:
        """Return the threshold after `rounds` trees, or None before the first."""
        place = bisect_right(self.rounds, rounds)
        return self.losses[place - 1] if place else None


def median_thresholds(curves: Sequence[Curve], minimum: int = FINISHED_BEFORE_PRUNING) -> PruningThresholds:
    """Return the medians of the running bests of finished trials.

    A curve that has ended still counts, with its best loss; a curve that has not begun does not.

    Args:
        curves: Curves of finished trials, in any order; those of pruned trials would distort them.
        minimum: Curves that must have begun before there is a threshold.
    """
    if len(curves) < minimum:
        return PruningThresholds()
    rounds = np.unique([trees for curve in curves for trees, _ in curve])
    bests = np.full((len(curves), len(rounds)), np.inf)
    for row, curve in zip(bests, curves, strict=True):
        row[np.searchsorted(rounds, [trees for trees, _ in curve])] = [loss for _, loss in curve]
    # Curves that have not begun are infinite, and are sorted to the end.
    bests = np.sort(np.minimum.accumulate(bests, axis=1), axis=0)
    begun = np.isfinite(bests).sum(axis=0)
    rounds, bests, begun = (kept[..., begun >= minimum] for kept in (rounds, bests, begun))
    columns = np.arange(len(rounds))
    medians = (bests[(begun - 1) // 2, columns] + bests[begun // 2, columns]) / 2
    return PruningThresholds(tuple(rounds.tolist()), tuple(medians.tolist()))


def mean_curves(folds: Sequence[FoldLosses]) -> list[Curve]:
    """Return, for each fold, the mean loss over it and the folds before it, by number of trees on this fold."""
    curves: list[Curve] = []
    so_far = 0.0
    for number, (loss, curve) in enumerate(folds, 1):
        curves.append([(trees, (so_far + reached) / number) for trees, reached in curve])
        so_far += loss
    return curves


def shifts(losses: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return how much larger the mean loss over all folds is than that up to each fold: medians over finished trials.

    A trial that is pruned after an easy fold would look better to TPE than one that went on to the hard ones.

    Args:
        losses: Loss by fold of each finished trial, all of the same number of folds.

    Returns:
        One value for each fold but the last; nothing without a finished trial.
    """
    if not losses:
        return ()
    table = np.asarray(losses, dtype=np.float64)
    means = np.cumsum(table, axis=1) / np.arange(1, table.shape[1] + 1)
    return tuple(np.median(means[:, -1:] - means[:, :-1], axis=0).tolist())


def is_due(rounds: int, last: int, every: int) -> bool:
    """Return whether to evaluate a model after `rounds` trees: every `every` trees, and after the last one."""
    return rounds % every == 0 or rounds == last


def best_checkpoint(curve: Curve) -> tuple[int, float]:
    """Return trees and loss of the best checkpoint; on a tie the smallest model."""
    return min(curve, key=lambda point: (point[1], point[0]))


def is_stale(curve: Curve, patience: int) -> bool:
    """Return whether the last `patience` trees brought no improvement; 0 means never."""
    return patience > 0 and curve[-1][0] - best_checkpoint(curve)[0] >= patience


def is_hopeless(curve: Curve, thresholds: PruningThresholds) -> bool:
    """Return whether the best loss so far is strictly worse than the threshold."""
    threshold = thresholds.at(curve[-1][0])
    return threshold is not None and best_checkpoint(curve)[1] > threshold
