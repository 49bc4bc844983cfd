"""The raw Delta table and its quarantine: every incoming row goes into exactly one of the two, once.

What belongs here: the assets' specs, their config, and how a load's report is shown. What does not: the load
(`lakehouse/loading`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from mlops_assets.assets.config_defaults import filled_in
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.origins import transactions_from
from mlops_assets.assets.reporting import (
    check_results,
    check_specs,
    column_schema,
    data_version,
    input_findings,
    known,
    preview,
    reason_table,
    refusal,
    rounded,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.sources import SourceConfig
from mlops_assets.data.columns import raw_columns
from mlops_assets.data.ingest.quarantine import first_originals
from mlops_assets.data.ingest.table_checks import TABLE_CHECKS
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.foreign_text import in_cell
from mlops_assets.lakehouse import batches, loading, transaction_tables
from mlops_assets.lakehouse.load_report import LoadedTables, LoadReport
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import (
    BATCHES_DROPPED,
    BATCHES_GONE,
    DELTA_VERSION,
    LATE_LABELS,
    ROW_COUNT,
    TRAINED_ON_REVERTED,
)
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

# Characters of a bad row's values in the preview of the quarantine.
_VALUES = 400
RAW, QUARANTINED = transaction_tables.RAW, transaction_tables.QUARANTINED


class IngestConfig(dg.Config):
    """What to ingest."""

    replay: bool = Field(
        default=False,
        description="Retry the rows in quarantine under the current contract, instead of reading the source.",
    )
    labels_only: bool = Field(
        default=False,
        description="Merge late labels, instead of reading the source. (A load also merges them.)",
    )
    repair: bool = Field(
        default=False,
        description="First take batches that the raw table has lost out of the manifest; then load them again from the "
        "source, or, with `labels_only`, go on without them.",
    )
    revert: list[str] | None = Field(
        default=None,
        description="Take these batches out again, instead of reading the source: ids, or beginnings of ids, of "
        "batches of transactions or of labels (`mlops revert` lists them).",
    )
    accept_changes: str = Field(
        default="",
        description="Why this load may change more known labels or values than `max_changed_share` of the contract "
        "allows; kept with the commit.",
    )
    source: SourceConfig


def ingest_config(source: SourceConfig) -> type[IngestConfig]:
    """Return the launchpad's form for a source of this kind, filled in with this source."""
    form = filled_in(source)
    chosen: Any = Field(default=form(), description="What to read of the model's source.")
    return create_model("IngestConfig", __base__=IngestConfig, __module__=__name__, source=(form, chosen))


def build_raw_transactions(spec: FraudModelSpec, source: SourceConfig) -> dg.AssetsDefinition:
    """Return the assets of a model.

    Args:
        spec: The model.
        source: Its source; a run's config may narrow it.
    """
    raw, quarantined = key_of(spec, RAW), key_of(spec, QUARANTINED)
    upstream = [transactions_from(spec)]
    if spec.labels is not None:
        upstream.append(key_of(spec, transaction_tables.LABELS))

    @dg.multi_asset(
        name=spec.prefixed(RAW),
        group_name=spec.group,
        specs=[
            dg.AssetSpec(
                raw,
                deps=upstream,
                kinds={"deltalake", "spark"},
                tags=stage_tag("ingest"),
                code_version=spec.contract.fingerprint,
                owners=list(spec.owners),
                description=(
                    "Delta table of all accepted transactions. Each input is identified by its content: loading it "
                    "again adds nothing. Where the contract names a key, the last write of a key stands in the table; "
                    "without one the table is append-only. An input with too many bad rows is refused whole."
                ),
            ),
            dg.AssetSpec(
                quarantined,
                deps=[transactions_from(spec)],
                kinds={"deltalake", "spark"},
                tags=stage_tag("ingest"),
                code_version=spec.contract.fingerprint,
                owners=list(spec.owners),
                description=(
                    "Delta table of the rows that break the data contract: where they came from, what is wrong, and "
                    "their values as text. `replay_quarantine` tries them again."
                ),
            ),
        ],
        check_specs=check_specs(TABLE_CHECKS, raw),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster", lock=RAW, config=ingest_config(source))
    def raw_transactions(
        context: dg.AssetExecutionContext,
        config: IngestConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Load the new inputs of the source, retry the quarantine, merge late labels, or revert batches."""
        config.source.require_within(source)
        store = TransactionStore(lakehouse.open(spec), spec.contract, context.op_execution_context.run_id)
        dropped: list[str] = []
        if config.repair:
            dropped = loading.repair(store)
            context.log.info(f"{len(dropped)} batches that the raw table lacks were taken out of the manifest")
        models: list[str] = []
        if config.revert is not None:
            models = _trained_on(
                tracking, spec, store, config.revert
            )  # the registry must answer before anything changes
            report = loading.revert(store, config.revert)
        elif config.replay:
            report = loading.replay(store)
        elif config.labels_only:
            report = loading.merge_labels(store)
        else:
            report = config.source.load_into(store, config.accept_changes, again=bool(dropped))
        if report.tables is not None:
            context.log.info(report.summary)
            yield dg.MaterializeResult(
                asset_key=raw,
                metadata=raw_metadata(store, report, report.tables)
                | revert_metadata(report, models)
                | _repair_metadata(store, dropped),
                data_version=data_version(store.lakehouse, report.tables.raw),
            )
            yield dg.MaterializeResult(
                asset_key=quarantined,
                metadata=quarantine_metadata(store, report, report.tables),
                data_version=data_version(store.lakehouse, report.tables.quarantined),
            )
        yield from check_results(report.of_table, raw)
        yield from input_findings(report.of_inputs, raw, refused=report.inputs_refused)
        if failure := refusal_of(report):
            raise failure

    return raw_transactions


def revert_metadata(report: LoadReport, models: Sequence[str]) -> dict[str, Any]:
    """Return what a revert did, as metadata; empty after anything else.

    Args:
        report: The revert's report.
        models: What was trained on rows of the batches.
    """
    if not report.reverted:
        return {}
    lines = ["| batch | input | rows |", "|:--|:--|--:|"]
    lines += [f"| {batch.batch_id} | {in_cell(batch.source)} | {batch.rows:,} |" for batch in report.reverted]
    return {
        "batches_reverted": dg.MetadataValue.md("\n".join(lines)),
        "rows_removed": report.removed,
        "rows_restored": report.restored,
        TRAINED_ON_REVERTED: dg.MetadataValue.json(list(models)),
    }


def _repair_metadata(store: TransactionStore, dropped: Sequence[str]) -> dict[str, Any]:
    if not dropped:
        return {}
    recorded = store.snapshot().recorded
    gone = [batch_id for batch_id in dropped if batch_id not in recorded]
    return {BATCHES_DROPPED: dg.MetadataValue.json(list(dropped)), BATCHES_GONE: dg.MetadataValue.json(gone)}


def _trained_on(tracking: Tracking, spec: FraudModelSpec, store: TransactionStore, wanted: Sequence[str]) -> list[str]:
    """Return the registered versions and searches that have used rows or labels of the batches."""
    from mlops_assets.registry.pins import pins_of_models

    lakehouse = store.lakehouse
    reverted = batches.chosen(batches.batches(lakehouse), wanted, where=lakehouse.location(RAW))
    pins = pins_of_models(
        tracking.connect(spec.experiment),
        tracking.model(spec.registered_model),
        lakehouse.database,
        raw=RAW,
        test=SET_TABLES["test"],
    )
    used = {pin.version for pin in pins if pin.table == RAW}
    versions = batches.holding(lakehouse, reverted, used)
    return sorted({pin.holder for pin in pins if pin.table == RAW and pin.version in versions})


def refusal_of(report: LoadReport) -> dg.Failure | None:
    """Return the failure of a load that was refused or is incomplete; None if it was not."""
    return refusal(report.outcomes, what=report.refusal, blames_input=report.blames_input, transient=report.transient)


def counts_and_inputs(report: LoadReport) -> dict[str, Any]:
    """Return the counts of a load's rows and its inputs, as metadata."""
    return {
        "rows_in": report.rows,
        "rows_added": report.accepted,
        "rows_quarantined": report.quarantined,
        "rows_already_known": report.known,
        **known(accepted_changes=report.accepted_changes or None),
        "inputs_added": dg.MetadataValue.json(report.inputs_added),
        "inputs_already_known": dg.MetadataValue.json(report.inputs_known),
        "inputs_refused": dg.MetadataValue.json(report.inputs_refused),
    }


def raw_metadata(store: TransactionStore, report: LoadReport, tables: LoadedTables) -> dict[str, Any]:
    """Return the metadata of the raw table after a load."""
    contract, totals = store.contract, tables.totals
    of_labels = {
        "unlabelled_rows": totals.rows - totals.with_label,
        LATE_LABELS: totals.late_labels,
        "labels_merged": report.labels_merged,
    }
    return {
        "table": dg.MetadataValue.url(store.lakehouse.url(RAW)),
        DELTA_VERSION: tables.raw.rows_version,
        **counts_and_inputs(report),
        ROW_COUNT: totals.rows,
        "frauds": totals.frauds,
        "fraud_rate": rounded(totals.frauds / max(1, totals.with_label)),
        **(of_labels if contract.labels else {}),
        "contract": f"{contract.name} v{contract.version} ({contract.fingerprint})",
        "preview": preview(tables.first_rows),
        "dagster/column_schema": column_schema(contract, raw_columns(contract)),
    }


def quarantine_metadata(store: TransactionStore, report: LoadReport, tables: LoadedTables) -> dict[str, Any]:
    """Return the metadata of the quarantine after a load."""
    shown = first_originals(tables.first_quarantined, loading.PREVIEW_ROWS)
    lines = ["| input | row | reasons | values |", "|---|---|---|---|"]
    lines += [
        f"| {in_cell(row['source'])} | {row['row']} | {in_cell(row['reasons'])} | {in_cell(row['values'], _VALUES)} |"
        for row in shown
    ]
    return {
        "table": dg.MetadataValue.url(store.lakehouse.url(QUARANTINED)),
        **({} if tables.quarantined is None else {DELTA_VERSION: tables.quarantined.rows_version}),
        ROW_COUNT: tables.totals.quarantined,
        "rows_added": report.set_aside,
        "frauds_added": report.frauds_set_aside,
        **known(
            reasons_of_this_load=reason_table(report.reasons),
            preview=dg.MetadataValue.md("\n".join(lines)) if shown else None,
        ),
    }
