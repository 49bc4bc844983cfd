"""The promotion gate: may a candidate replace the champion?

What belongs here: the rule, as a pure function of measured values. What does not: measuring them, MLflow, Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError

PROMOTION_GATE = "promotion_gate"


@dataclass(frozen=True)
class GateRule:
    """What a champion must show.

    Attributes:
        min_lift: Test average precision must be at least this many times the fraud rate (which is what a model
            that knows nothing reaches).
    """

    min_lift: float = 3.0

    def __post_init__(self) -> None:
        if not self.min_lift >= 1:
            raise EvaluationError(
                f"min_lift {self.min_lift} would let a coin pass", where="gate configuration", fix="choose 1 or more"
            )


def judge_promotion(
    rule: GateRule, *, candidate: float, fraud_rate: float, champion: float | None, champion_name: str
) -> CheckOutcome:
    """Decide whether the candidate becomes champion.

    Args:
        rule: What is asked.
        candidate: Its average precision on the test rows.
        fraud_rate: Share of frauds in the test rows.
        champion: The present champion's average precision on the same rows; None when there is no champion.
        champion_name: How to call it, empty when there is none.
    """
    floor = rule.min_lift * fraud_rate
    refused = []
    if not candidate >= floor:  # a NaN is refused, too
        refused.append(f"average precision {candidate:.4f} is below {rule.min_lift:g} x the fraud rate = {floor:.4f}")
    if champion is not None and not candidate >= champion:
        refused.append(f"average precision {candidate:.4f} is below {champion_name}'s {champion:.4f} on the same rows")
    against = f"{champion_name} {champion:.4f}" if champion is not None else "no champion yet"
    passed_text = f"average precision {candidate:.4f} (floor {floor:.4f}, {against})"
    details: dict[str, str | int | float] = {"candidate": candidate, "fraud_rate": fraud_rate, "floor": floor}
    if champion is not None:
        details |= {"champion": champion, "champion_name": champion_name}
    return CheckOutcome(
        PROMOTION_GATE,
        passed=not refused,
        description="; ".join(refused) + ": stays challenger" if refused else passed_text,
        details=details,
    )
