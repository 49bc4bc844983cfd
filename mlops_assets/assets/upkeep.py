"""Upkeep of the platform's tables: many small files become few, and what nobody needs any more is deleted.

What belongs here: the asset's shell - which tables, whose pins, metadata. What does not: the decision how long files
are kept (`lakehouse/retention`), the commands (`lakehouse/maintenance`).
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.reporting import OWNERS
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import SETS_LOCK, TABLES
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.locks import LOCK_TIMEOUT_SECONDS
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lakehouse.transaction_tables import LABELS, MANIFEST
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from mlops_assets.lakehouse.maintenance import MaintenanceReport

TABLE_UPKEEP = "table_upkeep"
MAINTAINED = (RAW, QUARANTINED, MANIFEST, LABELS, *TABLES.values())


class UpkeepConfig(dg.Config):
    """How much of the past is kept."""

    retention_hours: int = Field(
        default=168,
        ge=0,
        description="Files that a table has removed are kept for so many hours; longer where a model is pinned.",
    )
    wait_seconds: float = Field(
        default=LOCK_TIMEOUT_SECONDS, ge=0, description="How long to wait for a load or a cut that is going on."
    )


@dg.asset(
    name=TABLE_UPKEEP,
    group_name="upkeep",
    kinds={"deltalake", "spark"},
    owners=OWNERS,
    description=(
        "Small files of each table are compacted, and files that no kept version names are deleted. Versions that a "
        "registered model is pinned to stay readable, whatever its alias."
    ),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster")
def table_upkeep(
    context: dg.AssetExecutionContext,
    config: UpkeepConfig,
    lakehouse: dg.ResourceParam[Lakehouse],
    tracking: Tracking,
    loader_cluster: StepLauncherResource,
) -> Results:
    """Keep up the tables that are there; refuse while one of them is being written."""
    from mlops_assets.lakehouse.maintenance import maintain, plan_maintenance
    from mlops_assets.registry.pins import pins_of_models

    store = tracking.connect()  # who pins must be known before anything is touched
    with (
        lakehouse.exclusive(RAW, config.wait_seconds),
        lakehouse.exclusive(SETS_LOCK, config.wait_seconds),
        lakehouse.exclusive(LABELS, config.wait_seconds),
    ):
        pins = pins_of_models(
            store, tracking.registered_model, lakehouse.database, raw=RAW, test=TABLES["test"]
        ) + _pins_of_sets(lakehouse)
        plans = plan_maintenance(lakehouse, MAINTAINED, pins, config.retention_hours)
        reports = []
        for plan in plans:
            reports.append(maintain(lakehouse, plan))
            context.log.info(_summary(reports[-1]))
    yield dg.MaterializeResult(asset_key=TABLE_UPKEEP, metadata=_metadata(reports, pins))


def _pins_of_sets(lakehouse: Lakehouse) -> list[Pin]:
    """Return the version of the raw table that the sets were cut from: a model made of them will be pinned to it."""
    sets = [found for found in map(lakehouse.current, TABLES.values()) if found is not None]
    return [
        Pin(RAW, int(found.metadata["raw_version"]), f"{found.name} version {found.rows_version}")
        for found in sets
        if "raw_version" in found.metadata
    ]


def _summary(report: "MaintenanceReport") -> str:
    return (
        f"{report.table}: {report.files_before:,} files are {report.files_after:,}, {report.files_deleted:,} old ones "
        f"deleted ({report.retention_hours:,} h kept: {report.retention_reason})"
    )


def _metadata(reports: "list[MaintenanceReport]", pins: list[Pin]) -> dict[str, Any]:
    head = [
        "| table | files | bytes | deleted files | deleted bytes | kept for | because | pinned versions |",
        "|:--|--:|--:|--:|--:|--:|:--|:--|",
    ]
    lines = [
        f"| {found.table} | {found.files_before:,} → {found.files_after:,} "
        f"| {found.bytes_before:,} → {found.bytes_after:,} | {found.files_deleted:,} | {found.bytes_deleted:,} "
        f"| {found.retention_hours:,} h | {found.retention_reason} | {', '.join(map(str, found.pinned_versions))} |"
        for found in reports
    ]
    pinned = sorted({f"{pin.holder}: {pin.table} version {pin.version}" for pin in pins})
    return {
        "tables": dg.MetadataValue.md("\n".join([*head, *lines])) if reports else "no table is there yet",
        "reports": dg.MetadataValue.json({found.table: asdict(found) for found in reports}),
        "pins": dg.MetadataValue.md("\n".join(f"- {line}" for line in pinned) or "none"),
        "files_before": sum(found.files_before for found in reports),
        "files_after": sum(found.files_after for found in reports),
        "files_deleted": sum(found.files_deleted for found in reports),
        "bytes_deleted": sum(found.bytes_deleted for found in reports),
    }
