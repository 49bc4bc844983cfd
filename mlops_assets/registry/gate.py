"""The promotion gate: whether a candidate may replace the champion.

What belongs here: the rule, as a pure function of measured values. What does not: measuring them (`comparison`),
MLflow, Dagster.

The gate judges the procedure that made the candidate. A production model has seen every row that could judge it, so its
point stands for it, fitted on less (`comparison`). Both models are compared on rows that neither has seen, and a gain
counts once its whole interval does: models that are equally good are told apart by chance alone.

A gate a week is 52 chances a year to promote a model that is no better, so each one spends its share of a year's chance
(`false_promotions` / `gates_a_year`). A union bound it is, and not an e-value that grows from week to week: each week
judges another candidate, often against another champion, so there is no hypothesis about which evidence could add up.
The guards are judged at 95 %: they can only refuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.bootstrap import Gain
from mlops_assets.evaluation.scorer import MONEY_SAVED

PROMOTION_GATE = "promotion_gate"
# Increase this by hand whenever the same figures lead to another decision.
GATE_RULES = 2
RANKING: Final = "average_precision"
_NAMES: Final = {"brier": "Brier score", "precision_at_budget": "precision on the alert budget", MONEY_SAVED: "money"}
_STAYS = "stays challenger"

Decision = Literal["promoted", "kept", "can't tell", "broken"]


@dataclass(frozen=True)
class GateRule:
    """The requirements for a champion.

    Attributes:
        min_lift: Average precision on the candidate's test rows must be at least this many times the fraud rate (the
            average precision of a random model).
        min_gain: The lower end of the gain in average precision must be above this.
        false_promotions: Chance that a year of gates promotes any model that is no better than the champion.
        gates_a_year: How many gates share it.
        min_unseen_frauds: With fewer frauds among the rows that neither model has seen, the gate can't tell.
        brier_margin: By how much the Brier score may be worse, as a share of the champion's.
        precision_margin: By how much the precision on the daily alert budget may be worse, absolute.
        money_margin: By how much less money may be saved, as a share of the fraudulent money.
        replace_after_days: If the gate can't tell, a champion that was registered longer ago than this is replaced; 0
            keeps it.
        approvals: How many persons must approve a candidate that passed before it becomes champion.
    """

    min_lift: float = 3.0
    min_gain: float = 0.0
    false_promotions: float = 0.05
    gates_a_year: int = 52
    min_unseen_frauds: int = 30
    brier_margin: float = 0.1
    precision_margin: float = 0.05
    money_margin: float = 0.1
    replace_after_days: float = 0.0
    approvals: int = 0

    def __post_init__(self) -> None:
        if not self.min_lift >= 1:
            raise EvaluationError(
                f"min_lift {self.min_lift} would accept a random model",
                where="gate configuration",
                fix="choose 1 or more",
            )
        if not 0 < self.false_promotions < 1:
            raise EvaluationError(
                f"false_promotions {self.false_promotions}",
                where="gate configuration",
                fix="choose a chance between 0 and 1, such as 0.05",
            )
        lowest = {"min_gain": 0, "min_unseen_frauds": 1, "gates_a_year": 1, "replace_after_days": 0, "approvals": 0}
        margins = dict.fromkeys(("brier_margin", "precision_margin", "money_margin"), 0)
        for name, low in {**lowest, **margins}.items():
            if not low <= getattr(self, name) < math.inf:  # this also rejects NaN
                raise EvaluationError(
                    f"{name} {getattr(self, name)}", where="gate configuration", fix=f"choose {low} or more"
                )

    @property
    def level(self) -> float:
        """Level of the two-sided interval of the gain; its lower end is above the truth with half of the rest."""
        return 1 - 2 * self.false_promotions / self.gates_a_year


@dataclass(frozen=True)
class Contest:
    """A candidate against the champion, on rows that neither has seen.

    Attributes:
        champion: Name of the champion for messages.
        age_days: Days since it was registered.
        identical: Whether both boosters are the same.
        refresh: Whether the candidate is the champion's own point on newer rows.
        method: What stood for the candidate.
        rows: Number of unseen rows.
        frauds: Frauds among them.
        fraud_money: Sum of their amounts; 0 without amounts.
        gains: Gain by metric, as `bootstrap.compare` returns it; empty if there were too few frauds for it.
        obstacle: Why unseen rows can't be found at all; empty if they can.
        broken: Why the champion can't be loaded as it was registered; empty if it can.
    """

    champion: str
    age_days: float = 0.0
    identical: bool = False
    refresh: bool = False
    method: str = ""
    rows: int = 0
    frauds: int = 0
    fraud_money: float = 0.0
    gains: Mapping[str, Gain] = field(default_factory=dict)
    obstacle: str = ""
    broken: str = ""


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
    amount_alone: float | None = None,
) -> Verdict:
    """Decide whether the candidate becomes champion.

    Args:
        rule: The requirements.
        average_precision: Of the candidate, or of what stands for it, on its test rows.
        judged: What that is, for messages.
        fraud_rate: Share of frauds in the test rows.
        contest: The comparison with the champion; None when there is no champion.
        amount_alone: Average precision of the amounts as scores, on the same rows: what a first version must beat; None
            without amounts.
    """
    floor = rule.min_lift * fraud_rate
    details: dict[str, str | int | float] = {
        "candidate": average_precision,
        "fraud_rate": fraud_rate,
        "floor": floor,
    }
    reached = f"average precision {average_precision:.4f}"
    measured = [average_precision, fraud_rate]
    if contest is None and amount_alone is not None:
        details["amount_alone"] = amount_alone
        measured.append(amount_alone)
    if contest is not None:
        details |= _details(contest)
        measured += [end for gain in contest.gains.values() for end in (gain.interval.low, gain.interval.high)]
    decision: Decision
    if not all(map(math.isfinite, measured)):
        decision = "broken"
        reason = f"{reached}, fraud rate {fraud_rate:.4f}: not all figures are finite numbers, so the gate can't decide"
    elif contest is not None and contest.broken:
        decision, reason = "broken", f"{contest.broken}: nothing is compared with it, and the candidate {_STAYS}"
    elif average_precision < floor:
        decision = "kept"
        reason = f"{reached} is below {rule.min_lift:g} x the fraud rate = {floor:.4f}: {_STAYS}"
    elif contest is None and amount_alone is not None and average_precision <= amount_alone:
        decision, reason = "kept", f"{reached} is not above {amount_alone:.4f}, that of the amount alone: {_STAYS}"
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
        return "kept", f"{_compared(contest)}: {'; '.join(failures)}: {_STAYS}"
    return "promoted", _compared(contest)


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
        failures.append(f"the gain's lower end {gain.interval.low:.4f} is not above {rule.min_gain:g}")
    margins = {
        "brier": rule.brier_margin * contest.gains["brier"].baseline,
        "precision_at_budget": rule.precision_margin,
        MONEY_SAVED: rule.money_margin * contest.fraud_money,
    }
    for name, margin in margins.items():
        if name in contest.gains and contest.gains[name].interval.low < -margin:
            low = contest.gains[name].interval.low
            failures.append(f"{_NAMES[name]}: the gain's lower end {low:.4g} is below {-margin:.4g}")
    return failures


def _compared(contest: Contest) -> str:
    gain = contest.gains[RANKING]
    ends = f"{gain.interval.low:.4f} to {gain.interval.high:.4f} ({100 * gain.interval.level:.4g} % interval)"
    how = f"{'refresh; ' if contest.refresh else ''}judged: {contest.method}"
    return (
        f"average precision {gain.candidate:.4f} against {contest.champion}'s {gain.baseline:.4f} on {contest.rows:,} "
        f"rows with {contest.frauds:,} frauds that neither has seen, gain {ends} ({how})"
    )


def _details(contest: Contest) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        "champion_name": contest.champion,
        "champion_age_days": contest.age_days,
        "judged": contest.method,
        "unseen_rows": contest.rows,
        "unseen_frauds": contest.frauds,
    }
    for name, gain in contest.gains.items():
        found |= {
            f"{name}_candidate": gain.candidate,
            f"{name}_champion": gain.baseline,
            f"{name}_gain_low": gain.interval.low,
            f"{name}_gain_high": gain.interval.high,
        }
    return found
