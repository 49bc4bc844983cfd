"""What a run does to the tables of transactions: load a source, replay the quarantine, or merge late labels alone.

What belongs here: the steps of each, and a report of what became of every input and row. What does not: the verdicts
(`data/ingest/validation`), the commits (`transactions`), how a report is shown (assets).

Hold `lakehouse.exclusive(RAW)` around each of them; when another writer was faster (`StaleBaseError`), begin again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.ingest.staging import BAD, GOOD, StagedLoad, first_staged, stage_load
from mlops_assets.data.ingest.validation import (
    RAW_CHECKS,
    ROWS_ACCOUNTED,
    judge_load,
    refuses_load,
    rows_accounted,
)
from mlops_assets.errors import UnreachableError
from mlops_assets.lakehouse.transaction_tables import RAW, Snapshot, Totals, quarantined_rows
from mlops_assets.lakehouse.transactions import Outcome, TransactionStore

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import TransactionSource
    from mlops_assets.errors import PlatformError
    from mlops_assets.lakehouse.commits import TableVersion

PREVIEW_ROWS = 5
_NOT_WHOLE = f"{RAW} is not whole"


@dataclass(frozen=True)
class LoadedTables:
    """The raw table and the quarantine afterwards.

    Attributes:
        raw: Raw table.
        quarantined: Quarantine; None before the first bad row.
        totals: Their rows.
        first_rows: First rows of the raw table or of what came in: the contract's columns.
        first_quarantined: The same of the quarantine (`QUARANTINE_COLUMNS`).
    """

    raw: TableVersion
    quarantined: TableVersion | None
    totals: Totals
    first_rows: pa.Table
    first_quarantined: pa.Table


@dataclass(frozen=True)
class LoadReport:
    """What a load, a replay or a merge of labels did.

    Attributes:
        outcomes: One verdict per check of `RAW_CHECKS`, in that order.
        refusal: What is refused, for the error when a verdict is bad.
        blames_input: Whether the same inputs would be refused again.
        summary: The outcome in one line; empty when the load was refused whole.
        tables: The tables afterwards; None when the load was refused whole, and nothing was written.
        rows: Rows that were read, of inputs that were not refused; of a replay those that waited.
        accepted: Rows that the raw table's log counts as written.
        quarantined: Rows that the quarantine's log counts as written; after a replay, those that stay.
        known: Rows that were known, by their input or by their key.
        set_aside: Rows that came into quarantine.
        frauds_set_aside: Frauds among them.
        reasons: Rows set aside per reason code.
        labels_merged: Rows of the raw table that got a label that came late.
        inputs_added: Inputs that went in.
        inputs_known: Inputs that were loaded before.
        inputs_refused: Inputs of which nothing went in.
    """

    outcomes: Sequence[CheckOutcome]
    refusal: str = ""
    blames_input: bool = False
    summary: str = ""
    tables: LoadedTables | None = None
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    known: int = 0
    set_aside: int = 0
    frauds_set_aside: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    labels_merged: int = 0
    inputs_added: Sequence[str] = ()
    inputs_known: Sequence[str] = ()
    inputs_refused: Sequence[str] = ()


def load(store: TransactionStore, source: TransactionSource) -> LoadReport:
    """Load what a source holds and the tables do not.

    Raises:
        PlatformError: The source can't be read, or the tables not written.
        StaleBaseError: Someone else has written since; look again.
    """
    contract = store.contract
    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        staged = stage_load(source, contract, folder, snapshot.recorded)
        if staged.errors and not (staged.records or staged.known or staged.findings.inputs):
            raise _one_of(staged.errors)
        brought = staged.findings.classes(contract)
        classes = {} if brought[0] and brought[1] else store.classes(snapshot)
        judged = judge_load(staged.findings, contract, classes, errors=staged.errors, known_rows=staged.known_rows)
        refused = _refused(staged, contract)
        blames_input = _blames_input(staged, contract, judged)
        if refuses_load(judged) or (refused and not staged.records):
            return _refused_whole(staged, judged, refused, blames_input=blames_input)
        done = store.commit(snapshot, staged, folder) if staged.records else _nothing_new(store, snapshot)
        tables = _tables(store, done, _first_rows(staged, done, folder), _first_bad(staged, folder))
    rows = staged.known_rows + sum(record.rows for record in staged.records)
    known = staged.known_rows + done.known
    accounted = rows_accounted(rows=rows, accepted=done.accepted, quarantined=done.quarantined, known=known)
    added = [record.source for record in done.records if record.kind == "load"]
    loaded = f"; loaded: {', '.join(record.source for record in staged.records)}" if staged.records else ""
    return LoadReport(
        outcomes=[accounted, *judged],
        refusal=f"refused {', '.join(refused)}; nothing of it was written{loaded}" if refused else _NOT_WHOLE,
        blames_input=blames_input,
        summary=_summary(done, staged),
        tables=tables,
        rows=rows,
        accepted=done.accepted,
        quarantined=done.quarantined,
        known=known,
        set_aside=done.quarantined,
        # Frauds are so few that a fault that hits them alone stays below any share of rows.
        frauds_set_aside=sum(found.bad_frauds for found in staged.findings.inputs if not found.refused(contract)),
        reasons=staged.reasons,
        labels_merged=done.snapshot.labelled,
        inputs_added=sorted(added),
        inputs_known=sorted(staged.known),
        inputs_refused=sorted(refused),
    )


def replay(store: TransactionStore) -> LoadReport:
    """Try the rows in quarantine again, under today's contract.

    Raises:
        PlatformError: The tables can't be read or written.
        StaleBaseError: Someone else has written since; look again.
    """
    with store.lakehouse.staging(RAW) as folder:
        snapshot = store.recover(folder)
        store.lakehouse.require(RAW, made_by=RAW)
        done = store.replay(snapshot, folder)
    tried = sum(record.rows for record in done.records) or done.quarantined
    accounted = rows_accounted(rows=tried, accepted=done.accepted, quarantined=done.quarantined, known=done.known)
    untouched = "a replay reads no input; its rows were held against today's contract one by one"
    return _without_input(store, done, accounted, untouched, rows=tried, summary=f"replay: {accounted.description}")


def merge_labels(store: TransactionStore) -> LoadReport:
    """Merge the labels that came late, and read no input.

    Raises:
        PlatformError: The tables can't be read or written.
        StaleBaseError: Someone else has written since; look again.
    """
    with store.lakehouse.staging(RAW) as folder:
        done = _nothing_new(store, store.recover(folder))
    accounted = rows_accounted(rows=0, accepted=0, quarantined=0, known=0)
    summary = f"{done.snapshot.labelled:,} rows have got a label that came late"
    untouched = "no input was read: labels alone were merged"
    return _without_input(store, done, accounted, untouched, rows=0, summary=summary)


def _refused_whole(
    staged: StagedLoad, judged: Sequence[CheckOutcome], refused: Sequence[str], *, blames_input: bool
) -> LoadReport:
    named = list(refused)
    if refuses_load(judged):
        named = [*(record.source for record in staged.records), *staged.known, *refused]
    return LoadReport(
        outcomes=[rows_accounted(rows=0, accepted=0, quarantined=0, known=0), *judged],
        refusal=f"refused {', '.join(named)}; nothing was written",
        blames_input=blames_input,
        inputs_refused=sorted(refused),
    )


def _without_input(
    store: TransactionStore, done: Outcome, accounted: CheckOutcome, untouched: str, *, rows: int, summary: str
) -> LoadReport:
    """Report a run that read no input, so that most checks have nothing to look at."""
    rest = [CheckOutcome(name, passed=True, description=untouched) for name in RAW_CHECKS if name != ROWS_ACCOUNTED]
    return LoadReport(
        outcomes=[accounted, *rest],
        refusal=_NOT_WHOLE,
        summary=summary,
        tables=_tables(store, done),
        rows=rows,
        accepted=done.accepted,
        quarantined=done.quarantined,
        known=done.known,
        labels_merged=done.snapshot.labelled,
    )


def _nothing_new(store: TransactionStore, snapshot: Snapshot) -> Outcome:
    store.lakehouse.require(RAW, made_by=RAW)
    return Outcome(snapshot)


def _tables(
    store: TransactionStore, done: Outcome, first: pa.Table | None = None, bad: pa.Table | None = None
) -> LoadedTables:
    """Look at the tables afterwards; first rows that are not at hand are read from them."""
    names, snapshot = list(store.contract.column_names), done.snapshot
    raw = snapshot.raw or store.lakehouse.require(RAW, made_by=RAW)
    if first is None:
        first = store.lakehouse.read(RAW, raw.version).select(*names).limit(PREVIEW_ROWS).toArrow()
    if bad is None:
        bad = quarantined_rows(store.lakehouse, snapshot, PREVIEW_ROWS)
    return LoadedTables(raw, snapshot.quarantined, store.totals(done), first.select(names), bad)


def _first_rows(staged: StagedLoad, done: Outcome, folder: Path) -> pa.Table | None:
    """Return the first rows that came in, unless some of those that were staged were known."""
    return first_staged(folder / GOOD, PREVIEW_ROWS) if done.accepted == staged.staged_rows else None


def _first_bad(staged: StagedLoad, folder: Path) -> pa.Table | None:
    return first_staged(folder / BAD, PREVIEW_ROWS) if staged.bad_rows else None


def _refused(staged: StagedLoad, contract: Contract) -> list[str]:
    """Return the inputs of which nothing may go in."""
    judged = [found.origin for found in staged.findings.inputs if found.refused(contract)]
    return [*judged, *(error.where for error in staged.errors)]


def _blames_input(staged: StagedLoad, contract: Contract, judged: Sequence[CheckOutcome]) -> bool:
    """Return whether the same inputs would be refused again, for whatever a load is refused."""
    if any(found.refused(contract) for found in staged.findings.inputs):
        return True
    if any(not isinstance(error, UnreachableError) for error in staged.errors):
        return True
    # What can't be reached today may be what the others lack: rows, or the other class.
    return not staged.errors and refuses_load(judged)


def _one_of(errors: Sequence[PlatformError]) -> PlatformError:
    """Return the error to show when there is nothing but errors: the first that is the input's own, with the others."""
    first, *rest = sorted(errors, key=lambda error: isinstance(error, UnreachableError))
    if not rest:
        return first
    others = "; ".join(f"{error.where}: {error.what}" for error in rest)
    return type(first)(f"{first.what}; also {others}", where=first.where, fix=first.fix, diff=first.diff)


def _summary(done: Outcome, staged: StagedLoad) -> str:
    if not done.records:
        return f"nothing new: {', '.join(staged.known)} came in before" if staged.known else "nothing came in"
    set_aside = f", {done.quarantined:,} set aside" if done.quarantined else ""
    version = "none" if done.snapshot.raw is None else done.snapshot.raw.version
    return f"{done.accepted:,} rows from {len(done.records)} inputs{set_aside}: version {version}"
