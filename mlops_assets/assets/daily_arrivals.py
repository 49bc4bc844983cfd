"""The files of a past day, ingested again: for backfills that restore rows that the raw table lacks.

What belongs here: the asset's spec, and how a day's load is shown. What does not: the load (`lakehouse/loading`), which
files a day has (`data/sources/listing`).

A day's files are loaded into the same tables under the same lock, contract, checks and identity as the first time, so
files that were loaded before add nothing. The metadata holds the resulting version of the raw table, as for an ordinary
load; the conditions look at both.
"""

from typing import Any

import dagster as dg

from mlops_assets.assets.days import DAYS, day_of
from mlops_assets.assets.raw_transactions import RAW, counts_and_inputs
from mlops_assets.assets.reporting import OWNERS, check_results, check_specs, reason_table, refusal
from mlops_assets.assets.shell import Results, asset_shell, with_write_lock
from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.ingest.validation import RAW_CHECKS
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.loading import load
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import DELTA_VERSION
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import FileTransactions, TransactionSourceResource
from mlops_assets.settings import LAUNCH_POOL

DAILY_ARRIVALS = "daily_arrivals"


@dg.asset(
    name=DAILY_ARRIVALS,
    group_name="ingest",
    kinds={"deltalake", "spark"},
    owners=OWNERS,
    description=(
        "The files that were last written on a day (UTC), loaded again like new ones: what raw_transactions and "
        "quarantined_transactions have of them adds nothing. Backfill it to restore past days."
    ),
    partitions_def=DAYS,
    check_specs=check_specs(RAW_CHECKS, DAILY_ARRIVALS),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster")
def daily_arrivals(
    context: dg.AssetExecutionContext,
    source: TransactionSourceResource,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    loader_cluster: StepLauncherResource,
) -> Results:
    """Load the files of one day."""
    day = day_of(context)
    files = source.arrived_on(day)
    context.log.info(f"{day}: {len(files)} files")
    summary: dict[str, Any] = {"day": day.isoformat(), "files": len(files)}
    if not files:
        yield from _nothing(lakehouse, summary)
        return
    store = TransactionStore(lakehouse, contract.load(), context.op_execution_context.run_id)
    yield from with_write_lock(context, lakehouse, RAW, lambda: _deliver(context, store, files, summary))


def _deliver(
    context: dg.AssetExecutionContext, store: TransactionStore, files: list[str], summary: dict[str, Any]
) -> Results:
    report = load(store, FileTransactions.of(files).open())
    if report.tables is not None:
        context.log.info(report.summary)
        more = {DELTA_VERSION: report.tables.raw.rows_version, "reasons": reason_table(report.reasons)}
        yield dg.MaterializeResult(asset_key=DAILY_ARRIVALS, metadata={**summary, **counts_and_inputs(report), **more})
    yield from check_results(report.outcomes, DAILY_ARRIVALS)
    if failure := refusal(report.outcomes, what=report.refusal, blames_input=report.blames_input):
        raise failure


def _nothing(lakehouse: Lakehouse, summary: dict[str, Any]) -> Results:
    """Report a day without files; the conditions compare the newest version that any load reported."""
    table = lakehouse.current(RAW)
    counts = dict.fromkeys(("rows_in", "rows_added", "rows_already_known", "rows_quarantined"), 0)
    version = {} if table is None else {DELTA_VERSION: table.rows_version}
    yield dg.MaterializeResult(asset_key=DAILY_ARRIVALS, metadata={**summary, **counts, **version})
    outcomes = [CheckOutcome(name, passed=True, description="no file arrived on this day") for name in RAW_CHECKS]
    yield from check_results(outcomes, DAILY_ARRIVALS)
