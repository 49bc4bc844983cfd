"""Both sides of a gate on the same rows, and what is measured of them.

What belongs here: the measurements, each as one call of `evaluation`. What does not: choosing rows and scores
(`comparison`), the decision (`gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from mlops_assets.data.days import day_numbers, day_start
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.bootstrap import Comparison, Contender, Gain, compare
from mlops_assets.evaluation.evidence import e_value
from mlops_assets.evaluation.explanations import Contributions, contributions
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.reason_overlap import median_overlap
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.evaluation.slices import Mask, SliceGain, bands, hours_of_day, slice_gains, values_of
from mlops_assets.registry.gate_evidence import Counted, Evidence
from mlops_assets.training.categories import for_model
from mlops_assets.training.matrix import event_seconds

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.registry.gate_rule import GateRule
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.training.matrix import Matrix

_RANKING: Final = "average_precision"
_EXPLAINED: Final = 500
_SECONDS_PER_HOUR: Final = 3_600


@dataclass(frozen=True)
class Pair:
    """A candidate and the champion on rows that neither has seen.

    Attributes:
        rows: The rows.
        candidate: What stands for the candidate.
        champion: The champion.
        design: How intervals are made.
    """

    rows: Rows
    candidate: Contender
    champion: Contender
    design: Design

    def compared(self, levels: Mapping[str, float]) -> Comparison:
        """Return the gains on all rows, at a level of their own for some; EvaluationError as in `compare`."""
        return compare(self.rows, candidate=self.candidate, baseline=self.champion, design=self.design, levels=levels)

    def sliced(self, parts: Mapping[str, Mask], min_frauds: int) -> Sequence[SliceGain]:
        """Return the gains in parts of the rows; EvaluationError as in `compare`."""
        return slice_gains(
            self.rows,
            parts,
            candidate=self.candidate,
            baseline=self.champion,
            design=self.design,
            min_frauds=min_frauds,
        )

    def counted(self, earlier: Evidence, at: npt.NDArray[np.float64], on_all: Gain, rule: GateRule) -> Counted | None:
        """Return what these rows add to the evidence; None while there are too few that no gate has used.

        Args:
            earlier: Of the gates before this one.
            at: Event time of each row, in seconds [n].
            on_all: The gain on all rows.
            rule: How many frauds a comparison takes, and which gain counts.

        Raises:
            EvaluationError: As in `compare`.
        """
        if earlier.mine is not None:
            return earlier.mine
        fresh = at > earlier.until
        if int(self.rows.y[fresh].sum()) < rule.min_unseen_frauds:
            return None
        gain = on_all
        if not fresh.all():
            new, old = (Contender(side.scores[fresh], side.threshold) for side in (self.candidate, self.champion))
            rows = self.rows.where(fresh)
            gain = compare(rows, candidate=new, baseline=old, design=self.design, wanted=(_RANKING,)).gains[_RANKING]
        return Counted(earlier.champion, earlier.reign, e_value(gain, rule.min_gain), float(at.max()))

    @property
    def highest(self) -> npt.NDArray[np.int64]:
        """Positions of the rows with the highest scores, ascending: the ones whose reasons are compared."""
        together = np.asarray(self.candidate.scores, dtype=np.float64) + self.champion.scores
        return np.sort(np.argsort(-together, kind="stable")[:_EXPLAINED])


def reasons_in_common(new: VerifiedModel, old: VerifiedModel, rows: Matrix) -> float:
    """Return the median share of top reasons that two versions have in common.

    Args:
        new: The candidate's version, which is what would be served.
        old: The champion's.
        rows: The rows, `Pair.highest`.
    """
    return median_overlap(_reasons(new, rows), _reasons(old, rows))


def parts_of(
    table: pa.Table, contract: Contract, rule: GateRule, amounts: npt.NDArray[np.float64] | None
) -> dict[str, Mask]:
    """Return the parts of the rows that are judged by themselves.

    Args:
        table: Event time and the rule's columns of the rows, in their order.
        contract: Roles of the columns.
        rule: Which columns make parts.
        amounts: Amount of each row [n], or None.
    """
    at = event_seconds(table.column(contract.event_time))
    days = day_numbers(at, contract.time_zone)
    starts = {day: day_start(day, contract.time_zone) for day in np.unique(days).tolist()}
    since = at - np.array([starts[day] for day in days.tolist()])
    parts = {} if amounts is None else bands("amount", amounts)
    parts |= hours_of_day(np.minimum(since // _SECONDS_PER_HOUR, 23).astype(np.int64))
    for name in rule.slice_columns:
        parts |= values_of(name, _values(table.column(name)))
    return parts


def require_columns(rule: GateRule, contract: Contract) -> None:
    """Refuse a rule that names a column which the contract does not have; raises EvaluationError."""
    known = {column.name for column in contract.columns}
    if unknown := sorted(set(rule.slice_columns) - known):
        raise EvaluationError(
            f"slice_columns {', '.join(unknown)}: no such column",
            where="gate configuration",
            fix=f"the contract has {', '.join(sorted(known))}",
        )


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    return np.asarray((column.cast(pa.float64()) if pa.types.is_boolean(column.type) else column).to_pandas())


def _reasons(model: VerifiedModel, rows: Matrix) -> Contributions:
    features = model.booster.feature_names or []
    mine = rows.in_columns(features)
    return contributions(model.booster, for_model(model.booster, mine.X, mine.features, mine.levels), features)
