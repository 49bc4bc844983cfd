"""Bags: the clusters that the replicates of a large set are drawn from, instead of all.

What belongs here: when and how large, and the draws. What does not: metrics (`scorer`), what is made of them
(`bootstrap`).

This is the bag of little bootstraps (Kleiner, Talwalkar, Sarkar and Jordan, "A scalable bootstrap for massive data",
Journal of the Royal Statistical Society B 76, 2014). A bag holds some of the clusters, chosen without replacement. A
replicate draws from it, with replacement, as many clusters as there are in all. It so has the weight of all rows, and
the spread of a metric on all rows, but costs no more time and memory than the bag's rows. The spread is taken within
each bag, about the metric on the bag itself, and a few bags are taken together.

A bag must tell enough about each metric: it holds clusters that tell as much as CLUSTERS equally large ones
(`Support.effective`), and ALERTS rows for each day's budget. Where that takes more than half of the clusters, as with
days, replicates are drawn from all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from mlops_assets.evaluation.clusters import accepted
from mlops_assets.evaluation.ranking import FloatArray

# By 0.24 microseconds a row and replicate, up to here 500 replicates of two models take four minutes.
ROWS_WITHOUT_BAGS = 2_000_000
# By the same, 500 replicates of two models take a minute, however many rows there are.
BAG_ROWS = 500_000
# Together they know the spread as well as 5 x CLUSTERS clusters do.
BAGS: Final = 5
# A bag's spread is about 1 / (2 x CLUSTERS) too small: 1 %.
CLUSTERS: Final = 50
# The fewer rows a bag has for a day's list, the more copies of one row fill it, and the wider is the interval of a gain
# in precision on the budget: measured 1.9 times as wide as it should be with 5 rows, 1.3 with 10, 1.1 with 25.
ALERTS: Final = 25
_HALF: Final = 0.5


def share_of_bag(rows: int, effective: float, alerts_per_day: int) -> float:
    """Return the share of the clusters that a bag takes; 1 where replicates are drawn from all rows.

    Args:
        rows: Number of rows.
        effective: Effective number of clusters behind the metric that has the fewest (`Support.effective`).
        alerts_per_day: Daily budget.
    """
    if rows <= ROWS_WITHOUT_BAGS:
        return 1.0
    share = max(BAG_ROWS / rows, CLUSTERS / max(effective, 1.0), ALERTS / alerts_per_day)
    return share if share <= _HALF else 1.0


def bags(
    clusters: int, share: float, seed: int, defined: Callable[[FloatArray], bool]
) -> Iterator[tuple[FloatArray, int]]:
    """Yield BAGS bags, as 1 for each cluster that is in and 0 for others [clusters], and how many draws each took.

    Args:
        clusters: Number of clusters.
        share: Share of them in a bag.
        seed: Seed of numpy's default generator.
        defined: Tells whether the metrics are defined on a bag; if not, it is drawn again.

    Raises:
        EvaluationError: As `clusters.accepted`.
    """

    def draw(generator: np.random.Generator) -> FloatArray:
        inside = np.zeros(clusters)
        inside[generator.choice(clusters, max(1, round(share * clusters)), replace=False, shuffle=False)] = 1.0
        return inside

    return accepted(draw, BAGS, seed, defined)


def draws_from_bag(
    held: int, clusters: int, replicates: int, seed: tuple[int, int], defined: Callable[[FloatArray], bool]
) -> Iterator[tuple[FloatArray, int]]:
    """Yield, per replicate, how often each cluster of a bag was drawn [held], and how many draws that took.

    Args:
        held: Clusters in the bag.
        clusters: Clusters in all, which is how many are drawn.
        replicates: Number of resamples.
        seed: Of all bags, and number of this one.
        defined: Tells whether the metrics are defined for these counts; if not, the draw is repeated.

    Raises:
        EvaluationError: As `clusters.accepted`.
    """

    def draw(generator: np.random.Generator) -> FloatArray:
        return generator.multinomial(clusters, np.full(held, 1 / held)).astype(np.float64)

    return accepted(draw, replicates, seed, defined)
