"""Upkeep of the platform's tables: compact small files, and delete files that nothing needs any more.

What belongs here: the asset's spec and config - which tables, whose pins - and how the report is shown. What does not:
how long files are kept (`lakehouse/retention`), the commands (`lakehouse/maintenance`).
"""

from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.reporting import known
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse.locks import LOCK_TIMEOUT_SECONDS
from mlops_assets.lakehouse.maintenance import UpkeepReport, maintain_tables, pins_of_sets
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lakehouse.split_sets import SETS_LOCK
from mlops_assets.lakehouse.transaction_tables import KNOWN, LABELS, MANIFEST, REPLACED
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

TABLE_UPKEEP = "table_upkeep"
MAINTAINED = (RAW, QUARANTINED, MANIFEST, LABELS, REPLACED, KNOWN, *TABLES.values(), SCORES)


class UpkeepConfig(dg.Config):
    """How much of the past is kept."""

    retention_hours: int = Field(
        default=168,
        ge=0,
        description="Hours for which a table keeps the files that it removed; longer where a model is pinned.",
    )
    wait_seconds: float = Field(
        default=LOCK_TIMEOUT_SECONDS, ge=0, description="How long to wait for a running load or split to finish."
    )


def build_table_upkeep(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model."""
    key = key_of(spec, TABLE_UPKEEP)

    @dg.asset(
        key=key,
        group_name=spec.group,
        tags=stage_tag("upkeep"),
        kinds={"deltalake", "spark"},
        owners=list(spec.owners),
        description=(
            "Small files of each table are compacted, and files that no kept version names are deleted. Versions that "
            "a registered model is pinned to stay readable, whatever its alias."
        ),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster")
    def table_upkeep(
        context: dg.AssetExecutionContext,
        config: UpkeepConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Maintain the existing tables; fail if one of them is still being written after the wait."""
        from mlops_assets.registry.alias_moves import ChampionLedger
        from mlops_assets.registry.pins import pins_of_models

        store = tracking.connect(spec.experiment)  # the pins must be known before anything is deleted
        model, database = tracking.model(spec.registered_model), lakehouse.open(spec)
        # Of an empty registry in a lost one's place it would hear that nothing is pinned.
        ChampionLedger.of(store, model, database).require_registry()

        def pins() -> list[Pin]:
            of_models = pins_of_models(store, model, database.database, raw=RAW, test=TABLES["test"])
            return of_models + pins_of_sets(database, TABLES.values(), raw=RAW)

        report = maintain_tables(
            database,
            MAINTAINED,
            pins,
            config.retention_hours,
            locks=(RAW, SETS_LOCK, LABELS, SCORES),
            wait_seconds=config.wait_seconds,
            log=context.log.info,
        )
        yield dg.MaterializeResult(asset_key=key, metadata=_metadata(report))

    return table_upkeep


def _metadata(report: UpkeepReport) -> dict[str, Any]:
    reports = report.tables
    head = [
        "| table | files | bytes | deleted files | deleted bytes | kept for | because | pinned versions |",
        "|:--|--:|--:|--:|--:|--:|:--|:--|",
    ]
    lines = [
        f"| {table.table} | {table.files_before:,} → {table.files_after:,} "
        f"| {table.bytes_before:,} → {table.bytes_after:,} | {table.files_deleted:,} | {table.bytes_deleted:,} "
        f"| {table.retention_hours:,} h | {table.retention_reason} | {', '.join(map(str, table.pinned_versions))} |"
        for table in reports
    ]
    pinned = sorted({f"{pin.holder}: {pin.table} version {pin.version}" for pin in report.pins})
    return {
        **known(
            tables=dg.MetadataValue.md("\n".join([*head, *lines])) if reports else None,
            pins=dg.MetadataValue.md("\n".join(f"- {line}" for line in pinned)) if pinned else None,
        ),
        "reports": dg.MetadataValue.json({table.table: asdict(table) for table in reports}),
        "files_before": sum(table.files_before for table in reports),
        "files_after": sum(table.files_after for table in reports),
        "files_deleted": sum(table.files_deleted for table in reports),
        "bytes_deleted": sum(table.bytes_deleted for table in reports),
    }
