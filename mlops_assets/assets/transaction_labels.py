"""The table of late labels: every row of every label file, once.

What belongs here: the asset's spec, and how a load's report is shown. What does not: the load
(`lakehouse/label_loading`), merging labels into transactions (`raw_transactions`).
"""

from typing import Any

import dagster as dg

from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    label_schema,
    preview,
    reason_table,
    refusal,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.labels.labels import LABEL_CHECKS
from mlops_assets.lakehouse import transaction_tables
from mlops_assets.lakehouse.label_loading import LabelReport, load_labels
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import DELTA_VERSION, ROW_COUNT
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import LabelFiles
from mlops_assets.settings import LAUNCH_POOL

TRANSACTION_LABELS = transaction_tables.LABELS


@dg.asset(
    name=TRANSACTION_LABELS,
    group_name="ingest",
    kinds={"deltalake", "spark"},
    owners=OWNERS,
    description=(
        "Delta table of labels that became known after their transactions came in: every row of each label file, once, "
        f"bad ones with what is wrong. `{transaction_tables.RAW}` takes the label that became known last."
    ),
    check_specs=check_specs(LABEL_CHECKS, TRANSACTION_LABELS),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster", lock=TRANSACTION_LABELS)
def transaction_labels(
    context: dg.AssetExecutionContext,
    labels: LabelFiles,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    loader_cluster: StepLauncherResource,
) -> Results:
    """Append the label files that the table does not have."""
    store = LabelStore(lakehouse, contract.load(), context.op_execution_context.run_id)
    report = load_labels(store, labels.open())
    context.log.info(report.outcomes[0].description)
    if not report.refused_whole:
        yield dg.MaterializeResult(metadata=_metadata(store, report))
    yield from check_results(report.outcomes, TRANSACTION_LABELS)
    if failure := refusal(report.outcomes, what=report.refusal, blames_input=report.blames_input):
        raise failure


def _metadata(store: LabelStore, report: LabelReport) -> dict[str, Any]:
    staged, table, counts = report.staged, report.table, report.counts
    accepted = sum(record.accepted for record in staged.records)
    aside = sum(record.quarantined for record in staged.records)
    described = {
        "table": store.lakehouse.location(TRANSACTION_LABELS),
        DELTA_VERSION: -1 if table is None else table.version,
        "rows_in": accepted + aside + staged.known_rows,
        "rows_added": accepted,
        "rows_quarantined": aside,
        "rows_already_known": staged.known_rows,
        "reasons_of_this_load": reason_table(staged.reasons),
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
