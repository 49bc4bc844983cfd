"""Upkeep of the platform's tables: many small files become few, and what nobody needs any more is deleted.

What belongs here: the asset's spec and config - which tables, whose pins - and how the report is shown. What does not:
the decision how long files are kept (`lakehouse/retention`), the commands (`lakehouse/maintenance`).
"""

from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.reporting import OWNERS
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.locks import LOCK_TIMEOUT_SECONDS
from mlops_assets.lakehouse.maintenance import UpkeepReport, maintain_tables, pins_of_sets
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lakehouse.split_sets import SETS_LOCK
from mlops_assets.lakehouse.transaction_tables import LABELS, MANIFEST
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL

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
    """Maintain the tables that are there; refuse while one of them is being written."""
    from mlops_assets.registry.pins import pins_of_models

    store = tracking.connect()  # who pins must be known before anything is touched

    def pins() -> list[Pin]:
        of_models = pins_of_models(store, tracking.registered_model, lakehouse.database, raw=RAW, test=TABLES["test"])
        return of_models + pins_of_sets(lakehouse, TABLES.values(), raw=RAW)

    report = maintain_tables(
        lakehouse,
        MAINTAINED,
        pins,
        config.retention_hours,
        locks=(RAW, SETS_LOCK, LABELS),
        wait_seconds=config.wait_seconds,
        tell=context.log.info,
    )
    yield dg.MaterializeResult(asset_key=TABLE_UPKEEP, metadata=_metadata(report))


def _metadata(report: UpkeepReport) -> dict[str, Any]:
    reports = report.tables
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
    pinned = sorted({f"{pin.holder}: {pin.table} version {pin.version}" for pin in report.pins})
    return {
        "tables": dg.MetadataValue.md("\n".join([*head, *lines])) if reports else "no table is there yet",
        "reports": dg.MetadataValue.json({found.table: asdict(found) for found in reports}),
        "pins": dg.MetadataValue.md("\n".join(f"- {line}" for line in pinned) or "none"),
        "files_before": sum(found.files_before for found in reports),
        "files_after": sum(found.files_after for found in reports),
        "files_deleted": sum(found.files_deleted for found in reports),
        "bytes_deleted": sum(found.bytes_deleted for found in reports),
    }
