"""The raw Delta table and its quarantine: every incoming row goes into exactly one of the two, once.

What belongs here: the assets' specs, their config, and how a load's report is shown. What does not: the load
(`lakehouse/loading`).
"""

from typing import Any

import dagster as dg
from pydantic import Field, create_model

from mlops_assets.assets.config_defaults import filled_in
from mlops_assets.assets.naming import group_of, key_of
from mlops_assets.assets.reporting import (
    check_results,
    check_specs,
    column_schema,
    input_findings,
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
from mlops_assets.lakehouse import loading, transaction_tables
from mlops_assets.lakehouse.loading import LoadedTables, LoadReport
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import DELTA_VERSION, LATE_LABELS, ROW_COUNT
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.settings import LAUNCH_POOL
from mlops_assets.spec import FraudModelSpec

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
    upstream = [] if spec.labels is None else [key_of(spec, transaction_tables.LABELS)]
    if spec.upstream:
        upstream.append(dg.AssetKey(spec.upstream))

    @dg.multi_asset(
        name=spec.prefixed(RAW),
        group_name=group_of(spec, "ingest"),
        specs=[
            dg.AssetSpec(
                raw,
                deps=upstream,
                kinds={"deltalake", "spark"},
                owners=list(spec.owners),
                description=(
                    "Delta table of all accepted transactions. Each input is identified by its content: loading it "
                    "again adds nothing. Where the contract names a key, the last write of a key stands in the table; "
                    "without one the table is append-only. An input with too many bad rows is refused whole."
                ),
            ),
            dg.AssetSpec(
                quarantined,
                kinds={"deltalake", "spark"},
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
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Load the new inputs of the source, retry the quarantine, or merge late labels."""
        config.source.require_within(source)
        store = TransactionStore(lakehouse.open(spec), spec.contract, context.op_execution_context.run_id)
        if config.replay:
            report = loading.replay(store)
        elif config.labels_only:
            report = loading.merge_labels(store)
        else:
            report = loading.load(store, config.source.open())
        if report.tables is not None:
            context.log.info(report.summary)
            yield dg.MaterializeResult(asset_key=raw, metadata=_raw_metadata(store, report, report.tables))
            yield dg.MaterializeResult(
                asset_key=quarantined, metadata=_quarantine_metadata(store, report, report.tables)
            )
        yield from check_results(report.of_table, raw)
        yield from input_findings(report.of_inputs, raw, refused=report.inputs_refused)
        if failure := refusal(report.outcomes, what=report.refusal, blames_input=report.blames_input):
            raise failure

    return raw_transactions


def counts_and_inputs(report: LoadReport) -> dict[str, Any]:
    """Return the counts of a load's rows and its inputs, as metadata."""
    return {
        "rows_in": report.rows,
        "rows_added": report.accepted,
        "rows_quarantined": report.quarantined,
        "rows_already_known": report.known,
        "inputs_added": dg.MetadataValue.json(report.inputs_added),
        "inputs_already_known": dg.MetadataValue.json(report.inputs_known),
        "inputs_refused": dg.MetadataValue.json(report.inputs_refused),
    }


def _raw_metadata(store: TransactionStore, report: LoadReport, tables: LoadedTables) -> dict[str, Any]:
    contract, totals = store.contract, tables.totals
    of_labels = {
        "unlabelled_rows": totals.rows - totals.with_label,
        LATE_LABELS: totals.late_labels,
        "labels_merged": report.labels_merged,
    }
    return {
        "table": store.lakehouse.location(RAW),
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


def _quarantine_metadata(store: TransactionStore, report: LoadReport, tables: LoadedTables) -> dict[str, Any]:
    shown = first_originals(tables.first_quarantined, loading.PREVIEW_ROWS)
    lines = ["| input | row | reasons | values |", "|---|---|---|---|"]
    lines += [f"| {row['source']} | {row['row']} | {row['reasons']} | {row['values']} |" for row in shown]
    return {
        "table": store.lakehouse.location(QUARANTINED),
        DELTA_VERSION: -1 if tables.quarantined is None else tables.quarantined.rows_version,
        ROW_COUNT: tables.totals.quarantined,
        "rows_added": report.set_aside,
        "frauds_added": report.frauds_set_aside,
        "reasons_of_this_load": reason_table(report.reasons),
        "preview": dg.MetadataValue.md("\n".join(lines)) if shown else "no rows are set aside",
    }
