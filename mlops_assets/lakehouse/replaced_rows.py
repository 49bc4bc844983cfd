"""Rows of the raw table that a later write of their key has replaced, kept as they were.

What belongs here: keeping and reading them. What does not: which write wins (`data/ingest/merge_frames`), what was
known at a moment (`data/labels/as_known`), the commit that replaces them (`transactions`).

A copy is made before the commit that replaces the row. If a process is killed between the two, the copy stays, and
another one follows: a copy of a row that is still there says nothing new, so neither does any harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import BATCH_ID
from mlops_assets.lakehouse.transaction_tables import RAW, REPLACED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse


def keep_replaced(
    lakehouse: Lakehouse, raw: TableVersion, rows: DataFrame, key: str, metadata: Mapping[str, Any]
) -> None:
    """Copy the rows of the raw table that incoming rows are about to replace.

    Args:
        lakehouse: The database.
        raw: The version of the raw table that the rows will be merged into.
        rows: The incoming rows, one per key.
        key: The contract's key.
        metadata: Metadata of the merge.

    Raises:
        StaleBaseError: Someone else is writing.
        StorageError: A table of that name was not created by the platform.
    """
    base = lakehouse.current(REPLACED)
    if base is not None:
        lakehouse.require_columns(base, [BATCH_ID, key])
    old = lakehouse.read(RAW, raw.version).join(rows.select(key), key, "left_semi")
    lakehouse.append(REPLACED, old, base=base, metadata=metadata, new_columns=True)


def replaced_rows(lakehouse: Lakehouse) -> DataFrame | None:
    """Return all replaced rows; None if no row was ever replaced."""
    table = lakehouse.current(REPLACED)
    return None if table is None else lakehouse.read(REPLACED, table.version)
