"""The table of labels that came late: every row of a label file, once.

What belongs here: the asset's shell - files in, checks, metadata. What does not: reading and judging rows
(`data/labels`), committing (`lakehouse/label_store`), bringing labels to transactions (`raw_transactions`).
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    label_schema,
    preview,
    refusal,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.labels.labels import LABEL_CHECKS
from mlops_assets.errors import UnreachableError
from mlops_assets.lakehouse import transaction_tables
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import LabelFiles
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from mlops_assets.data.labels.labels import StagedLabels
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.label_store import LabelStore

TRANSACTION_LABELS = transaction_tables.LABELS
_PREVIEW_ROWS = 5


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
    from mlops_assets.lakehouse.label_store import LabelStore

    store = LabelStore(lakehouse, contract.load(), context.op_execution_context.run_id)
    yield from _load(context, labels, store)


def _load(context: dg.AssetExecutionContext, labels: LabelFiles, store: "LabelStore") -> Results:
    from mlops_assets.data.labels.labels import judge_labels, stage_labels

    with store.lakehouse.staging(TRANSACTION_LABELS) as folder:
        table = store.current()
        staged = stage_labels(labels.open(), store.contract, folder, store.batches(table))
        written = 0
        if staged.records:
            table = store.commit(table, staged, folder)
            written = table.rows_written
        outcomes = judge_labels(staged, written)
        context.log.info(outcomes[0].description)
        # Where every file was refused, nothing has been made.
        if staged.records or staged.known or not staged.errors:
            yield dg.MaterializeResult(metadata=_metadata(store, table, staged))
        yield from check_results(outcomes, TRANSACTION_LABELS)
    refused = ", ".join(error.where for error in staged.errors)
    what = f"refused {refused}; nothing of it was written" if refused else f"{TRANSACTION_LABELS} is not whole"
    blames_input = any(not isinstance(error, UnreachableError) for error in staged.errors)
    if failure := refusal(outcomes, what=what, blames_input=blames_input):
        raise failure


def _metadata(store: "LabelStore", table: "TableVersion | None", staged: "StagedLabels") -> dict[str, Any]:
    from mlops_assets.data.labels.labels import label_table_columns

    accepted = sum(record.accepted for record in staged.records)
    aside = sum(record.quarantined for record in staged.records)
    found = ["| reason | rows |", "|---|---|", *(f"| {code} | {count:,} |" for code, count in staged.reasons.items())]
    described = {
        "table": store.lakehouse.location(TRANSACTION_LABELS),
        "delta_version": -1 if table is None else table.version,
        "rows_in": accepted + aside + staged.known_rows,
        "rows_added": accepted,
        "rows_quarantined": aside,
        "rows_already_known": staged.known_rows,
        "reasons_of_this_load": dg.MetadataValue.md("\n".join(found)) if staged.reasons else "none",
        "inputs_added": dg.MetadataValue.json(sorted(record.source for record in staged.records)),
        "inputs_already_known": dg.MetadataValue.json(sorted(staged.known)),
        "inputs_refused": dg.MetadataValue.json(sorted(error.where for error in staged.errors)),
        "dagster/column_schema": label_schema(store.contract),
        "dagster/row_count": 0,
    }
    if table is None:
        return described
    counts = store.count(table)
    names = list(label_table_columns(store.contract))
    return {
        **described,
        "dagster/row_count": counts.rows,
        "labels_in_force": counts.in_force,
        "frauds": counts.frauds,
        "labels_waiting": counts.waiting,
        "preview": preview(store.first(table, _PREVIEW_ROWS, names[:4])),
    }
