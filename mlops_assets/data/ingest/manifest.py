"""The batch manifest: one record of each input that came in, of each replay, and of each change of the contract.

What belongs here: the record and its columns. What does not: when it is written (`lakehouse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa


@dataclass(frozen=True)
class BatchRecord:
    """What became of the rows of one input, or of one replay.

    Attributes:
        batch_id: The input's identity; the replay's id.
        kind: `load`, `replay`, `labels` (in the notes of the table of labels alone), or `contract` for the rules that
            rows are under from here on.
        source: The input as it was named when it came in.
        rows: Rows that came in.
        accepted: Rows that went into the raw table.
        quarantined: Rows that were set aside, or still are after a replay.
        already_known: Rows whose key is known by the same or a later write.
        contract: Name and version of the contract.
        recorded_at: When it came in (UTC, ISO 8601).
        rules: Of a `contract`, its rules (`diff.table_rules`).
    """

    batch_id: str
    kind: str
    source: str
    rows: int
    accepted: int
    quarantined: int
    already_known: int
    contract: str
    recorded_at: str
    rules: str = ""


_SCHEMA = pa.schema(
    [
        ("batch_id", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("rows", pa.int64()),
        ("accepted", pa.int64()),
        ("quarantined", pa.int64()),
        ("already_known", pa.int64()),
        ("contract", pa.string()),
        ("recorded_at", pa.string()),
        ("rules", pa.string()),
    ]
)


def as_table(records: Sequence[BatchRecord]) -> pa.Table:
    """Return the records as rows of the manifest."""
    return pa.Table.from_pylist([asdict(record) for record in records], _SCHEMA)
