"""A candidate against the champion: what was measured on rows that neither has seen.

What belongs here: the figures, and how they are told. What does not: measuring them (`comparison`), the decision
(`gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlops_assets.evaluation.bootstrap import Gain
    from mlops_assets.evaluation.slices import SliceGain
    from mlops_assets.registry.gate_evidence import Counted
    from mlops_assets.registry.pair import Pair

RANKING: Final = "average_precision"


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
        slices: Gains in parts of the rows.
        reason_overlap: Median share of top-3 reasons that both models have in common; None where that is not known.
        evidence: Of this gate and those before it against the same champion (`evaluation/evidence`).
        gates: How many gates it is the evidence of.
        counted: What this gate adds to it, to be kept with the version; None if it adds nothing.
        pair: The rows and both models' scores; None where they were not compared.
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
    slices: Sequence[SliceGain] = ()
    reason_overlap: float | None = None
    evidence: float = 1.0
    gates: int = 0
    counted: Counted | None = None
    pair: Pair | None = None
    obstacle: str = ""
    broken: str = ""

    @property
    def measured(self) -> list[float]:
        """The figures that must be numbers."""
        gains = [*self.gains.values(), *(part.gain for part in self.slices)]
        ends = [end for gain in gains for end in (gain.interval.low, gain.interval.high)]
        overlap = [] if self.reason_overlap is None else [self.reason_overlap]
        return [*ends, self.evidence, *overlap]

    @property
    def sentence(self) -> str:
        """What was compared, in one sentence."""
        gain = self.gains[RANKING]
        ends = f"{gain.interval.low:.4f} to {gain.interval.high:.4f} ({100 * gain.interval.level:.4g} % interval)"
        gates = "" if self.refresh else f"; evidence of {self.gates} gate(s): {self.evidence:.3g}"
        how = f"{'refresh; ' if self.refresh else ''}judged: {self.method}{gates}"
        return (
            f"average precision {gain.candidate:.4f} against {self.champion}'s {gain.baseline:.4f} on {self.rows:,} "
            f"rows with {self.frauds:,} frauds that neither has seen, gain {ends} ({how})"
        )

    @property
    def details(self) -> dict[str, str | int | float]:
        """The figures by name, for a table."""
        found: dict[str, str | int | float] = {
            "champion_name": self.champion,
            "champion_age_days": self.age_days,
            "judged": self.method,
            "unseen_rows": self.rows,
            "unseen_frauds": self.frauds,
            "evidence": self.evidence,
            "gates_of_evidence": self.gates,
        }
        if self.reason_overlap is not None:
            found["reason_overlap"] = self.reason_overlap
        for name, gain in self.gains.items():
            found |= {
                f"{name}_candidate": gain.candidate,
                f"{name}_champion": gain.baseline,
                f"{name}_gain_low": gain.interval.low,
                f"{name}_gain_high": gain.interval.high,
            }
        return found
