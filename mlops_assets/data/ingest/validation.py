"""Decide which inputs of a load may enter the raw table.

What belongs here: counts in, verdicts out; each verdict names the inputs, columns and rows. What does not: computing
the counts (`conform`), the table that comes of it (`table_checks`), writing, Dagster.

Rows that break the contract are set aside (`quarantine`). An input is refused as a whole if more of its rows break the
contract than allowed, or if they are not in time order. A load is refused as a whole if it lacks a class or has too few
rows.

These verdicts refuse inputs and say nothing about the table, so they block nothing downstream. A check that had nothing
to look at has no verdict.
"""

from __future__ import annotations

from collections import Counter
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
from mlops_assets.data.ingest.changes import KNOWN_VALUES
from mlops_assets.errors import PlatformError

INPUT_CHECKS: dict[str, str] = {
    "inputs_readable": "Every input can be read and has the contract's columns.",
    "contract_types": "Every value can be parsed as its column's type, except in rows that were set aside.",
    "no_nulls": "No null or NaN where the contract requires a value, except in rows that were set aside.",
    "no_infinities": "No infinite value, and no feature too large for float32, except in rows that were set aside.",
    "ranges": "Numbers are within the contract's ranges, except in rows that were set aside.",
    "binary_target": "The target is 0 or 1, except in rows that were set aside.",
    "load_classes": "There are frauds and genuine transactions in the load and the table together.",
    "time_ordered": "Within a file, event time never goes back.",
    "volume": "The load has at least as many rows as the contract requires.",
}
_REASON_OF = {"contract_types": UNREADABLE, "no_nulls": NULL, "no_infinities": INFINITE, "ranges": OUT_OF_RANGE}
_OF_LOAD = ("load_classes", "volume", KNOWN_VALUES)
_EXAMPLES = 5


@dataclass
class InputFindings:
    """Findings in one input.

    Attributes:
        origin: The input.
        rows: Number of its rows.
        bad: Rows that break the contract, for any reason.
        classes: Good rows per target value, 0 and 1.
        bad_frauds: Bad rows that are labelled as frauds.
        strange_targets: Rows per other target value, for the most frequent such values.
        faults: What is wrong, per column.
        disorder: Rows whose event time is earlier than that of the row before.
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
        findings = cls(origin, batch.table.num_rows, faults=batch.faults, disorder=batch.disorder)
        targets, bad = batch.table.column(contract.target), batch.bad
        counted = _counts(targets)
        findings.strange_targets = dict([(v, n) for v, n in counted.items() if v not in (0, 1)][:_EXAMPLES])
        if bad is None:
            findings.classes = {value: rows for value, rows in counted.items() if value in (0, 1)}
            return findings
        findings.bad = int(pc.sum(bad).as_py())
        findings.classes = _counts(targets.filter(pc.invert(bad)))
        findings.bad_frauds = int(pc.sum(pc.equal(targets.filter(bad), 1)).as_py() or 0)
        return findings

    @classmethod
    def of_pieces(cls, pieces: Sequence[InputFindings], contract: Contract) -> InputFindings:
        """Return the findings in an input whose pieces were looked at one by one, but for disorder between them."""
        whole = cls(pieces[0].origin, classes={})
        strange: Counter[int] = Counter()
        for piece in pieces:
            whole.rows += piece.rows
            whole.bad += piece.bad
            whole.bad_frauds += piece.bad_frauds
            whole.disorder += piece.disorder
            whole.classes = {
                value: whole.classes.get(value, 0) + piece.classes.get(value, 0)
                for value in whole.classes | piece.classes
            }
            strange.update(piece.strange_targets)
        whole.strange_targets = dict(strange.most_common(_EXAMPLES))
        for name in contract.column_names:
            found = [piece.faults[name] for piece in pieces if name in piece.faults]
            for faults in found:
                whole.faults.setdefault(name, ColumnFaults()).add(faults)
        return whole

    def too_bad(self, contract: Contract) -> bool:
        """Return whether the input has more bad rows than may be set aside."""
        return self.bad > contract.max_bad_share * self.rows

    def refused(self, contract: Contract) -> bool:
        """Return whether the whole input is refused."""
        return self.too_bad(contract) or (contract.ordered and self.disorder > 0)


@dataclass
class LoadFindings:
    """Findings in the new inputs of one load."""

    inputs: list[InputFindings] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(item.rows for item in self.inputs)

    def classes(self, contract: Contract) -> dict[int, int]:
        """Return the good rows per target value; refused inputs count only if all inputs were refused."""
        accepted = [item for item in self.inputs if not item.refused(contract)]
        total = {0: 0, 1: 0}
        for item in accepted or self.inputs:
            for value, rows in item.classes.items():
                total[value] += rows
        return total


def _counts(targets: pa.ChunkedArray) -> dict[int, int]:
    counted = pc.value_counts(targets.drop_null())
    order = pc.sort_indices(counted.field("counts"), sort_keys=[("", "descending")])
    # If the target column holds ids by mistake, every value may differ: the most frequent ones are enough.
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
    """Return the verdicts of `INPUT_CHECKS`, in that order, without those that had nothing to look at.

    Args:
        findings: Findings in the new inputs.
        contract: The data contract.
        known_classes: Rows per target value that the table already has; a day without fraud is fine once the table has
            frauds.
        errors: Errors of inputs that can't be read at all.
        known_rows: Rows of inputs that were loaded before; they count only for the volume.
    """
    outcomes = [_inputs_readable(errors)]
    if findings.inputs:
        outcomes += [_per_column(name, findings, contract) for name in _REASON_OF]
        outcomes.append(_binary_target(findings, contract))
    outcomes.append(_load_classes(findings, contract, known_classes))
    if findings.inputs and contract.ordered:
        outcomes.append(_time_ordered(findings, contract))
    # The newest versions of a watched table may have moved rows without adding any.
    if findings.inputs or known_rows or errors:
        outcomes.append(_volume(findings.rows + known_rows, contract))
    return outcomes


def refuses_load(outcomes: Iterable[CheckOutcome]) -> bool:
    """Return whether the whole load is refused, as opposed to some of its inputs."""
    return any(not outcome.passed for outcome in outcomes if outcome.name in _OF_LOAD)


def _inputs_readable(errors: Sequence[PlatformError]) -> CheckOutcome:
    if errors:
        text = "; ".join(f"{error.where}: {error.what}" for error in errors)
        return CheckOutcome("inputs_readable", passed=False, description=text, details={"inputs": len(errors)})
    return CheckOutcome("inputs_readable", passed=True, description="every input was read")


def _per_column(name: str, findings: LoadFindings, contract: Contract) -> CheckOutcome:
    reason = _REASON_OF[name]
    summary = {item.origin: _columns(item, reason, contract) for item in findings.inputs}
    return _judged_by_share(name, {origin: text for origin, text in summary.items() if text}, findings, contract)


def _columns(findings: InputFindings, reason: str, contract: Contract) -> str:
    listed = []
    for column, faults in findings.faults.items():
        rows = getattr(faults, reason)
        if rows and not (reason == OUT_OF_RANGE and column == contract.target):
            example = f", such as {faults.example!r}" if reason == UNREADABLE else ""
            if example and contract.column(column).type == "timestamp":
                example += " (timestamps are read as ISO 8601: 2026-12-31, 2026-12-31 10:00, 2026-12-31T10:00:00+01:00)"
            listed.append(f"{column} ({rows:,} rows){example}")
    return "; ".join(listed)


def _binary_target(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    summary = {}
    for item in findings.inputs:
        faults = item.faults.get(contract.target, ColumnFaults())
        listed = [f"{value} ({rows:,} rows)" for value, rows in sorted(item.strange_targets.items())]
        unseen = getattr(faults, NOT_BINARY) - sum(item.strange_targets.values())
        if unseen:
            listed.append(f"other values ({unseen:,} rows)")
        unusable = faults.unreadable + faults.null + faults.infinite
        if unusable:
            listed.append(f"values that are not whole numbers ({unusable:,} rows)")
        if listed:
            summary[item.origin] = f"{contract.target} holds {', '.join(listed)}"
    return _judged_by_share("binary_target", summary, findings, contract)


def _judged_by_share(name: str, summary: Mapping[str, str], findings: LoadFindings, contract: Contract) -> CheckOutcome:
    """Fail for faults of inputs with too many bad rows; otherwise list what was set aside."""
    refused = [item for item in findings.inputs if item.too_bad(contract) and item.origin in summary]
    if refused:
        listed = "; ".join(
            f"{item.origin}: {summary[item.origin]} ({item.bad:,} of {item.rows:,} rows are bad)" for item in refused
        )
        text = (
            f"{listed}; at most {contract.max_bad_share:.2%} may be set aside: "
            "fix these values at the source, or change the contract if they are right"
        )
        return CheckOutcome(name, passed=False, description=text, details={"inputs": len(refused)})
    if summary:
        text = "set aside: " + "; ".join(f"{origin}: {text}" for origin, text in summary.items())
        return CheckOutcome(name, passed=True, description=text)
    return CheckOutcome(name, passed=True, description=f"{findings.rows:,} rows, no findings")


def _load_classes(findings: LoadFindings, contract: Contract, known: Mapping[int, int]) -> CheckOutcome:
    loaded = findings.classes(contract)
    # Not added up: rows of the load may be in the table already.
    text = f"{contract.target}: {loaded[1]:,} frauds and {loaded[0]:,} genuine rows in the load"
    if known:
        text += f", {known.get(1, 0):,} and {known.get(0, 0):,} in the table"
    both = bool((loaded[1] or known.get(1)) and (loaded[0] or known.get(0)))
    if not both and contract.labels is not None:
        text += "; labels may come later"
        both = True
    if not both:
        text += "; a model needs both: also load a file with the other class"
    return CheckOutcome(
        "load_classes", passed=both, description=text, details={"load.frauds": loaded[1], "load.genuine": loaded[0]}
    )


def _time_ordered(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    disorder = {item.origin: item.disorder for item in findings.inputs if item.disorder}
    if disorder:
        listed = ", ".join(f"{origin} ({rows:,} rows)" for origin, rows in list(disorder.items())[:_EXAMPLES])
        text = f"{contract.event_time} goes back in {listed}: sort the file, or set `ordered: false` in the contract"
        return CheckOutcome("time_ordered", passed=False, description=text, details={"rows": sum(disorder.values())})
    return CheckOutcome("time_ordered", passed=True, description=f"{contract.event_time} never goes back")


def _volume(rows: int, contract: Contract) -> CheckOutcome:
    enough = rows >= contract.min_rows
    text = f"{rows:,} rows, at least {contract.min_rows:,} expected"
    if not enough:
        text += ": the export may be truncated; lower `min_rows` in the contract if it is complete"
    return CheckOutcome("volume", passed=enough, description=text, details={"rows": rows})
