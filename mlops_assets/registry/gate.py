"""The promotion gate: whether a candidate may replace the champion.

What belongs here: the decision, as a pure function of measured values. What does not: the settings (`gate_rule`),
measuring (`comparison`), MLflow, Dagster.

The gate judges the procedure that made the candidate. A production model has seen every row that could judge it, so its
point stands for it, fitted on less (`comparison`). Both models are compared on rows that neither has seen, and a gain
counts once chance does not explain it: models that are equally good are told apart by chance alone.

A gate a week is 52 chances a year to promote a model that is no better. The year's chance (`false_promotions`) has two
halves. One is shared by the gates: a candidate whose own interval is above 0 at that level passes at once. The other
is for all gates against a champion together: each adds the evidence of rows that no gate before it has used
(`evaluation/evidence`), and a candidate that leads passes once that reaches `evidence_needed`. So a lead that is too
small for one gate is found by several. The hypothesis that is refuted then is that the candidates since the champion's
promotion were no better than it; that a candidate leads by itself, and passes the guards, is asked of it too.
The guards are judged at 95 %: they can only refuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.evaluation.bootstrap import Gain
from mlops_assets.evaluation.drift import FeatureDrift
from mlops_assets.evaluation.scorer import MONEY_SAVED
from mlops_assets.evaluation.slices import holm_lower_ends
from mlops_assets.registry.contest import RANKING, Contest
from mlops_assets.registry.gate_rule import GateRule

PROMOTION_GATE = "promotion_gate"
# Increase this by hand whenever the same figures lead to another decision.
GATE_RULES = 3
_GUARD_LEVEL: Final = 0.95
_NAMES: Final = {
    RANKING: "average precision",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "precision_at_budget": "precision on the alert budget",
    MONEY_SAVED: "money",
}
_STAYS = "stays challenger"

Decision = Literal["promoted", "kept", "can't tell", "broken"]


@dataclass(frozen=True)
class Verdict:
    """What the gate decides.

    Attributes:
        decision: `promoted`; `kept`: the champion stays, or there is none yet; `can't tell`: it stays for lack of
            unseen frauds; `broken`: the figures are not numbers, or the champion is not what was registered.
        reason: One line.
        details: Plain values for the metadata table.
        awaited: Approvals that a promoted candidate waits for before it becomes champion.
    """

    decision: Decision
    reason: str
    details: Mapping[str, str | int | float]
    awaited: int = 0

    @property
    def promoted(self) -> bool:
        """Whether the candidate becomes champion now."""
        return self.decision == "promoted" and not self.awaited

    def after_approval(self, approvals: int) -> Verdict:
        """Return the verdict where a candidate that passed waits for so many persons."""
        if self.decision != "promoted" or not approvals:
            return self
        waits = f"{self.reason}: passed, and waits for {approvals} approval(s), `mlops approve`"
        return replace(self, reason=waits, awaited=approvals)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the verdict as a document that strict JSON can hold."""
        details = {
            name: value if isinstance(value, str) or math.isfinite(value) else str(value)
            for name, value in self.details.items()
        }
        return {"decision": self.decision, "reason": self.reason, "details": details}

    @property
    def outcome(self) -> CheckOutcome:
        """The verdict as a check; a candidate that is not promoted is an ordinary outcome, of severity `warn`."""
        return CheckOutcome(
            PROMOTION_GATE,
            passed=self.promoted,
            description=self.reason,
            details={"decision": self.decision, **self.details},
            severity="error" if self.decision == "broken" else "warn",
        )


def judge_promotion(
    rule: GateRule,
    *,
    average_precision: float,
    judged: str,
    fraud_rate: float,
    contest: Contest | None,
    simple: Mapping[str, Gain] | None = None,
    drift: Sequence[FeatureDrift] = (),
) -> Verdict:
    """Decide whether the candidate becomes champion.

    Args:
        rule: The requirements.
        average_precision: Of the candidate, or of what stands for it, on its test rows.
        judged: What that is, for messages.
        fraud_rate: Share of frauds in the test rows.
        contest: The comparison with the champion; None when there is no champion.
        simple: Gain in average precision over simple scores on the same rows, by their names. A first version must be
            better, as far as chance lets one tell.
        drift: Of the features, from the candidate's training rows to its test rows; it is reported, and decides
            nothing.
    """
    floor = rule.min_lift * fraud_rate
    beaten = dict(simple or {}) if contest is None else {}
    details: dict[str, str | int | float] = {
        "candidate": average_precision,
        "fraud_rate": fraud_rate,
        "floor": floor,
        **{name: gain.baseline for name, gain in beaten.items()},
        **_drift_details(drift),
    }
    reached = f"average precision {average_precision:.4f}"
    measured = [average_precision, fraud_rate, *(gain.interval.high for gain in beaten.values())]
    if contest is not None:
        details |= _contest_details(rule, contest)
        measured += contest.measured
    better = [f"{gain.baseline:.4f} of {name}" for name, gain in beaten.items() if not gain.interval.high > 0]
    better = better if rule.beat_simple_scores else []
    decision: Decision
    if not all(map(math.isfinite, measured)):
        decision = "broken"
        reason = f"{reached}, fraud rate {fraud_rate:.4f}: not all figures are finite numbers, so the gate can't decide"
    elif contest is not None and contest.broken:
        decision, reason = "broken", f"{contest.broken}: nothing is compared with it, and the candidate {_STAYS}"
    elif average_precision < floor:
        decision = "kept"
        reason = f"{reached} is below {rule.min_lift:g} x the fraud rate = {floor:.4f}: {_STAYS}"
    elif better:
        decision, reason = "kept", f"{reached} is not above {' and '.join(better)}: {_STAYS}"
    elif contest is None:
        decision, reason = "promoted", f"{reached} (floor {floor:.4f}, no champion yet; judged: {judged})"
    else:
        decision, reason = _judge(rule, contest)
    return Verdict(decision, reason, details)


def already_champion(number: int) -> Verdict:
    """Return the verdict on a version that is champion."""
    return Verdict("promoted", f"version {number} is champion already", {})


def rolled_back(mark: str) -> Verdict:
    """Return the verdict on a version that a person or a monitor has rolled back.

    Args:
        mark: When and why, from the version's tag.
    """
    return Verdict("kept", f"it was rolled back ({mark}), and only `mlops rollback --to` undoes that: {_STAYS}", {})


def _judge(rule: GateRule, contest: Contest) -> tuple[Decision, str]:
    """Decide between a candidate that is good enough in itself and the champion."""
    if contest.identical:
        return "kept", f"the booster is the same as {contest.champion}'s: {_STAYS}"
    if missing := _missing(rule, contest):
        if 0 < rule.replace_after_days < contest.age_days:
            age = f"{contest.age_days:.0f} days old, more than {rule.replace_after_days:g}"
            return "promoted", f"can't tell: {missing}; {contest.champion} is {age}, and is replaced"
        return "can't tell", f"can't tell: {missing}: {_STAYS}"
    if failures := _failures(rule, contest):
        return "kept", f"{contest.sentence}: {'; '.join(failures)}: {_STAYS}"
    return "promoted", contest.sentence


def _missing(rule: GateRule, contest: Contest) -> str:
    """Return what is missing for a comparison; empty if nothing is."""
    if contest.obstacle:
        return contest.obstacle
    more = rule.min_unseen_frauds - contest.frauds
    if more <= 0:
        return ""
    return f"{more:,} more frauds needed among rows that neither {contest.champion} nor the candidate has seen"


def _failures(rule: GateRule, contest: Contest) -> list[str]:
    """Return what speaks against the candidate."""
    failures = []
    gain = contest.gains[RANKING]
    if not contest.refresh and not gain.interval.low > rule.min_gain:
        leads = gain.interval.estimate > rule.min_gain
        if not (leads and contest.evidence >= rule.evidence_needed):
            failures.append(
                f"the gain's lower end {gain.interval.low:.4f} is not above {rule.min_gain:g}, and the evidence of "
                f"{contest.gates} gate(s) is {contest.evidence:.3g}, where {rule.evidence_needed:g} is needed"
                + ("" if leads else " with a lead of its own")
            )
    rate = contest.frauds / contest.rows if contest.rows else 0.0
    margins = {
        "brier": rule.brier_margin * contest.gains["brier"].baseline if "brier" in contest.gains else 0.0,
        "calibration_error": rule.calibration_margin * rate,
        "precision_at_budget": rule.precision_margin,
        MONEY_SAVED: rule.money_margin * contest.fraud_money,
    }
    if contest.refresh:
        margins = {RANKING: rule.average_precision_margin, **margins}
    for name, margin in margins.items():
        if name in contest.gains:
            of_guard = contest.gains[name]
            low = of_guard.lower_end(_GUARD_LEVEL) if name == RANKING else of_guard.interval.low
            if low < -margin:
                failures.append(f"{_NAMES[name]}: the gain's lower end {low:.4g} is below {-margin:.4g}")
    for name, low in slice_ends(rule, contest).items():
        if not low > -rule.slice_margin:
            failures.append(f"rows of {name}: the gain's lower end {low:.4g} is not above {-rule.slice_margin:g}")
    if contest.reason_overlap is not None and contest.reason_overlap < rule.min_reason_overlap:
        shared = f"{100 * contest.reason_overlap:.0f} % of the top-3 reasons are the champion's"
        failures.append(f"{shared}, less than {100 * rule.min_reason_overlap:.0f} %")
    return failures


def slice_ends(rule: GateRule, contest: Contest) -> dict[str, float]:
    """Return the lower end of the gain in average precision in each part of the rows, by the part's name."""
    return holm_lower_ends(contest.slices, rule.slice_margin, _GUARD_LEVEL)


def _contest_details(rule: GateRule, contest: Contest) -> dict[str, str | int | float]:
    slices = {f"slice {name}, gain_low": low for name, low in slice_ends(rule, contest).items()}
    return {**contest.details, "evidence_needed": rule.evidence_needed, **slices}


def _drift_details(drift: Sequence[FeatureDrift]) -> dict[str, str | int | float]:
    if not drift:
        return {}
    names = ", ".join(f"{each.feature} {each.psi:.2f}" for each in drift if each.drifted)
    return {"drifted_features": names or "none", "largest_psi": drift[0].psi}
