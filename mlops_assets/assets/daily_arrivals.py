"""The files of a past day, ingested again: for backfills that restore rows that the raw table lacks.

What belongs here: the asset's spec, and how a day's load is shown. What does not: the load (`lakehouse/loading`), which
files a day has (`data/sources/listing`).

A day's files are loaded into the same tables under the same lock, contract, checks and identity as the first time, so
files that were loaded before add nothing. The metadata holds the resulting version of the raw table, as for an ordinary
load; the conditions look at both. The asset has no checks of its own, since what they would judge is the raw table: a
load that leaves a bad table fails, and does not report its version.
"""

from typing import Any

import dagster as dg

from mlops_assets.assets.days import DAYS, day_of
from mlops_assets.assets.naming import group_of, key_of
from mlops_assets.assets.raw_transactions import RAW, counts_and_inputs
from mlops_assets.assets.reporting import input_findings, reason_table, refusal
from mlops_assets.assets.shell import Results, asset_shell, with_write_lock
from mlops_assets.assets.sources import FileTransactions, SourceConfig
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.loading import load
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import DELTA_VERSION
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.settings import LAUNCH_POOL
from mlops_assets.spec import FraudModelSpec

DAILY_ARRIVALS = "daily_arrivals"


def build_daily_arrivals(spec: FraudModelSpec, source: SourceConfig) -> dg.AssetsDefinition:
    """Return the asset of a model.

    Args:
        spec: The model.
        source: Its source.
    """
    key = key_of(spec, DAILY_ARRIVALS)

    @dg.asset(
        key=key,
        group_name=group_of(spec, "ingest"),
        kinds={"deltalake", "spark"},
        owners=list(spec.owners),
        description=(
            "The files that were last written on a day (UTC), loaded again like new ones: what raw_transactions and "
            "quarantined_transactions have of them adds nothing. Backfill it to restore past days."
        ),
        partitions_def=DAYS,
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster")
    def daily_arrivals(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Load the files of one day."""
        day, database = day_of(context), lakehouse.open(spec)
        files = source.arrived_on(day)
        context.log.info(f"{day}: {len(files)} files")
        summary: dict[str, Any] = {"day": day.isoformat(), "files": len(files)}
        if not files:
            yield from _nothing(database, key, summary)
            return
        store = TransactionStore(database, spec.contract, context.op_execution_context.run_id)
        yield from with_write_lock(context, database, RAW, lambda: _deliver(context, store, key, files, summary))

    return daily_arrivals


def _deliver(
    context: dg.AssetExecutionContext,
    store: TransactionStore,
    key: dg.AssetKey,
    files: list[str],
    summary: dict[str, Any],
) -> Results:
    report = load(store, FileTransactions.of(files).open())
    if report.tables is not None and all(outcome.passed for outcome in report.of_table):
        context.log.info(report.summary)
        more = {DELTA_VERSION: report.tables.raw.rows_version, "reasons": reason_table(report.reasons)}
        yield dg.MaterializeResult(asset_key=key, metadata={**summary, **counts_and_inputs(report), **more})
    day = context.partition_key
    yield from input_findings(report.of_inputs, key, refused=report.inputs_refused, partition=day)
    if failure := refusal(report.outcomes, what=report.refusal, blames_input=report.blames_input):
        raise failure


def _nothing(lakehouse: Lakehouse, key: dg.AssetKey, summary: dict[str, Any]) -> Results:
    """Report a day without files; the conditions compare the newest version that any load reported."""
    table = lakehouse.current(RAW)
    counts = dict.fromkeys(("rows_in", "rows_added", "rows_already_known", "rows_quarantined"), 0)
    version = {} if table is None else {DELTA_VERSION: table.rows_version}
    yield dg.MaterializeResult(asset_key=key, metadata={**summary, **counts, **version})
