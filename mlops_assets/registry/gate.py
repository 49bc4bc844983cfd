"""The promotion gate: whether a candidate may replace the champion.

What belongs here: the rule, as a pure function of measured values. What does not: measuring them, MLflow, Dagster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError

PROMOTION_GATE = "promotion_gate"


@dataclass(frozen=True)
class GateRule:
    """The requirements for a champion.

    Attributes:
        min_lift: Test average precision must be at least this many times the fraud rate (the average precision of a
            random model).
    """

    min_lift: float = 3.0

    def __post_init__(self) -> None:
        if not self.min_lift >= 1:
            raise EvaluationError(
                f"min_lift {self.min_lift} would accept a random model",
                where="gate configuration",
                fix="choose 1 or more",
            )


def judge_promotion(
    rule: GateRule, *, candidate: float, fraud_rate: float, champion: float | None, champion_name: str
) -> CheckOutcome:
    """Decide whether the candidate becomes champion.

    A rejected candidate is a normal outcome, of severity `warn`; metrics that are not finite are an error.

    Args:
        rule: The requirements.
        candidate: The candidate's average precision on the test rows.
        fraud_rate: Share of frauds in the test rows.
        champion: The current champion's average precision on the same rows; None when there is no champion.
        champion_name: Name of the champion for messages, empty when there is none.
    """
    measured = [candidate, fraud_rate] if champion is None else [candidate, fraud_rate, champion]
    floor = rule.min_lift * fraud_rate
    failures = []
    if not candidate >= floor:
        failures.append(f"average precision {candidate:.4f} is below {rule.min_lift:g} x the fraud rate = {floor:.4f}")
    if champion is not None and not candidate >= champion:
        failures.append(f"average precision {candidate:.4f} is below {champion_name}'s {champion:.4f} on the same rows")
    against = f"{champion_name} {champion:.4f}" if champion is not None else "no champion yet"
    description = f"average precision {candidate:.4f} (floor {floor:.4f}, {against})"
    broken = not all(map(math.isfinite, measured))
    if broken:
        description += ": not all of these are finite numbers, so the gate can't decide"
    elif failures:
        description = "; ".join(failures) + ": stays challenger"
    details: dict[str, str | int | float] = {"candidate": candidate, "fraud_rate": fraud_rate, "floor": floor}
    if champion is not None:
        details |= {"champion": champion, "champion_name": champion_name}
    return CheckOutcome(
        PROMOTION_GATE,
        passed=not broken and not failures,
        description=description,
        details=details,
        severity="error" if broken else "warn",
    )
