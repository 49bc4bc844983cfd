"""Upkeep of a table: compaction, and VACUUM that leaves pinned versions alone.

What belongs here: the order of the commands, what is looked at before files go, and the counts. What does not: who pins
(`registry/pins`), how long files are kept (`lakehouse/retention`), Dagster.

Everything here may be killed at any moment and done again: compaction is one commit, VACUUM deletes files that no
version that is kept names, and the table's properties are set before anything is deleted.

Two things stand between a pinned version and VACUUM. The retention reaches back to before the version was committed;
and VACUUM is asked first what it would delete (DRY RUN): if a file of a pinned version is among it, it is not let go.
The second is for tables whose log has forgotten which files were removed when (`tables.RETENTION`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import is_conflict, spark_errors
from mlops_assets.lakehouse.retention import Pin, Retention, decide_retention
from mlops_assets.lakehouse.tables import RETENTION
from mlops_assets.lineage import RAW_VERSION

if TYPE_CHECKING:
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse

# Where there are no locks, nothing locks writers out, and VACUUM can't tell whose the files are that they have not yet
# committed (Delta documentation, "Remove files no longer referenced by a Delta table": at least 7 days).
LEAST_HOURS_WITHOUT_LOCKS = 168
_SETTINGS = {
    # The retention is decided here; Delta would hold it against the ten years of `tables.RETENTION`, and 4.3 follows
    # these instead of what VACUUM is told. A runtime that does not know the settings keeps more, never less.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    # One folder is listed; by default that is 10,000 tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
}


@dataclass(frozen=True)
class MaintenancePlan:
    """What is to be done to one table.

    Attributes:
        table: The table as it is.
        retention: How long its removed files are kept.
    """

    table: TableVersion
    retention: Retention


@dataclass(frozen=True)
class MaintenanceReport:
    """What was done to one table.

    Attributes:
        table: Its name.
        version: Newest version afterwards.
        files_before: Files of the newest version before compaction.
        files_after: The same afterwards.
        bytes_before: Their size in bytes.
        bytes_after: The same afterwards.
        files_deleted: Files that VACUUM has deleted.
        bytes_deleted: Their size in bytes, as far as Delta notes it.
        retention_hours: Removed files younger than this were kept.
        retention_reason: Why so long.
        pinned_versions: Versions that were kept for somebody.
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
    """What was done to all tables.

    Attributes:
        tables: What was done to each.
        pins: Who needs which version.
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
    tell: Callable[[str], None],
) -> UpkeepReport:
    """Compact the tables that are there and delete what nobody needs, while nobody writes them.

    Args:
        lakehouse: Where the tables are.
        tables: Their names.
        pins: Returns who needs which version; called once the locks are held.
        asked_hours: Retention that is wanted in any case.
        locks: What writers of the tables hold.
        wait_seconds: How long to wait for each of them.
        tell: Takes a line about each table that is done.

    Raises:
        StorageError: See `plan_maintenance` and `maintain`; or a lock can't be had in time.
    """
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lakehouse.exclusive(lock, wait_seconds))
        wanted = pins()
        done = []
        for plan in plan_maintenance(lakehouse, tables, wanted, asked_hours):
            report = maintain(lakehouse, plan)
            done.append(report)
            tell(
                f"{report.table}: {report.files_before:,} files are {report.files_after:,}, {report.files_deleted:,} "
                f"old ones deleted ({report.retention_hours:,} h kept: {report.retention_reason})"
            )
    return UpkeepReport(done, wanted)


def pins_of_sets(lakehouse: Lakehouse, sets: Iterable[str], *, raw: str) -> list[Pin]:
    """Return the version of the raw table that each set was cut from: a model made of them will be pinned to it.

    Args:
        lakehouse: Where the tables are.
        sets: Names of the sets' tables.
        raw: Name of the raw table.
    """
    there = [found for found in map(lakehouse.current, sets) if found is not None]
    return [
        Pin(raw, int(found.metadata[RAW_VERSION]), f"{found.name} version {found.rows_version}")
        for found in there
        if RAW_VERSION in found.metadata
    ]


def plan_maintenance(
    lakehouse: Lakehouse, tables: Sequence[str], pins: Sequence[Pin], asked_hours: int, now: float | None = None
) -> list[MaintenancePlan]:
    """Decide for each table that is there how long its removed files are kept; nothing is changed.

    The version that the newest rows came with is kept in any case: what is made next is pinned to it.

    Args:
        lakehouse: Where the tables are.
        tables: Their names; one that was never written is left out.
        pins: Who needs which version.
        asked_hours: Retention that is wanted in any case.
        now: Seconds since 1970; the clock's time when None.

    Raises:
        StorageError: A pinned version is not in its table's log, or the retention is too short where there are no
            locks.
    """
    if not lakehouse.locks and asked_hours < LEAST_HOURS_WITHOUT_LOCKS:
        raise StorageError(
            f"a retention of {asked_hours} hours could take files from under a writer: nothing locks other writers out "
            "here",
            where=lakehouse.location(tables[0]),
            fix=f"ask for {LEAST_HOURS_WITHOUT_LOCKS} hours or more",
        )
    there = [found for found in map(lakehouse.current, tables) if found is not None]
    plans = []
    for table in there:
        newest = Pin(table.name, table.rows_version, "whatever is made of the table next")
        wanted = [*(pin for pin in pins if pin.table == table.name), newest]
        committed = lakehouse.commits(table.name)
        at = time.time() if now is None else now
        decided = decide_retention(asked_hours, wanted, committed, at, where=lakehouse.location(table.name))
        plans.append(MaintenancePlan(table, decided))
    return plans


def maintain(lakehouse: Lakehouse, plan: MaintenancePlan) -> MaintenanceReport:
    """Compact a table and delete the files that nobody needs. Hold the table's lock.

    Raises:
        StorageError: VACUUM would take a file of a pinned version, or someone else is writing.
    """
    name, pinned = plan.table.name, plan.retention.pinned
    before = _detail(lakehouse, name)
    with _settings(lakehouse), _alone(lakehouse, name):
        # With a shorter one Delta reads no old version, whether its files are there or not.
        if any(before["properties"].get(key) != value for key, value in RETENTION.items()):
            # Both at once: Delta holds one that is set alone against the other's default.
            listed = ", ".join(f"'{key}' = '{value}'" for key, value in RETENTION.items())
            lakehouse.sql(f"ALTER TABLE {{table}} SET TBLPROPERTIES ({listed})", name)
        lakehouse.sql("OPTIMIZE {table}", name)
        after = _detail(lakehouse, name)
        vacuum = f"VACUUM {{table}} RETAIN {plan.retention.hours} HOURS"
        doomed = {_file_name(row["path"]) for row in lakehouse.sql(f"{vacuum} DRY RUN", name).collect()}
        for version in pinned if doomed else ():
            _spare(lakehouse, name, version, doomed)
        if doomed:
            lakehouse.sql(vacuum, name)
    done = lakehouse.require(name, made_by=name)
    return MaintenanceReport(
        table=name,
        version=done.version,
        files_before=before["numFiles"],
        files_after=after["numFiles"],
        bytes_before=before["sizeInBytes"],
        bytes_after=after["sizeInBytes"],
        files_deleted=len(doomed),
        bytes_deleted=_bytes_deleted(lakehouse, name, plan.table.version) if doomed else 0,
        retention_hours=plan.retention.hours,
        retention_reason=plan.retention.reason,
        pinned_versions=pinned,
    )


def _spare(lakehouse: Lakehouse, name: str, version: int, doomed: set[str]) -> None:
    needed = {_file_name(path) for path in lakehouse.read(name, version).inputFiles()}
    if taken := needed & doomed:
        raise StorageError(
            f"VACUUM would delete {len(taken)} of {len(needed)} files of version {version}, which is pinned: the "
            "table's log has forgotten when they were removed; the table is compacted, and nothing of it was vacuumed",
            where=lakehouse.location(name),
            fix="ask for a retention of more hours than the table's oldest file is old, or unregister what is pinned",
        )


def _detail(lakehouse: Lakehouse, name: str) -> Mapping[str, Any]:
    found: dict[str, Any] = lakehouse.sql("DESCRIBE DETAIL {table}", name).collect()[0].asDict()
    return found


def _bytes_deleted(lakehouse: Lakehouse, name: str, since: int) -> int:
    history = lakehouse.sql("DESCRIBE HISTORY {table}", name).where(f"version > {since}")
    metrics = [row["operationMetrics"] or {} for row in history.where("operation = 'VACUUM START'").collect()]
    return sum(int(found.get("sizeOfDataToDelete", 0)) for found in metrics)


def _file_name(path: str) -> str:
    """Return the last part of a path: data files carry a UUID, and the two commands differ in how they write paths."""
    return unquote(path).rstrip("/").rpartition("/")[2]


@contextmanager
def _settings(lakehouse: Lakehouse) -> Iterator[None]:
    """Lend the session the settings of upkeep, and give it back as it was."""
    conf = lakehouse.session.conf
    before = {name: conf.get(name, None) for name in _SETTINGS}
    try:
        for name, value in _SETTINGS.items():
            conf.set(name, value)
        yield
    finally:
        for name, old in before.items():
            if old is None:
                conf.unset(name)
            else:
                conf.set(name, old)


@contextmanager
def _alone(lakehouse: Lakehouse, name: str) -> Iterator[None]:
    try:
        yield
    except spark_errors() as error:
        if not is_conflict(error):
            raise
        raise StorageError(
            "someone else is writing the table", where=lakehouse.location(name), fix="run again when it is done"
        ) from None
