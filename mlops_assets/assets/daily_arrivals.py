"""The files of past days, ingested again: for backfills that restore rows that the raw table lacks.

What belongs here: the asset's spec, and how a day's load is shown. What does not: the load (`lakehouse/loading`), which
files a day has (`data/sources/listing`).

A day's files are loaded into the same tables under the same lock, contract, checks and identity as the first time, so
files that were loaded before add nothing. Each day is a materialization of its own, and of the raw table and its
quarantine, whose history, age and data version it therefore counts in. The asset has no checks of its own, since what
they would judge is the raw table: a load that leaves a bad table fails, and materializes nothing (`CHECKED_BY_LOAD`).

A backfill is one run. A day that can't be loaded does not keep the others from being loaded; the run fails at its end.
"""

import warnings
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from mlops_assets.assets.days import days_from, days_of
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.raw_transactions import (
    QUARANTINED,
    RAW,
    counts_and_inputs,
    quarantine_metadata,
    raw_metadata,
    refusal_of,
)
from mlops_assets.assets.reporting import input_findings, known, reason_table, version_tags
from mlops_assets.assets.shell import Results, asset_shell, with_write_lock
from mlops_assets.assets.sources import FileTransactions, SourceConfig
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.errors import PlatformError
from mlops_assets.lakehouse.loading import load
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import CHECKED_BY_LOAD, DELTA_VERSION
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.spec import FraudModelSpec

DAILY_ARRIVALS = "daily_arrivals"


def build_daily_arrivals(spec: FraudModelSpec, source: SourceConfig) -> dg.AssetsDefinition:
    """Return the asset of a model.

    Args:
        spec: The model.
        source: Its source.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # about the backfill policy, at each load

        @dg.asset(
            key=key_of(spec, DAILY_ARRIVALS),
            group_name=spec.group,
            tags=stage_tag("ingest"),
            code_version=spec.contract.fingerprint,
            kinds={"deltalake", "spark"},
            owners=list(spec.owners),
            description=(
                "The files that were last written on a day (UTC), loaded again like new ones: what raw_transactions "
                "and quarantined_transactions have of them adds nothing. Backfill it to restore past days."
            ),
            partitions_def=days_from(spec.first_day),
            backfill_policy=dg.BackfillPolicy.single_run(),
            # Each day is an event of its own: one result would stand for all days of a run, the failed ones too.
            output_required=False,
            pool=LAUNCH_POOL,
        )
        @asset_shell(spec, runner="loader_cluster")
        def daily_arrivals(
            context: dg.AssetExecutionContext,
            lakehouse: LakehouseResource,
            loader_cluster: StepLauncherResource,
        ) -> Results:
            """Load the files of each day."""
            store = TransactionStore(lakehouse.open(spec), spec.contract, context.op_execution_context.run_id)
            failed: dict[date, PlatformError | dg.Failure] = {}
            days = days_of(context)
            for day in days:
                try:
                    yield from _day(context, spec, store, day, source.arrived_on(day))
                except (PlatformError, dg.Failure) as error:
                    context.log.error(f"{day}: {error}")  # noqa: TRY400 - the text is complete
                    failed[day] = error
            if failed:
                raise _failure(failed, days)

    return daily_arrivals


def _day(
    context: dg.AssetExecutionContext, spec: FraudModelSpec, store: TransactionStore, day: date, files: list[str]
) -> Results:
    context.log.info(f"{day}: {len(files)} files")
    if files:
        yield from with_write_lock(context, store.lakehouse, RAW, lambda: _deliver(context, spec, store, day, files))
        return
    # The conditions compare the newest version that any load reported.
    table = store.lakehouse.current(RAW)
    counts = dict.fromkeys(("rows_in", "rows_added", "rows_already_known", "rows_quarantined"), 0)
    version = {} if table is None else {DELTA_VERSION: table.rows_version}
    yield _made(spec, day, files, {**counts, **version}, version_tags(store.lakehouse, table))


def _deliver(
    context: dg.AssetExecutionContext, spec: FraudModelSpec, store: TransactionStore, day: date, files: list[str]
) -> Results:
    report = load(store, FileTransactions.of(files).open())
    if report.tables is not None and all(outcome.passed for outcome in report.of_table):
        context.log.info(report.summary)
        text = f"Files of {day}, loaded again."
        tags = version_tags(store.lakehouse, report.tables.raw)
        table = {**raw_metadata(store, report, report.tables), CHECKED_BY_LOAD: True}
        yield dg.AssetMaterialization(key_of(spec, RAW), description=text, metadata=table, tags=tags)
        yield dg.AssetMaterialization(
            key_of(spec, QUARANTINED),
            description=text,
            metadata=quarantine_metadata(store, report, report.tables),
            tags=version_tags(store.lakehouse, report.tables.quarantined),
        )
        more = {DELTA_VERSION: report.tables.raw.rows_version, **known(reasons=reason_table(report.reasons))}
        yield _made(spec, day, files, {**counts_and_inputs(report), **more}, tags)
    key = key_of(spec, DAILY_ARRIVALS)
    yield from input_findings(report.of_inputs, key, refused=report.inputs_refused, partition=day.isoformat())
    if failure := refusal_of(report):
        raise failure


def _made(
    spec: FraudModelSpec, day: date, files: list[str], found: Mapping[str, Any], tags: Mapping[str, str]
) -> dg.AssetMaterialization:
    metadata = {"day": day.isoformat(), "files": len(files), **found}
    return dg.AssetMaterialization(
        key_of(spec, DAILY_ARRIVALS), partition=day.isoformat(), metadata=metadata, tags=tags
    )


def _failure(failed: Mapping[date, PlatformError | dg.Failure], days: list[date]) -> PlatformError | dg.Failure:
    """Return the failure of a run; it is transient if all of its days' failures are."""
    if len(days) == 1:
        return failed[days[0]]
    transient = all(
        error.transient if isinstance(error, PlatformError) else error.allow_retries for error in failed.values()
    )
    told = "; ".join(f"{day}: {error}" for day, error in failed.items())
    what = f"{len(failed)} of {len(days)} days could not be loaded, the others are. {told}"
    return dg.Failure(what, metadata={"days": ", ".join(map(str, failed))}, allow_retries=transient)
