"""Decide which inputs of a load may enter the raw table: the blocking checks of `raw_transactions`.

What belongs here: counts in, verdicts out; each verdict names the inputs, columns and rows. What does not: computing
the counts (`conform`), writing, Dagster.

Rows that break the contract are set aside (`quarantine`). An input with more of them than the contract allows is
refused whole, and so is one whose rows go back in time; a load without both classes or with too few rows is refused as
a load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.contract.conform import (
    INFINITE,
    NOT_BINARY,
    NULL,
    OUT_OF_RANGE,
    UNREADABLE,
    ColumnFaults,
    ConformedBatch,
)
from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import PlatformError

ROWS_ACCOUNTED = "rows_accounted"
RAW_CHECKS: dict[str, str] = {
    ROWS_ACCOUNTED: "Rows in = accepted + quarantined + already known.",
    "inputs_readable": "Every input can be read and has the contract's columns.",
    "contract_types": "Every value can be read as its column's type, but for rows that were set aside.",
    "no_nulls": "No null or NaN where the contract wants a value, but for rows that were set aside.",
    "no_infinities": "No infinite value, and no feature too large for float32, but for rows that were set aside.",
    "ranges": "Numbers are within the contract's ranges, but for rows that were set aside.",
    "binary_target": "The target is 0 or 1, but for rows that were set aside.",
    "both_classes": "The table holds frauds and genuine transactions.",
    "time_ordered": "Inside a file, event time never goes back.",
    "volume": "The load brings as many rows as the contract wants.",
}
_REASON_OF = {"contract_types": UNREADABLE, "no_nulls": NULL, "no_infinities": INFINITE, "ranges": OUT_OF_RANGE}
_EXAMPLES = 5


@dataclass
class InputFindings:
    """What was found in one input.

    Attributes:
        origin: The input.
        rows: Its rows.
        bad: Rows that break the contract, for whatever reason.
        classes: Good rows per target value, 0 and 1.
        bad_frauds: Rows among the bad ones that are labelled as frauds.
        strange_targets: Rows per other target value, of the first few such values.
        faults: Per column, what does not fit.
        disorder: Rows that go back in time.
    """

    origin: str
    rows: int = 0
    bad: int = 0
    classes: dict[int, int] = field(default_factory=dict)
    bad_frauds: int = 0
    strange_targets: dict[int, int] = field(default_factory=dict)
    faults: dict[str, ColumnFaults] = field(default_factory=dict)
    disorder: int = 0

    @classmethod
    def of(cls, batch: ConformedBatch, contract: Contract, *, origin: str) -> InputFindings:
        """Collect the findings of a batch."""
        found = cls(origin, batch.table.num_rows, faults=batch.faults, disorder=batch.disorder)
        targets, bad = batch.table.column(contract.target), batch.bad
        counted = _counts(targets)
        found.strange_targets = dict([(v, n) for v, n in counted.items() if v not in (0, 1)][:_EXAMPLES])
        if bad is None:
            found.classes = {value: rows for value, rows in counted.items() if value in (0, 1)}
            return found
        found.bad = int(pc.sum(bad).as_py())
        found.classes = _counts(targets.filter(pc.invert(bad)))
        found.bad_frauds = int(pc.sum(pc.equal(targets.filter(bad), 1)).as_py() or 0)
        return found

    def too_bad(self, contract: Contract) -> bool:
        """Return whether more rows are bad than may be set aside."""
        return self.bad > contract.max_bad_share * self.rows

    def refused(self, contract: Contract) -> bool:
        """Return whether nothing of the input may go in."""
        return self.too_bad(contract) or (contract.ordered and self.disorder > 0)


@dataclass
class LoadFindings:
    """What was found in the new inputs of one load."""

    inputs: list[InputFindings] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(found.rows for found in self.inputs)

    def classes(self, contract: Contract) -> dict[int, int]:
        """Return the good rows per target value; of refused inputs only where there are no others."""
        accepted = [found for found in self.inputs if not found.refused(contract)]
        total = {0: 0, 1: 0}
        for found in accepted or self.inputs:
            for value, rows in found.classes.items():
                total[value] += rows
        return total


def _counts(targets: pa.ChunkedArray) -> dict[int, int]:
    counted = pc.value_counts(targets.drop_null())
    order = pc.sort_indices(counted.field("counts"), sort_keys=[("", "descending")])
    # Of labels that are ids by mistake, all may differ: the most frequent ones are enough.
    few = counted.take(order[: _EXAMPLES + 2]).to_pylist()
    return {int(pair["values"]): int(pair["counts"]) for pair in few}


def judge_load(
    findings: LoadFindings,
    contract: Contract,
    known_classes: Mapping[int, int],
    *,
    errors: Sequence[PlatformError] = (),
    known_rows: int = 0,
) -> list[CheckOutcome]:
    """Return one verdict per check of `RAW_CHECKS` but the first, in that order.

    Args:
        findings: What the new inputs bring.
        contract: What they should bring.
        known_classes: Rows per target value that the table holds already; a day without a fraud is fine once the
            table knows frauds.
        errors: What was wrong with inputs that can't be read at all.
        known_rows: Rows of inputs that were loaded before; they count for the volume alone.
    """
    outcomes = [_inputs_readable(errors)]
    outcomes += [_per_column(name, findings, contract) for name in _REASON_OF]
    outcomes.append(_binary_target(findings, contract))
    outcomes.append(_both_classes(findings, contract, known_classes))
    outcomes.append(_time_ordered(findings, contract))
    outcomes.append(
        _volume(findings.rows + known_rows, contract)
        if findings.inputs or known_rows or errors
        # A watched table's newest versions may only have rearranged its rows.
        else CheckOutcome("volume", passed=True, description="nothing came in", details={"rows": 0})
    )
    return outcomes


def refuses_load(outcomes: Iterable[CheckOutcome]) -> bool:
    """Return whether the load is refused as a whole, not only some of its inputs."""
    return any(not outcome.passed for outcome in outcomes if outcome.name in ("both_classes", "volume"))


def rows_accounted(*, rows: int, accepted: int, quarantined: int, known: int) -> CheckOutcome:
    """Return the verdict on the first check: is each row that came in in one place?

    Args:
        rows: Rows that were read, of inputs that were not refused.
        accepted: Rows that the raw table's own log says were written.
        quarantined: Rows that the quarantine's log says were written.
        known: Rows that were found to be known, by their input or by their key.
    """
    missing = rows - accepted - quarantined - known
    text = f"{rows:,} rows in = {accepted:,} accepted + {quarantined:,} quarantined + {known:,} already known"
    if missing:
        text += f": {abs(missing):,} rows are {'lost' if missing > 0 else 'doubled'}; report it with the run's log"
    counts: dict[str, str | int | float] = {
        "rows_in": rows,
        "accepted": accepted,
        "quarantined": quarantined,
        "already_known": known,
    }
    return CheckOutcome(ROWS_ACCOUNTED, passed=not missing, description=text, details=counts)


def _inputs_readable(errors: Sequence[PlatformError]) -> CheckOutcome:
    if errors:
        text = "; ".join(f"{error.where}: {error.what}" for error in errors)
        return CheckOutcome("inputs_readable", passed=False, description=text, details={"inputs": len(errors)})
    return CheckOutcome("inputs_readable", passed=True, description="every input was read")


def _per_column(name: str, findings: LoadFindings, contract: Contract) -> CheckOutcome:
    reason = _REASON_OF[name]
    summary = {found.origin: _columns(found, reason, contract) for found in findings.inputs}
    return _judged_by_share(name, {origin: text for origin, text in summary.items() if text}, findings, contract)


def _columns(found: InputFindings, reason: str, contract: Contract) -> str:
    listed = []
    for column, faults in found.faults.items():
        rows = getattr(faults, reason)
        if rows and not (reason == OUT_OF_RANGE and column == contract.target):
            example = f", such as {faults.example!r}" if reason == UNREADABLE else ""
            listed.append(f"{column} ({rows:,} rows){example}")
    return "; ".join(listed)


def _binary_target(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    summary = {}
    for found in findings.inputs:
        faults = found.faults.get(contract.target, ColumnFaults())
        listed = [f"{value} ({rows:,} rows)" for value, rows in sorted(found.strange_targets.items())]
        unseen = getattr(faults, NOT_BINARY) - sum(found.strange_targets.values())
        if unseen:
            listed.append(f"other values ({unseen:,} rows)")
        unusable = faults.unreadable + faults.null + faults.infinite
        if unusable:
            listed.append(f"no whole number ({unusable:,} rows)")
        if listed:
            summary[found.origin] = f"{contract.target} holds {', '.join(listed)}"
    return _judged_by_share("binary_target", summary, findings, contract)


def _judged_by_share(name: str, summary: Mapping[str, str], findings: LoadFindings, contract: Contract) -> CheckOutcome:
    """Fail for what is wrong in inputs that are too bad; otherwise say what was set aside."""
    refused = [found for found in findings.inputs if found.too_bad(contract) and found.origin in summary]
    if refused:
        listed = "; ".join(
            f"{found.origin}: {summary[found.origin]} ({found.bad:,} of {found.rows:,} rows are bad)"
            for found in refused
        )
        text = (
            f"{listed}; at most {contract.max_bad_share:.2%} may be set aside: "
            "fix these values at the source, or the contract if they are right"
        )
        return CheckOutcome(name, passed=False, description=text, details={"inputs": len(refused)})
    if summary:
        text = "set aside: " + "; ".join(f"{origin}: {text}" for origin, text in summary.items())
        return CheckOutcome(name, passed=True, description=text)
    return CheckOutcome(name, passed=True, description=f"{findings.rows:,} rows, no finding")


def _both_classes(findings: LoadFindings, contract: Contract, known: Mapping[int, int]) -> CheckOutcome:
    brought = findings.classes(contract)
    # Not added up: what the load brings may be in the table already.
    text = f"{contract.target}: {brought[1]:,} frauds and {brought[0]:,} genuine rows in the load"
    if known:
        text += f", {known.get(1, 0):,} and {known.get(0, 0):,} in the table"
    both = bool((brought[1] or known.get(1)) and (brought[0] or known.get(0)))
    if not both and contract.column(contract.target).nullable:
        text += "; labels may come later"
        both = True
    if not both:
        text += "; a model needs both: load a file that holds the other class too"
    return CheckOutcome(
        "both_classes", passed=both, description=text, details={"load.frauds": brought[1], "load.genuine": brought[0]}
    )


def _time_ordered(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    if not contract.ordered:
        return CheckOutcome("time_ordered", passed=True, description="the contract says that files are not ordered")
    disorder = {found.origin: found.disorder for found in findings.inputs if found.disorder}
    if disorder:
        listed = ", ".join(f"{origin} ({rows:,} rows)" for origin, rows in list(disorder.items())[:_EXAMPLES])
        text = f"{contract.event_time} goes back in {listed}: sort the file, or set `ordered: false` in the contract"
        return CheckOutcome("time_ordered", passed=False, description=text, details={"rows": sum(disorder.values())})
    return CheckOutcome("time_ordered", passed=True, description=f"{contract.event_time} never goes back")


def _volume(rows: int, contract: Contract) -> CheckOutcome:
    enough = rows >= contract.min_rows
    text = f"{rows:,} rows, at least {contract.min_rows:,} wanted"
    if not enough:
        text += ": the export may be cut short; lower `min_rows` in the contract if it is whole"
    return CheckOutcome("volume", passed=enough, description=text, details={"rows": rows})
