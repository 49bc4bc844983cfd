"""What a run does to the tables of transactions: load, replay the quarantine, merge late labels, revert batches.

What belongs here: the steps of each. What does not: what is reported (`load_report`), the verdicts (`validation` on
inputs and `table_checks` on the table, in `data/ingest`), the commits (`transactions`), how a report is shown (assets).

Hold `lakehouse.exclusive(RAW)` around each of them; if another writer was faster (`StaleBaseError`), start over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.ingest.staged_files import BAD, GOOD
from mlops_assets.data.ingest.staging import MANY_INPUTS, Parts, StagedLoad, first_staged, stage_load
from mlops_assets.data.ingest.table_checks import both_classes, rows_accounted, rows_kept, rows_reverted
from mlops_assets.data.ingest.validation import judge_load, refuses_load
from mlops_assets.data.sources.base import DividedSource, LargeInput
from mlops_assets.errors import UnreachableError, are_transient
from mlops_assets.lakehouse.batches import batches, chosen
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.load_report import LoadedTables, LoadReport
from mlops_assets.lakehouse.transaction_tables import (
    LABELS,
    MANIFEST,
    RAW,
    Snapshot,
    count_classes,
    quarantined_rows,
)
from mlops_assets.lakehouse.transactions import Outcome, Reverted, TransactionStore

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import TransactionSource
    from mlops_assets.errors import PlatformError

PREVIEW_ROWS = 5
_INCOMPLETE = f"{RAW} is incomplete"


def load(store: TransactionStore, source: TransactionSource, accept_changes: str = "") -> LoadReport:
    """Load the inputs of a source that the tables do not have yet.

    Args:
        store: The tables.
        source: The source.
        accept_changes: Why the load may change more than the contract allows; empty if it may not.

    Raises:
        PlatformError: The source can't be read, or the tables can't be written.
        StaleBaseError: Someone else has written since; start over.
    """
    contract = store.contract
    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        staged = _staged(store, source, folder, snapshot.recorded)
        if staged.errors and not (staged.records or staged.known or staged.findings.inputs):
            raise _combined(staged.errors)
        new_classes = staged.findings.classes(contract)
        classes = {} if new_classes[0] and new_classes[1] else count_classes(store.lakehouse, contract, snapshot)
        judged = judge_load(staged.findings, contract, classes, errors=staged.errors, known_rows=staged.known_rows)
        refused = _refused(staged, contract)
        blames_input = _blames_input(staged, contract, judged)
        if refuses_load(judged) or (refused and not staged.records):
            return _refused_whole(staged, judged, refused, blames_input=blames_input)
        if staged.records:
            done = store.commit(snapshot, staged, folder, accept_changes)
        else:
            done = _nothing_new(store, snapshot)
        if done.changes is not None:
            judged = [*judged, done.changes]
        if done.refused:
            return _refused_whole(staged, judged, refused, blames_input=True)
        tables = _tables(store, done, _first_rows(staged, done, folder), _first_bad(staged, folder))
    rows = staged.known_rows + sum(record.rows for record in staged.records)
    known = staged.known_rows + done.known
    accounted = rows_accounted(rows=rows, accepted=done.accepted, quarantined=done.quarantined, known=known)
    added = [record.source for record in done.records if record.kind == "load"]
    accepted_changes = done.changes.description if done.changes is not None and accept_changes else ""
    loaded = f"; loaded: {', '.join(record.source for record in staged.records)}" if staged.records else ""
    return LoadReport(
        of_table=[accounted, _both_classes(tables, contract)],
        of_inputs=judged,
        refusal=f"refused {', '.join(refused)}; none of their rows were written{loaded}" if refused else _INCOMPLETE,
        blames_input=blames_input,
        transient=are_transient(staged.errors),
        summary=_summary(done, staged),
        tables=tables,
        rows=rows,
        accepted=done.accepted,
        quarantined=done.quarantined,
        known=known,
        set_aside=done.quarantined,
        # Frauds are so few that a fault which affects only them stays below any limit on the share of bad rows.
        frauds_set_aside=sum(item.bad_frauds for item in staged.findings.inputs if not item.refused(contract)),
        reasons=staged.reasons,
        labels_merged=done.snapshot.labelled,
        inputs_added=sorted(added),
        inputs_known=sorted(staged.known),
        inputs_refused=sorted(refused),
        accepted_changes=accepted_changes,
    )


def _staged(store: TransactionStore, source: TransactionSource, folder: Path, known: Collection[str]) -> StagedLoad:
    """Stage a source's inputs: few small ones in this process, many or large ones on the executors."""
    if not isinstance(source, DividedSource):
        return stage_load(source, store.contract, folder, known)
    division = source.divided(folder / "rows", known)
    reads = division.reads
    if len(reads) >= MANY_INPUTS or any(isinstance(read, LargeInput) for read in reads):
        from mlops_assets.data.ingest.staging_frames import reads_apart, stage_over_cluster

        session = store.lakehouse.session
        if reads_apart(session, division.seen_by):
            return stage_over_cluster(session, reads, store.contract, folder, known)
    return stage_load(Parts(reads), store.contract, folder, known)


def replay(store: TransactionStore) -> LoadReport:
    """Retry the rows in quarantine under the current contract.

    Raises:
        PlatformError: The tables can't be read or written.
        StaleBaseError: Someone else has written since; start over.
    """
    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        store.lakehouse.require(RAW, made_by=RAW)
        done = store.replay(snapshot, folder)
    tried = sum(record.rows for record in done.records) or done.quarantined
    accounted = rows_accounted(rows=tried, accepted=done.accepted, quarantined=done.quarantined, known=done.known)
    tables = _tables(store, done)
    return _without_input(store, done, tables, accounted, rows=tried, summary=f"replay: {accounted.description}")


def merge_labels(store: TransactionStore) -> LoadReport:
    """Merge late labels without reading any input.

    Raises:
        PlatformError: The tables can't be read or written.
        StaleBaseError: Someone else has written since; start over.
    """
    with store.lakehouse.staging(RAW) as folder:
        before = store.lakehouse.require(RAW, made_by=RAW)
        done = _nothing_new(store, store.recover(folder))
    tables = _tables(store, done)
    accounted = rows_kept(store.lakehouse.read(RAW, before.version).count(), tables.totals.rows)
    summary = f"{done.snapshot.labelled:,} rows got a late label"
    return _without_input(store, done, tables, accounted, rows=0, summary=summary)


def revert(store: TransactionStore, wanted: Sequence[str]) -> LoadReport:
    """Take batches out of the tables again, as if they had never come; they may be loaded again.

    Args:
        store: The tables.
        wanted: Ids of batches, of transactions or of labels, or the beginnings of ids.

    Raises:
        PlatformError: There is no such batch, or the tables can't be read or written.
        StaleBaseError: Someone else has written since; start over.
    """
    lakehouse = store.lakehouse
    with lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        before = lakehouse.require(RAW, made_by=RAW)
        reverted = chosen(batches(lakehouse), wanted, where=lakehouse.location(MANIFEST))
        rows_before = lakehouse.read(RAW, before.version).count()
        of_labels = [batch for batch in reverted if batch.of_labels]
        if of_labels:
            with lakehouse.exclusive(LABELS):
                labels = LabelStore(lakehouse, store.contract, store.dagster_run)
                labels.revert(lakehouse.require(LABELS, made_by=LABELS), of_labels)
            snapshot = store.recover(folder)
        done = Reverted(snapshot)
        if len(of_labels) < len(reverted):
            done = store.revert(snapshot, [batch for batch in reverted if not batch.of_labels], folder)
    outcome = Outcome(done.snapshot)
    tables = _tables(store, outcome)
    accounted = rows_reverted(before=rows_before, removed=done.removed, after=tables.totals.rows)
    listed = ", ".join(f"{batch.source} ({batch.batch_id[:12]})" for batch in reverted)
    return replace(
        _without_input(
            store, outcome, tables, accounted, rows=0, summary=f"reverted {listed}: {accounted.description}"
        ),
        reverted=reverted,
        removed=done.removed,
        restored=done.restored,
    )


def repair(store: TransactionStore) -> list[str]:
    """Take batches that the raw table lacks out of the manifest; return their ids.

    Raises:
        PlatformError: The tables can't be read or written.
        StaleBaseError: Someone else has written since; start over.
    """
    with store.lakehouse.staging(RAW) as folder:
        return store.drop_missing(folder)


def _refused_whole(
    staged: StagedLoad, judged: Sequence[CheckOutcome], refused: Sequence[str], *, blames_input: bool
) -> LoadReport:
    named = list(refused)
    if refuses_load(judged):
        named = [*(record.source for record in staged.records), *staged.known, *refused]
    return LoadReport(
        of_inputs=judged,
        refusal=f"refused {', '.join(named)}; nothing was written",
        blames_input=blames_input,
        transient=are_transient(staged.errors),
        inputs_refused=sorted(refused),
    )


def _without_input(
    store: TransactionStore, done: Outcome, tables: LoadedTables, accounted: CheckOutcome, *, rows: int, summary: str
) -> LoadReport:
    """Report a run that read no input: it has verdicts on the table only."""
    return LoadReport(
        of_table=[accounted, _both_classes(tables, store.contract)],
        refusal=_INCOMPLETE,
        summary=summary,
        tables=tables,
        rows=rows,
        accepted=done.accepted,
        quarantined=done.quarantined,
        known=done.known,
        labels_merged=done.snapshot.labelled,
    )


def _both_classes(tables: LoadedTables, contract: Contract) -> CheckOutcome:
    totals = tables.totals
    return both_classes(frauds=totals.frauds, genuine=totals.with_label - totals.frauds, contract=contract)


def _nothing_new(store: TransactionStore, snapshot: Snapshot) -> Outcome:
    store.lakehouse.require(RAW, made_by=RAW)
    return Outcome(snapshot)


def _tables(
    store: TransactionStore, done: Outcome, first: pa.Table | None = None, bad: pa.Table | None = None
) -> LoadedTables:
    """Return the tables afterwards; reads their first rows unless those are given."""
    names, snapshot = list(store.contract.column_names), done.snapshot
    raw = snapshot.raw or store.lakehouse.require(RAW, made_by=RAW)
    if first is None:
        first = store.lakehouse.read(RAW, raw.version).select(*names).limit(PREVIEW_ROWS).toArrow()
    if bad is None:
        bad = quarantined_rows(store.lakehouse, snapshot, PREVIEW_ROWS)
    return LoadedTables(raw, snapshot.quarantined, store.totals(done), first.select(names), bad)


def _first_rows(staged: StagedLoad, done: Outcome, folder: Path) -> pa.Table | None:
    """Return the first staged rows; None if some of the staged rows were known already."""
    return first_staged(folder / GOOD, PREVIEW_ROWS) if done.accepted == staged.staged_rows else None


def _first_bad(staged: StagedLoad, folder: Path) -> pa.Table | None:
    return first_staged(folder / BAD, PREVIEW_ROWS) if staged.bad_rows else None


def _refused(staged: StagedLoad, contract: Contract) -> list[str]:
    """Return the refused inputs, unreadable ones included."""
    judged = [item.origin for item in staged.findings.inputs if item.refused(contract)]
    return [*judged, *(error.where for error in staged.errors)]


def _blames_input(staged: StagedLoad, contract: Contract, judged: Sequence[CheckOutcome]) -> bool:
    """Return whether the same inputs would be refused again."""
    if any(item.refused(contract) for item in staged.findings.inputs):
        return True
    if any(not isinstance(error, UnreachableError) for error in staged.errors):
        return True
    # An input that can't be reached today may hold what the others lack: rows, or the other class.
    return not staged.errors and refuses_load(judged)


def _combined(errors: Sequence[PlatformError]) -> PlatformError:
    """Return one error for all: the first that blames its input, with the others listed in its text."""
    first, *rest = sorted(errors, key=lambda error: isinstance(error, UnreachableError))
    if not rest:
        return first
    others = "; ".join(f"{error.where}: {error.what}" for error in rest)
    what = f"{first.what}; also {others}"
    return type(first)(what, where=first.where, fix=first.fix, diff=first.diff, transient=are_transient(errors))


def _summary(done: Outcome, staged: StagedLoad) -> str:
    if not done.records:
        return f"nothing new; already loaded: {', '.join(staged.known)}" if staged.known else "no input"
    set_aside = f", {done.quarantined:,} set aside" if done.quarantined else ""
    version = "none" if done.snapshot.raw is None else done.snapshot.raw.version
    return f"{done.accepted:,} rows from {len(done.records)} inputs{set_aside}: version {version}"
