"""One row of the log of predictions.

What belongs here: the row's fields, their versions, and its JSON form, which is the same in segments, files, Kafka and
on its way to Delta. What does not: where rows go (`segments`, `sinks`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

# Raised when a field is added or changes its meaning. Rows of every earlier version stay readable: a new field has a
# default, and none is removed.
SCHEMA_VERSION: Final = 1
Arm = Literal["champion", "pinned", "canary", "shadow", "fallback", "refused", "captured"]


class LogRow(msgspec.Struct, omit_defaults=True):
    """A scored row, or a request that was refused.

    Attributes:
        request_id: Id of the request; with `row` and `arm` it identifies the row.
        model: Name of the registered model.
        at: When the request came in, microseconds since 1970.
        arm: What answered: `champion`, a `pinned` version, `canary`, `shadow`, `fallback`; `refused` for none;
            `captured` where another server answered (`captured`).
        schema: Version of this form.
        row: Position in the request.
        event_id: The caller's id of the event; empty without one.
        entity: Hash of the entity; empty without one.
        event_time: When the event happened, as it came in.
        features_as_of: As of when the features were computed, as it came in.
        contract: Name and version of the contract.
        features: Values by name, as they were accepted; None for refused requests.
        score: The score; None for a fallback and for refused requests.
        threshold: The policy's threshold.
        decision: `approve`, `review` or `decline`; empty for a request without decision.
        policy: Version of the policy.
        version: Number of the model's version; 0 for none.
        alias: Alias under which the version was found; empty for a pinned one.
        reasons: Names of the features that drove the score, the strongest first.
        latency_us: From the request to the answer, microseconds.
        status: HTTP status of the row.
        findings: What was wrong, as `<reason>:<column>`, without values.
    """

    request_id: str
    model: str
    at: int
    arm: Arm
    schema: int = SCHEMA_VERSION
    row: int = 0
    event_id: str = ""
    entity: str = ""
    event_time: str = ""
    features_as_of: str = ""
    contract: str = ""
    features: dict[str, Any] | None = None
    score: float | None = None
    threshold: float | None = None
    decision: str = ""
    policy: str = ""
    version: int = 0
    alias: str = ""
    reasons: list[str] = []
    latency_us: int = 0
    status: int = 200
    findings: list[str] = []


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(LogRow)


def encode(row: LogRow) -> bytes:
    """Return a row as one line of JSON without its end."""
    return _ENCODER.encode(row)


def decode(content: bytes) -> LogRow:
    """Read a row of this or any earlier version; raises msgspec.DecodeError for anything else.

    Fields of a later version are left out.
    """
    return _DECODER.decode(content)
