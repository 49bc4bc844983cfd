"""What the promotion gate asks for: its settings, each with its default and its range.

What belongs here: the settings. What does not: the decision (`gate`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mlops_assets.errors import EvaluationError

_LOWEST: Final = {
    "min_gain": 0,
    "min_unseen_frauds": 1,
    "gates_a_year": 1,
    "replace_after_days": 0,
    "approvals": 0,
    "average_precision_margin": 0,
    "brier_margin": 0,
    "calibration_margin": 0,
    "precision_margin": 0,
    "money_margin": 0,
    "slice_margin": 0,
    "min_slice_frauds": 2,
    "min_reason_overlap": 0,
}


@dataclass(frozen=True)
class GateRule:
    """The requirements for a champion.

    Attributes:
        min_lift: Average precision on the candidate's test rows must be at least this many times the fraud rate (the
            average precision of a random model).
        beat_simple_scores: Whether a first version must be better than the amount alone and than logistic regression,
            as far as chance lets one tell.
        min_gain: The lower end of the gain in average precision must be above this.
        false_promotions: Chance that a year of gates promotes any model that is no better than the champion.
        gates_a_year: How many gates share it.
        min_unseen_frauds: With fewer frauds among the rows that neither model has seen, the gate can't tell.
        average_precision_margin: By how much a refresh, which need not be better, may be worse, absolute.
        brier_margin: By how much the Brier score may be worse, as a share of the champion's.
        calibration_margin: By how much the calibration error may be worse, as a share of the fraud rate.
        precision_margin: By how much the precision on the daily alert budget may be worse, absolute.
        money_margin: By how much less money may be saved, as a share of the fraudulent money.
        slice_margin: By how much average precision may be worse in a part of the rows, absolute.
        min_slice_frauds: Parts with fewer frauds are not judged.
        slice_columns: Columns of the contract whose values are parts, beside bands of amounts and hours of the day.
        min_reason_overlap: Median share of top-3 reasons that both models must have in common; 0 asks for nothing.
        replace_after_days: If the gate can't tell, a champion that was registered longer ago than this is replaced; 0
            keeps it.
        approvals: How many persons must approve a candidate that passed before it becomes champion.
    """

    min_lift: float = 3.0
    beat_simple_scores: bool = True
    min_gain: float = 0.0
    false_promotions: float = 0.05
    gates_a_year: int = 52
    min_unseen_frauds: int = 30
    average_precision_margin: float = 0.05
    brier_margin: float = 0.1
    calibration_margin: float = 0.25
    precision_margin: float = 0.05
    money_margin: float = 0.1
    slice_margin: float = 0.2
    min_slice_frauds: int = 50
    slice_columns: tuple[str, ...] = ()
    min_reason_overlap: float = 0.3
    replace_after_days: float = 0.0
    approvals: int = 0

    def __post_init__(self) -> None:
        if not self.min_lift >= 1:
            raise _out_of_range(f"min_lift {self.min_lift} would accept a random model", "choose 1 or more")
        if not 0 < self.false_promotions < 1:
            wanted = "choose a chance between 0 and 1, such as 0.05"
            raise _out_of_range(f"false_promotions {self.false_promotions}", wanted)
        for name, low in _LOWEST.items():
            if not low <= getattr(self, name) < math.inf:  # this also rejects NaN
                raise _out_of_range(f"{name} {getattr(self, name)}", f"choose {low} or more")
        if self.min_reason_overlap > 1:
            raise _out_of_range(f"min_reason_overlap {self.min_reason_overlap}", "choose a share of reasons, at most 1")

    @property
    def level(self) -> float:
        """Level of the two-sided interval of one gate's gain: the gates share one half of the chance.

        The interval's lower end is above the truth with half of what the level leaves.
        """
        return 1 - self.false_promotions / self.gates_a_year

    @property
    def evidence_needed(self) -> float:
        """Evidence of all gates together that promotes: it is reached by chance with the other half of the chance."""
        return 2 / self.false_promotions


def _out_of_range(what: str, fix: str) -> EvaluationError:
    return EvaluationError(what, where="gate configuration", fix=fix)
