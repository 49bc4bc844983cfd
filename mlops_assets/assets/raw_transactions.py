"""The raw Delta table and its quarantine: every row that comes in, once, in one of the two.

What belongs here: the assets' shell - source in, checks, metadata. What does not: reading and judging rows (`data/`),
the order of commits (`lakehouse/transactions`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    column_schema,
    preview,
    refusal,
    rounded,
)
from mlops_assets.assets.shell import Results, asset_shell, with_write_lock
from mlops_assets.data.ingest.validation import RAW_CHECKS, ROWS_ACCOUNTED
from mlops_assets.errors import UnreachableError
from mlops_assets.lakehouse import transaction_tables
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import TransactionSourceResource
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.ingest.staging import StagedLoad
    from mlops_assets.errors import PlatformError
    from mlops_assets.lakehouse.transactions import Outcome, TransactionStore

RAW, QUARANTINED = transaction_tables.RAW, transaction_tables.QUARANTINED
_PREVIEW_ROWS = 5


class IngestConfig(dg.Config):
    """What to bring in."""

    replay: bool = Field(
        default=False,
        description="Try the rows in quarantine again, under today's contract, instead of looking at the source.",
    )
    labels_only: bool = Field(
        default=False,
        description="Merge the labels that came late, instead of looking at the source. (A load does so as well.)",
    )


@dg.multi_asset(
    name=RAW,
    group_name="ingest",
    specs=[
        dg.AssetSpec(
            RAW,
            deps=[transaction_tables.LABELS],  # where there is a source of labels; the binding place takes it out else
            kinds={"deltalake", "spark"},
            owners=OWNERS,
            description=(
                "Delta table of all accepted transactions. Each input is identified by its content: loading it again "
                "adds nothing. Where the contract names a key, the last write of a key stands in the table; without "
                "one the table is append-only. An input with too many bad rows is refused whole."
            ),
        ),
        dg.AssetSpec(
            QUARANTINED,
            kinds={"deltalake", "spark"},
            owners=OWNERS,
            description=(
                "Delta table of the rows that break the data contract: where they came from, what is wrong, and their "
                "values as text. `replay_quarantine` tries them again."
            ),
        ),
    ],
    check_specs=check_specs(RAW_CHECKS, RAW),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster", lock=RAW)
def raw_transactions(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    source: TransactionSourceResource,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    loader_cluster: StepLauncherResource,
) -> Results:
    """Load what the source holds and the tables do not, or try again what is in quarantine."""
    from mlops_assets.lakehouse.transactions import TransactionStore

    store = TransactionStore(lakehouse, contract.load(), context.op_execution_context.run_id)
    if config.replay:
        yield from _replay(context, store)
    elif config.labels_only:
        yield from _merge_labels(context, store)
    else:
        yield from _load(context, source, store)


def load_with_write_lock(
    context: dg.AssetExecutionContext, source: TransactionSourceResource, store: "TransactionStore"
) -> Results:
    """Load what a source holds and the tables do not, when no other writer is at it.

    Yields:
        The result of the raw table, then that of the quarantine, then those of the raw table's checks.

    Raises:
        dg.Failure: Something is refused.
        PlatformError: The source can't be read, or the tables not written.
    """
    yield from with_write_lock(context, store.lakehouse, RAW, lambda: _load(context, source, store))


def _load(context: dg.AssetExecutionContext, source: TransactionSourceResource, store: "TransactionStore") -> Results:
    from mlops_assets.data.ingest.staging import BAD, GOOD, first_staged, stage_load
    from mlops_assets.data.ingest.validation import judge_load, refuses_load, rows_accounted

    contract = store.contract
    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        load = stage_load(source.open(), contract, folder, snapshot.recorded)
        if load.errors and not (load.records or load.known or load.findings.inputs):
            raise _one_of(load.errors)
        brought = load.findings.classes(contract)
        classes = {} if brought[0] and brought[1] else store.classes(snapshot)
        outcomes = judge_load(load.findings, contract, classes, errors=load.errors, known_rows=load.known_rows)
        refused = _refused(load, store)
        whole = refuses_load(outcomes)
        if whole or (refused and not load.records):
            named = [*(record.source for record in load.records), *load.known, *refused] if whole else refused
            nothing = rows_accounted(rows=0, accepted=0, quarantined=0, known=0)
            yield from check_results([nothing, *outcomes], RAW)
            what = f"refused {', '.join(named)}; nothing was written"
            blames_input = _blames_input(load, store, outcomes)
            raise refusal(outcomes, what=what, blames_input=blames_input) or dg.Failure(what, allow_retries=False)
        done = store.commit(snapshot, load, folder) if load.records else _nothing_new(store, snapshot)
        context.log.info(_summary(done, load))
        accounted = rows_accounted(
            rows=load.known_rows + sum(record.rows for record in load.records),
            accepted=done.accepted,
            quarantined=done.quarantined,
            known=load.known_rows + done.known,
        )
        # The first rows are at hand, unless some of those that came in were known.
        first = first_staged(folder / GOOD, _PREVIEW_ROWS) if done.accepted == load.staged_rows else None
        bad = first_staged(folder / BAD, _PREVIEW_ROWS) if load.bad_rows else None
        totals = store.totals(done)
        yield dg.MaterializeResult(asset_key=RAW, metadata=_raw_metadata(store, done, totals, load, accounted, first))
        yield dg.MaterializeResult(asset_key=QUARANTINED, metadata=_quarantine_metadata(store, done, totals, load, bad))
        yield from check_results([accounted, *outcomes], RAW)
    loaded = f"; loaded: {', '.join(record.source for record in load.records)}" if load.records else ""
    what = f"refused {', '.join(refused)}; nothing of it was written{loaded}" if refused else f"{RAW} is not whole"
    blames_input = _blames_input(load, store, outcomes)
    if failure := refusal([accounted, *outcomes], what=what, blames_input=blames_input):
        raise failure


def _replay(context: dg.AssetExecutionContext, store: "TransactionStore") -> Results:
    from mlops_assets.data.ingest.validation import rows_accounted

    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        store.lakehouse.require(RAW, made_by=RAW)
        done = store.replay(snapshot, folder)
        tried = sum(record.rows for record in done.records) or done.quarantined
        accounted = rows_accounted(rows=tried, accepted=done.accepted, quarantined=done.quarantined, known=done.known)
        context.log.info(f"replay: {accounted.description}")
        untouched = "a replay reads no input; its rows were held against today's contract one by one"
        yield from _without_input(store, done, accounted, untouched)
    if failure := refusal([accounted], what=f"{RAW} is not whole", blames_input=False):
        raise failure


def _merge_labels(context: dg.AssetExecutionContext, store: "TransactionStore") -> Results:
    from mlops_assets.data.ingest.validation import rows_accounted

    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        done = _nothing_new(store, snapshot)
        context.log.info(f"{snapshot.labelled:,} rows have got a label that came late")
        accounted = rows_accounted(rows=0, accepted=0, quarantined=0, known=0)
        yield from _without_input(store, done, accounted, "no input was read: labels alone were merged")


def _without_input(store: "TransactionStore", done: "Outcome", accounted: "CheckOutcome", untouched: str) -> Results:
    """Yield the results of a run that read no input, so that most checks have nothing to look at."""
    from mlops_assets.data.checks import CheckOutcome

    rest = [CheckOutcome(name, passed=True, description=untouched) for name in RAW_CHECKS if name != ROWS_ACCOUNTED]
    totals = store.totals(done)
    yield dg.MaterializeResult(asset_key=RAW, metadata=_raw_metadata(store, done, totals, None, accounted))
    yield dg.MaterializeResult(asset_key=QUARANTINED, metadata=_quarantine_metadata(store, done, totals, None))
    yield from check_results([accounted, *rest], RAW)


def _nothing_new(store: "TransactionStore", snapshot: transaction_tables.Snapshot) -> "Outcome":
    from mlops_assets.lakehouse.transactions import Outcome

    store.lakehouse.require(RAW, made_by=RAW)
    return Outcome(snapshot)


def _refused(load: "StagedLoad", store: "TransactionStore") -> list[str]:
    """Return the inputs of which nothing may go in."""
    judged = [found.origin for found in load.findings.inputs if found.refused(store.contract)]
    return [*judged, *(error.where for error in load.errors)]


def _blames_input(load: "StagedLoad", store: "TransactionStore", outcomes: "Sequence[CheckOutcome]") -> bool:
    """Return whether the same inputs would be refused again, for whatever a load is refused."""
    from mlops_assets.data.ingest.validation import refuses_load

    if any(found.refused(store.contract) for found in load.findings.inputs):
        return True
    if any(not isinstance(error, UnreachableError) for error in load.errors):
        return True
    # What can't be reached today may be what the others lack: rows, or the other class.
    return not load.errors and refuses_load(outcomes)


def _one_of(errors: "Sequence[PlatformError]") -> "PlatformError":
    """Return the error to show when there is nothing but errors: the first that is the input's own, with the others."""
    first, *rest = sorted(errors, key=lambda error: isinstance(error, UnreachableError))
    if not rest:
        return first
    others = "; ".join(f"{error.where}: {error.what}" for error in rest)
    return type(first)(f"{first.what}; also {others}", where=first.where, fix=first.fix, diff=first.diff)


def _summary(done: "Outcome", load: "StagedLoad") -> str:
    if not done.records:
        return f"nothing new: {', '.join(load.known)} came in before" if load.known else "nothing came in"
    set_aside = f", {done.quarantined:,} set aside" if done.quarantined else ""
    version = "none" if done.snapshot.raw is None else done.snapshot.raw.version
    return f"{done.accepted:,} rows from {len(done.records)} inputs{set_aside}: version {version}"


def _raw_metadata(
    store: "TransactionStore",
    done: "Outcome",
    totals: transaction_tables.Totals,
    load: "StagedLoad | None",
    accounted: "CheckOutcome",
    first: "pa.Table | None" = None,
) -> dict[str, Any]:
    from mlops_assets.data.columns import technical_columns

    contract, table = store.contract, store.lakehouse.require(RAW, made_by=RAW)
    loaded = [record.source for record in done.records if record.kind == "load"]
    if first is None:
        rows = store.lakehouse.read(RAW, table.version)
        first = rows.select(*contract.column_names).limit(_PREVIEW_ROWS).toArrow()
    of_labels = {
        "unlabelled_rows": totals.rows - totals.with_label,
        "late_labels": totals.late_labels,
        "labels_merged": done.snapshot.labelled,
    }
    return {
        "table": store.lakehouse.location(RAW),
        "delta_version": table.rows_version,
        "rows_in": accounted.details["rows_in"],
        "rows_added": done.accepted,
        "rows_quarantined": done.quarantined,
        "rows_already_known": accounted.details["already_known"],
        "dagster/row_count": totals.rows,
        "frauds": totals.frauds,
        "fraud_rate": rounded(totals.frauds / max(1, totals.with_label)),
        **(of_labels if contract.labels else {}),
        "contract": f"{contract.name} v{contract.version} ({contract.fingerprint})",
        "inputs_added": dg.MetadataValue.json(sorted(loaded)),
        "inputs_already_known": dg.MetadataValue.json(sorted(load.known if load else [])),
        "inputs_refused": dg.MetadataValue.json(sorted(_refused(load, store) if load else [])),
        "preview": preview(first.select(list(contract.column_names))),
        "dagster/column_schema": column_schema(contract, technical_columns(contract)),
    }


def _quarantine_metadata(
    store: "TransactionStore",
    done: "Outcome",
    totals: transaction_tables.Totals,
    load: "StagedLoad | None",
    bad: "pa.Table | None" = None,
) -> dict[str, Any]:
    from mlops_assets.data.ingest.quarantine import first_originals

    table = done.snapshot.quarantined
    first = transaction_tables.quarantined_rows(store.lakehouse, done.snapshot, _PREVIEW_ROWS) if bad is None else bad
    shown = first_originals(first, _PREVIEW_ROWS)
    lines = ["| input | row | reasons | values |", "|---|---|---|---|"]
    lines += [f"| {row['source']} | {row['row']} | {row['reasons']} | {row['values']} |" for row in shown]
    reasons = load.reasons if load else {}
    found = ["| reason | rows |", "|---|---|", *(f"| {code} | {count:,} |" for code, count in reasons.items())]
    inputs = [found for found in load.findings.inputs if not found.refused(store.contract)] if load else []
    return {
        "table": store.lakehouse.location(QUARANTINED),
        "delta_version": -1 if table is None else table.rows_version,
        "dagster/row_count": totals.quarantined,
        "rows_added": done.quarantined if load else 0,
        # Frauds are so few that a fault that hits them alone stays below any share of rows.
        "frauds_added": sum(found.bad_frauds for found in inputs),
        "reasons_of_this_load": dg.MetadataValue.md("\n".join(found)) if reasons else "none",
        "preview": dg.MetadataValue.md("\n".join(lines)) if shown else "no row is set aside",
    }
