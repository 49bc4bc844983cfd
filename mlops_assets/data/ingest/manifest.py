"""The batch manifest: one record for each loaded input, each replay, each reverted input, each change of the contract.

What belongs here: the record and its columns, and which batches the records say are loaded. What does not: when it is
written (`lakehouse`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa

LOAD: Final = "load"
REVERT: Final = "revert"


@dataclass(frozen=True)
class BatchRecord:
    """What happened to the rows of one input, or of one replay.

    Attributes:
        batch_id: Hash of the input's content, or the replay's id.
        kind: `load`, `replay`, `labels` (only in the commit metadata of the label table), `contract` for rules that
            apply from this record on, or `revert` for a batch that was taken out again.
        source: The input's name when it was loaded.
        rows: Rows read; of a revert, rows taken out of the raw table.
        accepted: Rows written to the raw table; of a revert, none.
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


def loaded(records: Iterable[tuple[str, str]]) -> list[str]:
    """Return the ids that records say are in the tables.

    A batch that was reverted may be loaded and reverted again, so its records are counted: clocks may go back.

    Args:
        records: Id and kind of each record.
    """
    balance: Counter[str] = Counter()
    for batch_id, kind in records:
        balance[batch_id] += -1 if kind == REVERT else 1
    return [batch_id for batch_id, count in balance.items() if count > 0]


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
