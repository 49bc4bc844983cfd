"""Whether the raw table has everything that the manifest says is in it.

What belongs here: noticing a raw table that is gone, older than the manifest or restored to an older version, and which
batches it lacks. What does not: repairing it (`loading`), damaged files (`diagnostics`).

The manifest is written after the raw table, so it never knows more. If it does, somebody has removed the table's
folder, lost its last commits, or restored an older version. To go on would say "nothing new" of files whose rows are
gone, or begin a new table beside a manifest that knows the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlops_assets.data.columns import BATCH_ID
from mlops_assets.data.ingest.manifest import loaded
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.history import FOLLOWS
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import RAW_VERSION, RECORDS

if TYPE_CHECKING:
    from mlops_assets.lakehouse.lakehouse import Lakehouse

_NAMED = 5
# Statements about rows: whoever ran one meant them. Other commits of others may have put another state in place.
_OF_ROWS: Final = frozenset({"DELETE", "UPDATE", "MERGE", "STREAMING UPDATE", "COPY INTO"})


def require_whole(lakehouse: Lakehouse, raw: TableVersion | None, manifest: TableVersion | None) -> None:
    """Refuse a raw table that lacks batches which the manifest has.

    Args:
        lakehouse: The database.
        raw: Newest version of the raw table; None if there is no table.
        manifest: Newest version of the manifest; None if there is none.

    Raises:
        StorageError: It lacks batches; names them.
    """
    lost = missing_batches(lakehouse, raw, manifest)
    if not lost:
        return
    what = "is gone" if raw is None else "is older than its manifest"
    named = ", ".join(f"{source} ({batch_id[:12]})" for batch_id, source in list(lost.items())[:_NAMED])
    more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    raise StorageError(
        f"the table {what}: {len(lost)} batches on record are not in it: {named}{more}",
        where=lakehouse.location(RAW),
        fix="restore it from a backup; or `mlops repair` loads these batches again from the source, and "
        "`mlops repair --drop` goes on without them",
    )


def missing_batches(lakehouse: Lakehouse, raw: TableVersion | None, manifest: TableVersion | None) -> dict[str, str]:
    """Return the batches that the manifest has and the raw table lacks: source by batch id; empty if all is well.

    It costs nothing unless the versions of the two tables contradict each other, or somebody else has written.
    """
    if manifest is None:
        return {}
    accounted = int(manifest.metadata.get(RAW_VERSION, -1))
    now = -1 if raw is None else raw.version
    if raw is None or now < accounted:
        there = set() if raw is None else _in_log(lakehouse) | _in_table(lakehouse, now)
        return {batch: source for batch, source in _with_rows(lakehouse, manifest).items() if batch not in there}
    if FOLLOWS in raw.metadata or raw.rows_version <= accounted or accounted < 0:
        return {}
    if lakehouse.foreign_operations_since(RAW, accounted) <= _OF_ROWS:
        return {}
    gone = _in_table(lakehouse, accounted) - _in_table(lakehouse, now)
    return {batch: source for batch, source in _with_rows(lakehouse, manifest).items() if batch in gone}


def _with_rows(lakehouse: Lakehouse, manifest: TableVersion) -> dict[str, str]:
    """Return the loaded batches that brought rows to the raw table, by the manifest."""
    names = ["batch_id", "kind", "source", "accepted"]
    rows: list[dict[str, Any]] = lakehouse.fetch(manifest, names).to_pylist()
    there = set(loaded((row["batch_id"], row["kind"]) for row in rows))
    return {
        row["batch_id"]: row["source"]
        for row in rows
        if row["kind"] == "load" and row["accepted"] and row["batch_id"] in there
    }


def _in_log(lakehouse: Lakehouse) -> set[str]:
    """Return the batches that the raw table's log has: rows of theirs may all have been replaced since."""
    commits = lakehouse.commit_metadata_since(RAW, -1)
    return set(loaded((r["batch_id"], r["kind"]) for metadata in commits for r in metadata.get(RECORDS, [])))


def _in_table(lakehouse: Lakehouse, version: int) -> set[str]:
    return {batch for (batch,) in lakehouse.counted(TableVersion(RAW, version, {}), [BATCH_ID])}
