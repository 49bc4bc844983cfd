"""What follows from a score: a threshold, and the version of the rule that it comes from.

What belongs here: the decision about one score, and its document. What does not: how a threshold is chosen
(`evaluation/threshold`), the score itself (`scoring`).

This type is all that serving knows of a policy, whatever the registry keeps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

Decision = Literal["approve", "review", "decline"]
DECISIONS: Final[tuple[Decision, ...]] = ("approve", "review", "decline")


@dataclass(frozen=True, slots=True)
class Policy:
    """A threshold with its origin.

    Attributes:
        version: Name of this policy, shown with every decision.
        threshold: From this score on, the event is for review; compared in double precision, as in the evaluation.
        rule: How the threshold was chosen: `cost` or `alert_budget`.
    """

    version: str
    threshold: float
    rule: str

    def decide(self, score: float) -> Decision:
        """Return the decision about a score."""
        return "review" if score >= self.threshold else "approve"

    def to_json_dict(self) -> dict[str, Any]:
        """Return a document from which `from_json_dict` rebuilds the policy exactly."""
        return asdict(self)

    @classmethod
    def from_json_dict(cls, document: dict[str, Any]) -> Self:
        """Rebuild a policy; raises KeyError, TypeError or ValueError for a document that is not one."""
        return cls(str(document["version"]), float(document["threshold"]), str(document["rule"]))
