"""Ending a table's history: old versions and their files go, pinned or not, and the newest version stays.

What belongs here: the commits and deletions that it takes, and how the rest of the platform knows. What does not: which
rows are erased, and why (`erasure`); ordinary upkeep, which keeps what is pinned (`maintenance`).

VACUUM deletes the old data files. The log remains, and it holds values: the smallest and the largest of each file. So
the log begins anew: a commit without rows gets a checkpoint, and what is before it is deleted. The commit repeats the
metadata of the one that wrote the rows, which is how later stages know what the rows were made from. A property of the
table says from which version on it can be read; pins to earlier versions no longer count.

If a process is killed on the way, the next attempt does all of it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.lakehouse.checksums import LOG
from mlops_assets.lakehouse.history import FOLLOWS
from mlops_assets.lakehouse.maintenance import upkeep_settings
from mlops_assets.lakehouse.tables import ERASED_BELOW

if TYPE_CHECKING:
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse

_INTERVAL: Final = "delta.checkpointInterval"
_DEFAULT_INTERVAL: Final = 10


def end_history(lakehouse: Lakehouse, table: TableVersion, metadata: Mapping[str, Any]) -> TableVersion:
    """Make the newest version the oldest one; the caller holds the table's lock.

    Args:
        lakehouse: The database, whose tables lie in folders.
        table: The newest version.
        metadata: What its commit said, as far as it still holds.

    Returns:
        The version that the table now begins with.

    Raises:
        StaleBaseError: Someone else is writing.
    """
    name = table.name
    _set(lakehouse, name, {_INTERVAL: "1"})
    base = lakehouse.require(name, made_by=name)
    rows = lakehouse.read(name, base.version).where("FALSE")
    said = {key: value for key, value in metadata.items() if key != FOLLOWS}
    first = lakehouse.append(name, rows, base=base, metadata=said)
    _set(lakehouse, name, {_INTERVAL: str(_DEFAULT_INTERVAL), ERASED_BELOW: str(first.version)})
    with upkeep_settings(lakehouse):
        lakehouse.sql("VACUUM {table} RETAIN 0 HOURS", name).collect()
    drop_entries_below(Path(lakehouse.location(name)), first.version)
    return first


def drop_entries_below(folder: Path, version: int) -> None:
    """Delete the log before a version that has a checkpoint, checksums included.

    Args:
        folder: The table's folder.
        version: The version.
    """
    for path in sorted((folder / LOG).iterdir()):
        number = path.name.lstrip(".").split(".")[0]
        if path.is_file() and number.isdigit() and int(number) < version:
            path.unlink()


def _set(lakehouse: Lakehouse, name: str, properties: Mapping[str, str]) -> None:
    listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
    lakehouse.sql(f"ALTER TABLE {{table}} SET TBLPROPERTIES ({listed})", name).collect()
