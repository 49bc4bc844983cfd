"""What the soak's tables hold, read through delta-rs as any reader could.

What belongs here: from Delta to the plain values of `expectation`. What does not: comparing them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from mlops_assets_tests.soak.expectation import Actual, Place, Values

RAW, QUARANTINED, MANIFEST = "raw_transactions", "quarantined_transactions", "ingested_batches"


def read(database: Path) -> Actual:
    """Return the rows of a database's tables.

    Rows in quarantine count if their batch is on record; others are leftovers of a killed load (see
    `mlops_assets.lakehouse.transactions`).
    """
    records = _rows(database / MANIFEST)
    loads = [record for record in records if record["kind"] == "load"]
    on_record = {record["batch_id"] for record in loads}
    return Actual(
        raw=[(_place(row), _values(row)) for row in _rows(database / RAW)],
        aside=[
            (_place(row), tuple(sorted(dict(row["original"]).items())))
            for row in _rows(database / QUARANTINED)
            if row["_batch_id"] in on_record
        ],
        records=[
            (record["batch_id"], tuple(record[name] for name in ("rows", "accepted", "quarantined", "already_known")))
            for record in loads
        ],
    )


def on_record(database: Path) -> set[str]:
    """Return the hashes of all contents on record."""
    return {record["batch_id"] for record in _rows(database / MANIFEST) if record["kind"] == "load"}


def _rows(folder: Path) -> list[dict[str, Any]]:
    if not DeltaTable.is_deltatable(str(folder)):
        return []
    rows: list[dict[str, Any]] = DeltaTable(folder).to_pyarrow_table().to_pylist()
    return rows


def _place(row: dict[str, Any]) -> Place:
    return Place(row["_batch_id"], row["_row_number"])


def _values(row: dict[str, Any]) -> Values:
    happened: datetime = row["happened"]
    return row["number"], happened, row["amount"], row["score"], row["fraud"]
