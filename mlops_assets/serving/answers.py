"""What an answer is: the types of `/v1/score`, and refusals.

What belongs here: forms of answers, which also the OpenAPI document describes. What does not: making them (`service`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from mlops_assets.serving.features import Finding

MOST_SHOWN = 100


class Reason(msgspec.Struct):
    """A feature that drove a score.

    Attributes:
        feature: Its name.
        direction: `raises` or `lowers` the score.
        band: The model's two split points around the value, which itself is not repeated; None for no bound.
    """

    feature: str
    direction: str
    band: tuple[float | None, float | None]


class Answer(msgspec.Struct, omit_defaults=True):
    """The answer about one event.

    Attributes:
        event_id: The caller's id of the event.
        request_id: The id under which the event is in the log.
        decision: `approve`, `review` or `decline`.
        score: Probability of fraud, a float32; null for a fallback.
        threshold: From this score on an event is for review.
        policy_version: Where the threshold comes from.
        model: Name of the registered model.
        model_version: Its version.
        alias: The alias under which the version was found.
        arm: `champion`, `canary` or `fallback`.
        scored_at: When, RFC 3339 in UTC.
        features_as_of: As of when the features were computed, as it came in.
        reasons: The strongest reasons first, if they were asked for.
    """

    event_id: str
    request_id: str
    decision: str
    score: float | None
    threshold: float
    policy_version: str
    model: str
    model_version: int
    alias: str
    arm: str
    scored_at: str
    features_as_of: str = ""
    reasons: list[Reason] = []


class Refused(Exception):  # noqa: N818 - an answer, not a failure of this program
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        error: What is wrong, in words that repeat nothing of the request.
        findings: Names and reasons.
        rows: Findings by row of a batch.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        error: str,
        *,
        findings: Sequence[Finding] = (),
        rows: dict[int, list[Finding]] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status, self.error, self.findings, self.rows = status, error, tuple(findings), rows or {}
        self.headers = tuple(headers)
        super().__init__(error)

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        found: dict[str, Any] = {"error": self.error}
        if self.findings:
            found["fields"] = [finding.to_json_dict() for finding in self.findings]
        if self.rows:
            shown = sorted(self.rows)[:MOST_SHOWN]
            found["rows"] = [
                {"row": row, "fields": [finding.to_json_dict() for finding in self.rows[row]]} for row in shown
            ]
            found["bad_rows"] = len(self.rows)
        return found

    @property
    def codes(self) -> list[str]:
        """The findings as the log keeps them."""
        every = [*self.findings, *(finding for row in self.rows.values() for finding in row)]
        return sorted({f"{finding.reason}:{finding.name}" for finding in every})
