"""Which hyperparameter mattered in a search: functional ANOVA of a random forest fitted to its trials.

What belongs here: the decomposition. What does not: the picture of it (`plots_search`), importance of the model's
features (`evaluation.plots.curves.feature_importance`).

Hutter, Hoos and Leyton-Brown (2014), "An Efficient Approach for Assessing Hyperparameter Importance": a tree's
prediction is constant on boxes, so its mean over all other parameters, as a function of one, can be summed exactly
instead of sampled. The share of the variance over the search space that this function has is the importance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.training.records import TrialRecord
    from mlops_assets.training.space import SearchSpace

FEWEST_TRIALS = 10
_TREES = 64
_FEWEST_TRIALS_IN_A_LEAF = 2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Importance of the parameters of a search.

    Attributes:
        share: Of each tuned parameter, by name: the share of the objective's variance over the search space that it
            explains alone, in [0, 1].
        spread: Standard deviation of each share over the trees of the forest.
        together: The share that only several parameters explain together, and what the forest can't assign.
        trials: Finished trials that the forest saw.
    """

    share: dict[str, float]
    spread: dict[str, float]
    together: float
    trials: int


def parameter_importance(trials: Sequence[TrialRecord], space: SearchSpace, *, seed: int) -> Importance | None:
    """Return which parameters the objective depended on.

    Only finished trials count: the value of a pruned one is that of a smaller model.

    Args:
        trials: All trials.
        space: What was searched; fixed parameters have no importance.
        seed: Seed of the forest; the same trials and seed give the same shares.

    Returns:
        The shares, or None when there are fewer than `FEWEST_TRIALS` finished trials, nothing was tuned, or all values
        are the same.
    """
    bounds = {name: (low, high) for name, (low, high) in space.as_dict().items() if low < high}
    finished = [trial for trial in trials if trial.state == "finished"]
    value = np.array([trial.value for trial in finished], dtype=np.float64)
    if len(finished) < FEWEST_TRIALS or not bounds or np.ptp(value) == 0:
        return None
    unit = np.array(
        [[_unit(trial.point.as_dict()[name], *ends) for name, ends in bounds.items()] for trial in finished]
    )
    forest = RandomForestRegressor(
        _TREES, min_samples_leaf=_FEWEST_TRIALS_IN_A_LEAF, max_features=1.0, random_state=seed, n_jobs=1
    ).fit(unit, value)
    shares = [found for tree in forest.estimators_ if (found := _shares(tree.tree_, len(bounds))) is not None]
    if not shares:
        return None
    mean, spread = np.mean(shares, axis=0), np.std(shares, axis=0)
    return Importance(
        share=dict(zip(bounds, mean.tolist(), strict=True)),
        spread=dict(zip(bounds, spread.tolist(), strict=True)),
        together=max(0.0, 1.0 - float(mean.sum())),
        trials=len(finished),
    )


def _unit(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _shares(tree: Any, dimensions: int) -> Floats | None:
    """Return the share of each dimension in one tree's variance over the unit cube; None for a tree that is flat."""
    low, high, value = _boxes(tree, dimensions)
    width = high - low
    volume = width.prod(axis=1)
    mean = float(volume @ value)
    variance = float(volume @ (value - mean) ** 2)
    if variance <= 0:
        return None
    return np.array([_marginal_variance(low[:, d], high[:, d], volume, value, mean) for d in range(dimensions)]) / (
        variance
    )


def _marginal_variance(low: Floats, high: Floats, volume: Floats, value: Floats, mean: float) -> float:
    """Return the variance of a tree's mean over all dimensions but one, which its boxes cut at `low` and `high`."""
    cuts = np.unique(np.concatenate([low, high]))
    middle, length = (cuts[:-1] + cuts[1:]) / 2, np.diff(cuts)
    covers = (low[None, :] < middle[:, None]) & (middle[:, None] < high[None, :])
    marginal = covers @ (value * volume / (high - low))
    return float(length @ (marginal - mean) ** 2)


def _boxes(tree: Any, dimensions: int) -> tuple[Floats, Floats, Floats]:
    """Return the lower corners, the upper corners [leaves, dimensions] and the values [leaves] of a tree's leaves."""
    lows, highs, values = [], [], []
    waiting = [(0, np.zeros(dimensions), np.ones(dimensions))]
    while waiting:
        node, low, high = waiting.pop()
        if tree.children_left[node] == tree.children_right[node]:
            lows.append(low)
            highs.append(high)
            values.append(float(tree.value[node].item()))
            continue
        feature, cut = tree.feature[node], tree.threshold[node]
        below, above = high.copy(), low.copy()
        below[feature] = above[feature] = cut
        waiting += [(tree.children_left[node], low, below), (tree.children_right[node], above, high)]
    return np.array(lows), np.array(highs), np.array(values)
