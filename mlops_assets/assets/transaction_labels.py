"""The table of late labels: every row of every label file, or of a generator's reports, once.

What belongs here: the asset's spec, and how a load's report is shown. What does not: the load
(`lakehouse/label_loading`), merging labels into transactions (`raw_transactions`).
"""

from typing import Any

import dagster as dg

from mlops_assets.assets.config_defaults import filled_in
from mlops_assets.assets.label_sources import LabelConfig
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.origins import labels_from
from mlops_assets.assets.reporting import (
    check_results,
    check_specs,
    data_version,
    input_findings,
    known,
    label_schema,
    preview,
    reason_table,
    refusal,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.labels.labels import LABEL_CHECKS
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse import transaction_tables
from mlops_assets.lakehouse.label_loading import LabelReport, load_labels
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lineage import DELTA_VERSION, ROW_COUNT
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.spec import FraudModelSpec

TRANSACTION_LABELS = transaction_tables.LABELS


def build_transaction_labels(spec: FraudModelSpec, labels: LabelConfig) -> dg.AssetsDefinition:
    """Return the asset of a model.

    Args:
        spec: The model.
        labels: Where its labels come from; a run's config may narrow it.
    """
    key = key_of(spec, TRANSACTION_LABELS)

    @dg.asset(
        key=key,
        deps=[labels_from(spec)],
        group_name=spec.group,
        tags=stage_tag("ingest"),
        code_version=spec.contract.fingerprint,
        kinds={"deltalake", "spark"},
        owners=list(spec.owners),
        description=(
            "Delta table of labels that became known after their transactions came in: every row of each label file, "
            f"once, bad ones with what is wrong. `{transaction_tables.RAW}` takes the label that became known last."
        ),
        check_specs=check_specs(LABEL_CHECKS, key),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster", lock=TRANSACTION_LABELS, config=filled_in(labels))
    def transaction_labels(
        context: dg.AssetExecutionContext,
        config: LabelConfig,
        lakehouse: LakehouseResource,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Append the label files that the table does not have."""
        config.require_within(labels)
        store = LabelStore(lakehouse.open(spec), spec.contract, context.op_execution_context.run_id)
        report = load_labels(store, config.open())
        of_table = [] if report.refused_whole else [report.accounted]
        if of_table:
            context.log.info(report.accounted.description)
            version = data_version(store.lakehouse, report.table)
            yield dg.MaterializeResult(metadata=_metadata(store, report), data_version=version)
        yield from check_results(of_table, key)
        refused = [error.where for error in report.staged.errors]
        yield from input_findings([report.readable], key, refused=refused)
        if failure := refusal(
            [*of_table, report.readable],
            what=report.refusal,
            blames_input=report.blames_input,
            transient=report.transient,
        ):
            raise failure

    return transaction_labels


def _metadata(store: LabelStore, report: LabelReport) -> dict[str, Any]:
    staged, table, counts = report.staged, report.table, report.counts
    accepted = sum(record.accepted for record in staged.records)
    aside = sum(record.quarantined for record in staged.records)
    described = {
        "table": dg.MetadataValue.url(store.lakehouse.url(TRANSACTION_LABELS)),
        **({} if table is None else {DELTA_VERSION: table.version}),
        "rows_in": accepted + aside + staged.known_rows,
        "rows_added": accepted,
        "rows_quarantined": aside,
        "rows_already_known": staged.known_rows,
        **known(reasons_of_this_load=reason_table(staged.reasons)),
        "inputs_added": dg.MetadataValue.json(sorted(record.source for record in staged.records)),
        "inputs_already_known": dg.MetadataValue.json(sorted(staged.known)),
        "inputs_refused": dg.MetadataValue.json(sorted(error.where for error in staged.errors)),
        "dagster/column_schema": label_schema(store.contract),
        ROW_COUNT: 0,
    }
    if counts is None or report.first_rows is None:
        return described
    return {
        **described,
        ROW_COUNT: counts.rows,
        "labels_in_force": counts.in_force,
        "frauds": counts.frauds,
        "labels_waiting": counts.waiting,
        "preview": preview(report.first_rows),
    }
