"""Which rows are resampled together, and how often each cluster is drawn.

What belongs here: clusters of rows, their effective number, and the draws of a bootstrap. What does not: metrics
(`scorer`), intervals from their replicates (`intervals`).

Frauds come in series: one compromised card yields several, and they score alike. A bootstrap that draws rows treats
them as independent and is far too narrow, so whole clusters are drawn (Davison and Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.metrics import refuse
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray

Unit = Literal["entity", "day", "row"]

# Fewer days say too little about how much days differ.
MIN_DAYS = 5
# A given cluster is missing from about 37 % of the draws; 100 draws in a row without any fraud are a bug.
MAX_DRAWS_PER_REPLICATE = 100


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of the rows.

    Attributes:
        unit: What a cluster is: an entity (card, customer), a day, or a single row.
        codes: Cluster of each row [n] int64, numbered from 0 in the order of their first rows.
        count: Number of clusters.
    """

    unit: Unit
    codes: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, days: Array, entities: Array | None) -> Clusters:
        """Choose the clusters: entities; days where there are none; rows if there are fewer than MIN_DAYS days.

        Args:
            days: Day number of each row [n].
            entities: Id of each row's entity [n], any dtype that can be sorted, or None.

        Raises:
            EvaluationError: There is not one entity per day.
        """
        if entities is not None:
            if entities.shape != days.shape:
                refuse(
                    f"entities of shape {entities.shape} for {len(days)} rows",
                    where="entities",
                    fix="pass one id per row, or None",
                )
            return cls("entity", *_numbered(entities))
        codes, count = _numbered(days)
        if count >= MIN_DAYS:
            return cls("day", codes, count)
        return cls("row", np.arange(len(days)), len(days))

    def effective(self, fraud: BoolArray) -> float:
        """Return the number of equally large clusters that would tell as much as those that hold frauds.

        It is (sum of f)^2 / (sum of f^2) over the clusters' numbers of frauds f (Kish 1965), at least 1. Carter,
        Schnepel and Steigerwald, "Asymptotic behavior of a t-test robust to cluster heterogeneity" (Review of Economics
        and Statistics 2017), show that such a number, not that of the clusters, sets the degrees of freedom.

        Args:
            fraud: Labels [n] bool, with at least one fraud.
        """
        frauds = np.bincount(self.codes[fraud]).astype(np.float64)
        return float(frauds.sum() ** 2 / (frauds @ frauds))

    def part(self, inside: BoolArray) -> Clusters:
        """Return the rows of some clusters as a partition of their own, in the same order; `inside` [clusters]."""
        return Clusters(self.unit, (np.cumsum(inside) - 1)[self.codes[inside[self.codes]]], int(inside.sum()))

    def with_fraud(self, fraud: BoolArray) -> int:
        """Return how many clusters hold a fraud."""
        return len(np.unique(self.codes[fraud]))


def draws(
    clusters: int, replicates: int, seed: int, defined: Callable[[FloatArray], bool]
) -> Iterator[tuple[FloatArray, int]]:
    """Yield, per replicate, how often each cluster was drawn [clusters] float64, and how many draws that took.

    As many are drawn as there are.

    Counts belong to clusters, not to scores: with the same seed, two models on the same rows get the same resamples,
    so differences between them are paired.

    Args:
        clusters: Clusters to draw from, with replacement, and drawn.
        replicates: Number of resamples.
        seed: Seed of numpy's default generator.
        defined: Tells whether the metrics are defined for these counts; if not, the draw is repeated.

    Raises:
        EvaluationError: As `accepted`.
    """

    def draw(generator: np.random.Generator) -> FloatArray:
        drawn = generator.integers(0, clusters, size=clusters)
        return np.bincount(drawn, minlength=clusters).astype(np.float64)

    return accepted(draw, replicates, seed, defined)


def accepted(
    draw: Callable[[np.random.Generator], FloatArray],
    times: int,
    seed: int | Sequence[int],
    defined: Callable[[FloatArray], bool],
) -> Iterator[tuple[FloatArray, int]]:
    """Yield so many draws on which the metrics are defined, and how many draws each took.

    Raises:
        EvaluationError: MAX_DRAWS_PER_REPLICATE draws in a row failed `defined`.
    """
    generator = np.random.default_rng(seed)
    for _ in range(times):
        for tries in range(1, MAX_DRAWS_PER_REPLICATE + 1):
            counts = draw(generator)
            if defined(counts):
                yield counts, tries
                break
        else:
            refuse(
                f"{MAX_DRAWS_PER_REPLICATE} resamples in a row on which a metric is not defined",
                fix="evaluate on a longer period with more frauds",
            )


def _numbered(values: Array) -> tuple[npt.NDArray[np.int64], int]:
    # By first appearance, so that the draws depend on the rows and not on how the ids sort.
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse], len(first)
