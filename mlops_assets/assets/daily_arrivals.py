"""What arrived on a past day, delivered again: for backfills that restore what the raw table lacks.

What belongs here: the asset's shell - a day in, its files through the load of `raw_transactions`, counts. What does
not: the load itself (`raw_transactions`), which files a day has (`data/sources/listing`).

The files of a day go into the same tables under the same lock, contract, checks and identity as at their first arrival,
so what is in adds nothing. The version of the raw table that comes out is in the metadata, as it is for a load: the
conditions look at both.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.days import DAYS, day_of
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, load_with_write_lock
from mlops_assets.assets.reporting import OWNERS, check_results, check_specs, of_asset
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.ingest.validation import RAW_CHECKS
from mlops_assets.errors import SettingsError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import FileTransactions, TransactionSourceResource
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from datetime import date

DAILY_ARRIVALS = "daily_arrivals"
_COUNTS = ("rows_in", "rows_added", "rows_already_known", "rows_quarantined", "delta_version")
_INPUTS = ("inputs_added", "inputs_already_known", "inputs_refused")


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
    from mlops_assets.lakehouse.transactions import TransactionStore

    day = day_of(context)
    files = _files_of(source, day)
    context.log.info(f"{day}: {len(files)} files")
    summary: dict[str, Any] = {"day": day.isoformat(), "files": len(files)}
    if not files:
        yield from _nothing(lakehouse, summary)
        return
    store = TransactionStore(lakehouse, contract.load(), context.op_execution_context.run_id)
    for found in load_with_write_lock(context, FileTransactions.of(files), store):
        if isinstance(found, dg.AssetCheckResult):
            yield of_asset(found, DAILY_ARRIVALS)
        elif found.asset_key == dg.AssetKey(RAW):
            loaded = found.metadata or {}
        elif found.asset_key == dg.AssetKey(QUARANTINED):
            metadata = {name: loaded[name] for name in (*_COUNTS, *_INPUTS)}
            reasons = (found.metadata or {})["reasons_of_this_load"]
            yield dg.MaterializeResult(asset_key=DAILY_ARRIVALS, metadata={**summary, **metadata, "reasons": reasons})


def _files_of(source: TransactionSourceResource, day: "date") -> list[str]:
    if not isinstance(source, FileTransactions):
        raise SettingsError(
            f"{type(source).__name__} has no files that arrive",
            where=f"{DAILY_ARRIVALS} {day}",
            fix="set MLOPS_SOURCE to a folder or glob; other sources are loaded whole by `load_data`",
        )
    return source.arrived_on(day)


def _nothing(lakehouse: Lakehouse, summary: dict[str, Any]) -> Results:
    from mlops_assets.data.checks import CheckOutcome

    table = lakehouse.current(RAW)
    counts = {name: 0 for name in _COUNTS if name.startswith("rows")}
    # The conditions compare the newest version that any load has told of.
    version = {} if table is None else {"delta_version": table.rows_version}
    yield dg.MaterializeResult(asset_key=DAILY_ARRIVALS, metadata={**summary, **counts, **version})
    outcomes = [CheckOutcome(name, passed=True, description="no file arrived on this day") for name in RAW_CHECKS]
    yield from check_results(outcomes, DAILY_ARRIVALS)
