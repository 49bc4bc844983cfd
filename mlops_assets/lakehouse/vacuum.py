"""VACUUM that leaves the files of pinned versions alone.

What belongs here: which of its kinds is run, and the check before files are deleted. What does not: how long files are
kept (`retention`), compaction (`maintenance`).

Two safeguards protect a pinned version from VACUUM. The retention reaches back to before the version was committed.
And files are deleted in two steps. `VACUUM LITE` deletes only what the log says was removed before the retention, which
no file of a pinned version was. What is left is in no log: files of killed writers, and files whose removal the log has
forgotten (`tables.RETENTION`). A full VACUUM deletes them only if its dry run lists all of them and none may belong to
a pinned version. On Databricks a dry run lists at most 1,000 files, so a list of that length proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import spark_errors

if TYPE_CHECKING:
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.retention import Retention

# "DRY RUN: return a list of up to 1000 files to be deleted" (Databricks SQL reference, "VACUUM").
LISTED_AT_MOST = 1_000
# Delta protocol, "Deletion Vector Descriptor Schema": `deletion_vector_<uuid>.bin`.
_DELETION_VECTOR = "deletion_vector_"
_LITE_IMPOSSIBLE = "DELTA_CANNOT_VACUUM_LITE"


def vacuum(lakehouse: Lakehouse, name: str, retention: Retention) -> None:
    """Delete the files of a table that no kept version needs; the session's settings and the lock are the caller's.

    Raises:
        StorageError: Files that the log does not know may belong to a pinned version, or are too many to tell.
    """
    _delete_removed(lakehouse, name, retention.hours)
    _delete_unknown(lakehouse, name, retention)


def _delete_removed(lakehouse: Lakehouse, name: str, hours: int) -> None:
    """Delete what the log says was removed before the retention; a dry run first, because VACUUM itself is a commit."""
    statement = f"VACUUM {{table}} LITE RETAIN {hours} HOURS"
    try:
        if lakehouse.sql(f"{statement} DRY RUN", name).collect():
            lakehouse.sql(statement, name)
    except spark_errors() as error:
        # The log does not reach back to the last VACUUM. What it does not know is for a full VACUUM.
        if _LITE_IMPOSSIBLE not in str(error):
            raise


def _delete_unknown(lakehouse: Lakehouse, name: str, retention: Retention) -> None:
    """Delete files older than the retention that the log does not know.

    Raises:
        StorageError: One of them may belong to a pinned version, or they are too many to tell.
    """
    statement = f"VACUUM {{table}} RETAIN {retention.hours} HOURS"
    listed = {_file_name(row["path"]) for row in lakehouse.sql(f"{statement} DRY RUN", name).collect()}
    if not listed:
        return
    if len(listed) >= LISTED_AT_MOST:
        raise _not_vacuumed(lakehouse, name, f"{LISTED_AT_MOST:,} files or more, and does not list all of them")
    for version in retention.pinned:
        needed = {_file_name(path) for path in lakehouse.read(name, version).inputFiles()}
        if lost := needed & listed:
            what = f"{len(lost)} of {len(needed)} files of version {version}, which is pinned"
            raise _not_vacuumed(lakehouse, name, what)
    if vectors := [file for file in listed if file.startswith(_DELETION_VECTOR)]:
        raise _not_vacuumed(
            lakehouse, name, f"{len(vectors)} deletion vectors, and no query tells whether a pinned version needs them"
        )
    lakehouse.sql(statement, name)


def _not_vacuumed(lakehouse: Lakehouse, name: str, what: str) -> StorageError:
    return StorageError(
        f"VACUUM would delete {what}: the table's log does not say when they were removed; the table was compacted and "
        "files that the log knows were deleted, these were not",
        where=lakehouse.location(name),
        fix="ask for a retention longer than the age of the table's oldest file, or delete the registered versions "
        "that are pinned to old versions and run VACUUM yourself",
    )


def _file_name(path: str) -> str:
    """Return the last part of a path: file names hold a UUID, and the two commands write paths differently."""
    return unquote(path).rstrip("/").rpartition("/")[2]
