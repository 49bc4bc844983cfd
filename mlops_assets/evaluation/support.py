"""What clusters hold that metrics rest on, whatever a model makes of their rows.

What belongs here: whether metrics are defined when some clusters are taken, and how many clusters tell about them. What
does not: clusters (`clusters`), metrics (`scorer`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlops_assets.evaluation.cards import unknown_rows
from mlops_assets.evaluation.clusters import Clusters
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray, rows_of_budget
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.evaluation.threshold import checked_amounts


@dataclass(frozen=True, slots=True)
class Support:
    """Sums of each cluster.

    Attributes:
        rows: Rows [clusters].
        needed: What metrics are not defined without [kinds, clusters]: frauds, those that the daily budget counts, and
            amounts of frauds if there are amounts.
        unknown: Frauds of unknown cards [clusters], which a resample may lack; None if no metric counts them.
    """

    rows: FloatArray
    needed: FloatArray
    unknown: FloatArray | None = None

    @classmethod
    def of(cls, rows: Rows, clusters: Clusters, fraud: BoolArray) -> Support:
        """Sum over clusters; `fraud` are the labels [n]. EvaluationError if amounts are invalid."""
        counted = rows_of_budget(fraud, rows.on_whole_day)

        def sums(at: BoolArray, weights: Array | None = None) -> FloatArray:
            return np.bincount(clusters.codes[at], weights, clusters.count).astype(np.float64)

        needed = [sums(fraud), sums(fraud & counted)]
        if rows.amounts is not None:
            needed.append(sums(fraud, checked_amounts(rows.amounts, len(fraud))[fraud]))
        unknown = None
        if rows.entities is not None and rows.past is not None:
            found = fraud & counted & unknown_rows(fraud, rows.days, rows.entities, rows.past)
            unknown = sums(found) if found.any() else None
        return cls(np.bincount(clusters.codes, minlength=clusters.count).astype(np.float64), np.stack(needed), unknown)

    def part(self, inside: BoolArray) -> Support:
        """Return the sums of some clusters; `inside` [clusters]."""
        unknown = None if self.unknown is None else self.unknown[inside]
        return Support(self.rows[inside], self.needed[:, inside], unknown)

    @property
    def effective(self) -> float:
        """Number of equally large clusters that would tell as much, as `Clusters.effective`; of the metric with fewest.

        Metrics of money rest on amounts, and those on unknown cards on the frauds of these.
        """
        kinds = self.needed if self.unknown is None else np.vstack([self.needed, self.unknown])
        squares = np.maximum((kinds**2).sum(axis=1), np.finfo(np.float64).tiny)
        return float((kinds.sum(axis=1) ** 2 / squares).min())

    def defined(self, copies: FloatArray) -> bool:
        """Return whether all metrics are defined, except those on unknown cards; `copies` [clusters]."""
        needed = self.needed @ copies
        return bool((needed > 0).all() and needed[0] < self.rows @ copies)

    def all_defined(self, copies: FloatArray) -> bool:
        """Return whether all metrics are defined; `copies` [clusters]."""
        return self.defined(copies) and (self.unknown is None or bool(self.unknown @ copies > 0))
