"""The batch manifest: one record for each loaded input, each replay, and each change of the contract.

What belongs here: the record and its columns. What does not: when it is written (`lakehouse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa


@dataclass(frozen=True)
class BatchRecord:
    """What happened to the rows of one input, or of one replay.

    Attributes:
        batch_id: Hash of the input's content, or the replay's id.
        kind: `load`, `replay`, `labels` (only in the commit metadata of the label table), or `contract` for rules that
            apply from this record on.
        source: The input's name when it was loaded.
        rows: Rows read.
        accepted: Rows written to the raw table.
        quarantined: Rows set aside; after a replay, rows still set aside.
        already_known: Rows whose key the raw table already has from the same or a later write.
        contract: Name and version of the contract.
        recorded_at: When it was loaded (UTC, ISO 8601).
        rules: Rules of the contract (`diff.table_rules`); only for the kind `contract`.
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
