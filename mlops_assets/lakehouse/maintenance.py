"""Upkeep of a table: compaction, and VACUUM that leaves pinned versions alone.

What belongs here: the order of the commands, and the counts. What does not: which versions are pinned
(`registry/pins`), how long files are kept (`lakehouse/retention`), what is deleted (`lakehouse/vacuum`), Dagster.

Everything here may be killed at any moment and run again: compaction is one commit, VACUUM deletes only files that no
kept version references, and the table's properties are set before anything is deleted.

The retention reaches back to before a pinned version was committed; how VACUUM then leaves its files alone is in
`vacuum`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import is_conflict, spark_errors
from mlops_assets.lakehouse.retention import Pin, Retention, decide_retention
from mlops_assets.lakehouse.session_settings import session_settings
from mlops_assets.lakehouse.tables import RETENTION
from mlops_assets.lakehouse.vacuum import vacuum
from mlops_assets.lineage import RAW_VERSION

if TYPE_CHECKING:
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse

# Without lock files, others may write during VACUUM, and VACUUM can't recognize their uncommitted files (Delta
# documentation, "Remove files no longer referenced by a Delta table": at least 7 days).
LEAST_HOURS_WITHOUT_LOCKS = 168
_SETTINGS = {
    # The retention is decided here. Delta would reject one below the ten years of `tables.RETENTION`, and Delta 4.3
    # ignores the hours given to VACUUM. A runtime that does not know these settings keeps more, never less.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    # VACUUM lists a single folder; the default is 10,000 tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
}


@dataclass(frozen=True)
class MaintenancePlan:
    """What maintenance will do to one table.

    Attributes:
        table: The table's current version.
        retention: How long its removed files are kept.
    """

    table: TableVersion
    retention: Retention


@dataclass(frozen=True)
class MaintenanceReport:
    """What maintenance did to one table.

    Attributes:
        table: Its name.
        version: Newest version afterwards.
        files_before: Files of the newest version before compaction.
        files_after: The same afterwards.
        bytes_before: Their size in bytes.
        bytes_after: The same afterwards.
        files_deleted: Files that VACUUM deleted.
        bytes_deleted: Their size in bytes, as far as Delta records it.
        retention_hours: Removed files younger than this were kept.
        retention_reason: Why that long.
        pinned_versions: Versions that were kept because something is pinned to them.
    """

    table: str
    version: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    files_deleted: int
    bytes_deleted: int
    retention_hours: int
    retention_reason: str
    pinned_versions: tuple[int, ...]


@dataclass(frozen=True)
class UpkeepReport:
    """What maintenance did to all tables.

    Attributes:
        tables: One report per table.
        pins: The versions that had to stay readable.
    """

    tables: Sequence[MaintenanceReport]
    pins: Sequence[Pin]


def maintain_tables(
    lakehouse: Lakehouse,
    tables: Sequence[str],
    pins: Callable[[], Sequence[Pin]],
    asked_hours: int,
    *,
    locks: Sequence[str],
    wait_seconds: float,
    log: Callable[[str], None],
) -> UpkeepReport:
    """Compact the existing tables and delete files that nothing needs, while no one else writes.

    Args:
        lakehouse: The database.
        tables: Table names.
        pins: Returns the pinned versions; called once the locks are held.
        asked_hours: Minimum retention, in hours.
        locks: Names of the locks that writers of the tables hold.
        wait_seconds: How long to wait for each lock.
        log: Takes one line for each finished table.

    Raises:
        StorageError: See `plan_maintenance` and `maintain`; or a lock was not free in time.
    """
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lakehouse.exclusive(lock, wait_seconds))
        pinned = pins()
        reports = []
        for plan in plan_maintenance(lakehouse, tables, pinned, asked_hours):
            report = maintain(lakehouse, plan)
            reports.append(report)
            log(
                f"{report.table}: {report.files_before:,} files compacted to {report.files_after:,}, "
                f"{report.files_deleted:,} old files deleted (removed files kept for {report.retention_hours:,} h: "
                f"{report.retention_reason})"
            )
    return UpkeepReport(reports, pinned)


def pins_of_sets(lakehouse: Lakehouse, sets: Iterable[str], *, raw: str) -> list[Pin]:
    """Return the raw table version that each set was cut from: a model trained on the sets will be pinned to it.

    Args:
        lakehouse: The database.
        sets: Names of the sets' tables.
        raw: Name of the raw table.
    """
    current = [table for table in map(lakehouse.current, sets) if table is not None]
    return [
        Pin(raw, int(table.metadata[RAW_VERSION]), f"{table.name} version {table.rows_version}")
        for table in current
        if RAW_VERSION in table.metadata
    ]


def plan_maintenance(
    lakehouse: Lakehouse, tables: Sequence[str], pins: Sequence[Pin], asked_hours: int, now: float | None = None
) -> list[MaintenancePlan]:
    """Decide how long each existing table keeps its removed files; this changes nothing.

    The version that brought the newest rows is always kept: whatever is built next is pinned to it.

    Args:
        lakehouse: The database.
        tables: Table names; tables that were never written are skipped.
        pins: The pinned versions.
        asked_hours: Minimum retention, in hours.
        now: Seconds since 1970; the current time when None.

    Raises:
        StorageError: A pinned version is not in its table's log, or there are no locks and the retention is too short.
    """
    if not lakehouse.locks and asked_hours < LEAST_HOURS_WITHOUT_LOCKS:
        raise StorageError(
            f"a retention of {asked_hours} hours could delete files that a writer has not committed yet: nothing locks "
            "other writers out here",
            where=lakehouse.location(tables[0]),
            fix=f"ask for {LEAST_HOURS_WITHOUT_LOCKS} hours or more",
        )
    current = [table for table in map(lakehouse.current, tables) if table is not None]
    plans = []
    for table in current:
        newest = Pin(table.name, table.rows_version, "whatever is built from the table next")
        oldest = lakehouse.erased_below(table.name)
        pinned = [*(pin for pin in pins if pin.table == table.name and pin.version >= oldest), newest]
        committed = lakehouse.commits(table.name)
        at = time.time() if now is None else now
        retention = decide_retention(asked_hours, pinned, committed, at, where=lakehouse.location(table.name))
        plans.append(MaintenancePlan(table, retention))
    return plans


def maintain(lakehouse: Lakehouse, plan: MaintenancePlan) -> MaintenanceReport:
    """Compact a table and delete the files that nothing needs. The caller holds the table's lock.

    Raises:
        StorageError: VACUUM would delete a file of a pinned version, or someone else is writing.
    """
    name, pinned = plan.table.name, plan.retention.pinned
    before = _detail(lakehouse, name)
    with upkeep_settings(lakehouse), _alone(lakehouse, name):
        # With shorter retention Delta refuses to read an old version, even if its files are still there.
        if any(before["properties"].get(key) != value for key, value in RETENTION.items()):
            # Both at once: Delta checks a property that is set alone against the other one's default.
            listed = ", ".join(f"'{key}' = '{value}'" for key, value in RETENTION.items())
            lakehouse.sql(f"ALTER TABLE {{table}} SET TBLPROPERTIES ({listed})", name)
        lakehouse.sql("OPTIMIZE {table}", name)
        after = _detail(lakehouse, name)
        vacuum(lakehouse, name, plan.retention)
    done = lakehouse.require(name, made_by=name)
    return MaintenanceReport(
        table=name,
        version=done.version,
        files_before=before["numFiles"],
        files_after=after["numFiles"],
        bytes_before=before["sizeInBytes"],
        bytes_after=after["sizeInBytes"],
        files_deleted=_sum_since(lakehouse, name, plan.table.version, "VACUUM END", "numDeletedFiles"),
        bytes_deleted=_sum_since(lakehouse, name, plan.table.version, "VACUUM START", "sizeOfDataToDelete"),
        retention_hours=plan.retention.hours,
        retention_reason=plan.retention.reason,
        pinned_versions=pinned,
    )


def _detail(lakehouse: Lakehouse, name: str) -> Mapping[str, Any]:
    detail: dict[str, Any] = lakehouse.sql("DESCRIBE DETAIL {table}", name).collect()[0].asDict()
    return detail


def _sum_since(lakehouse: Lakehouse, name: str, since: int, operation: str, metric: str) -> int:
    """Return the sum of a metric over the commits of an operation after a version."""
    history = lakehouse.sql("DESCRIBE HISTORY {table}", name).where(f"version > {since} AND operation = '{operation}'")
    return sum(int((row["operationMetrics"] or {}).get(metric, 0)) for row in history.collect())


def upkeep_settings(lakehouse: Lakehouse) -> AbstractContextManager[None]:
    """Apply the settings of upkeep to the session for the length of a block."""
    return session_settings(lakehouse.session, _SETTINGS, purpose="upkeep")


@contextmanager
def _alone(lakehouse: Lakehouse, name: str) -> Iterator[None]:
    try:
        yield
    except spark_errors() as error:
        if not is_conflict(error):
            raise
        raise StorageError(
            "someone else is writing the table", where=lakehouse.location(name), fix="run again when they are done"
        ) from None
