"""The columns that the platform adds to its tables: their names, what they say, their types on the way in.

What belongs here: names that stand on disk or in a table on its way there; all but two begin with an underscore, which
contracts leave to the platform. What does not: the contract's own columns (`contract`), what fills a column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract

# Of every row that came in.
ROW_NUMBER = "_row_number"
BATCH_ID = "_batch_id"
SOURCE = "_source"
INGESTED_AT = "_ingested_at"
TECHNICAL_COLUMNS: dict[str, str] = {
    ROW_NUMBER: "Position of the row in its input, from 0.",
    BATCH_ID: "SHA-256 of the input's content: the same content is loaded once, whatever its name.",
    SOURCE: "The input as it was named when it came in.",
    INGESTED_AT: "When the input came in (UTC).",
}

# In tables of contracts whose labels come late; not among the others, since tables without it keep working.
LABEL_KNOWN_AT = "_label_known_at"
LABEL_COLUMNS: dict[str, str] = {
    LABEL_KNOWN_AT: "When the late label of the row became known, on the clock of the event time; null without one.",
}

# In their raw table only: from these follows which label a row had at any earlier moment.
OWN_LABEL = "_own_label"
LABEL_HISTORY = "_label_history"
HISTORY_COLUMNS: dict[str, str] = {
    OWN_LABEL: "The label that the row itself was delivered with.",
    LABEL_HISTORY: "All late labels about the row, by the time they became known; null without one.",
}

# Of rows that were set aside.
REASONS = "reasons"
ORIGINAL = "original"
CONTRACT = "_contract"
REPLAY = "_replay"
QUARANTINE_COLUMNS: dict[str, str] = {
    ROW_NUMBER: TECHNICAL_COLUMNS[ROW_NUMBER],
    REASONS: "What is wrong, as <reason>:<column>.",
    ORIGINAL: "The values of the row as text, by column.",
    BATCH_ID: TECHNICAL_COLUMNS[BATCH_ID],
    SOURCE: TECHNICAL_COLUMNS[SOURCE],
    INGESTED_AT: TECHNICAL_COLUMNS[INGESTED_AT],
    CONTRACT: "Name and version of the contract that the reasons are about.",
    REPLAY: "The replay that is taking the row to the raw table; null for a row that stays.",
}
QUARANTINE_SCHEMA = pa.schema(
    [
        (ROW_NUMBER, pa.int64()),
        (REASONS, pa.list_(pa.string())),
        (ORIGINAL, pa.map_(pa.string(), pa.large_string())),
        (BATCH_ID, pa.string()),
        (SOURCE, pa.string()),
        (INGESTED_AT, pa.timestamp("us", tz="UTC")),
        (CONTRACT, pa.string()),
        (REPLAY, pa.string()),
    ]
)

# Of a late label.
LABEL = "_label"
KNOWN_AT = "_known_at"

# Of rows on their way: what a merge does with them, which set they go to.
MERGE_OUTCOME = "_fate"
SET_COLUMN = "_set"


def technical_columns(contract: Contract) -> dict[str, str]:
    """Return the platform's own columns of a set under the contract, with their descriptions."""
    return TECHNICAL_COLUMNS if contract.labels is None else TECHNICAL_COLUMNS | LABEL_COLUMNS


def raw_columns(contract: Contract) -> dict[str, str]:
    """Return the platform's own columns of a raw table under the contract, with their descriptions."""
    return TECHNICAL_COLUMNS if contract.labels is None else TECHNICAL_COLUMNS | LABEL_COLUMNS | HISTORY_COLUMNS
