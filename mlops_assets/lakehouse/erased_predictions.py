"""Erasing entities from the log of predictions, where it is a Delta table in a folder.

What belongs here: finding and erasing rows by the hashes that stand for an entity. What does not: the hashes
(`serving/entities`), what is on its way to the log (`serving/log/waiting`), other tables (`erasure`). Logs in files,
Kafka or object stores are erased there.

As with the other tables, older versions hold the rows, and the log of the table holds the smallest and largest hash of
each file. So the table gets a checkpoint, and everything before it is deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.erased_history import drop_entries_below
from mlops_assets.lakehouse.value_search import files_holding

_ENTITY: Final = "entity"


def rows_in_log(folder: Path, hashes: Collection[str]) -> int:
    """Return how many rows of a log's newest version are about entities; 0 if there is no log.

    Args:
        folder: Folder of the table.
        hashes: What stands for the entities.

    Raises:
        StorageError: The table can't be read.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if not DeltaTable.is_deltatable(str(folder)):
        return 0
    try:
        column = DeltaTable(folder).to_pyarrow_table(columns=[_ENTITY]).column(_ENTITY).cast(pa.string())
    except (DeltaError, OSError) as error:
        raise _unreadable(folder, error) from None
    return int(pc.sum(pc.is_in(column, pa.array(list(hashes), pa.string()))).as_py() or 0)


def erase_from_log(folder: Path, hashes: Collection[str]) -> list[Path]:
    """Erase entities from a log, and return the files that still hold one of the hashes: none, if all went well.

    Args:
        folder: Folder of the table; it may not exist.
        hashes: What stands for the entities.

    Raises:
        StorageError: Someone else is writing, or the table can't be read or written.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    wanted = {_ENTITY: hashes}
    if not files_holding(folder, wanted):
        return []
    listed = ", ".join(f"'{value}'" for value in sorted(hashes))
    try:
        table = DeltaTable(folder)
        table.delete(f"{_ENTITY} IN ({listed})")
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
        table = DeltaTable(folder)
        table.create_checkpoint()
        drop_entries_below(folder, table.version())  # the deletion's own entry names the hashes
    except (DeltaError, OSError) as error:
        raise _unreadable(folder, error) from None
    return files_holding(folder, wanted)


def _unreadable(folder: Path, error: Exception) -> StorageError:
    return StorageError(
        f"the log of predictions can't be erased: {str(error).splitlines()[0][:160]}",
        where=str(folder),
        fix="run again; if it stays, stop `mlops serve` meanwhile",
    )
