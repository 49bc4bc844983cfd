"""Decide whether a load may enter the raw table: the blocking checks of `raw_transactions`.

What belongs here: counts in, verdicts out; each verdict names the columns and the rows. What does not: computing the
counts (`conform`), writing, Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.conform import ColumnFaults, ConformedBatch
from mlops_assets.data.contract import Contract

RAW_CHECKS: dict[str, str] = {
    "contract_types": "Every value can be read as its column's type.",
    "no_nulls": "No null or NaN where the contract wants a value.",
    "no_infinities": "No infinite value, and no feature too large for float32, in which models compute.",
    "ranges": "Numbers are within the contract's ranges.",
    "binary_target": "The target is 0 or 1.",
    "both_classes": "The table holds frauds and genuine transactions.",
    "time_ordered": "Inside a file, event time never goes back.",
    "volume": "The load brings as many rows as the contract wants.",
}
_EXAMPLES = 5


@dataclass
class LoadFindings:
    """What was found in all batches of one load.

    Attributes:
        rows: Rows of the load.
        classes: Rows per target value, 0 and 1.
        strange_targets: Rows per other target value, of the first few such values.
        strange_rows: Rows with any other target value.
        faults: Column faults, added up.
        disorder: Rows that go back in time, per origin.
    """

    rows: int = 0
    classes: dict[int, int] = field(default_factory=dict)
    strange_targets: dict[int, int] = field(default_factory=dict)
    strange_rows: int = 0
    faults: dict[str, ColumnFaults] = field(default_factory=dict)
    disorder: dict[str, int] = field(default_factory=dict)

    def add(self, batch: ConformedBatch, contract: Contract, *, origin: str) -> None:
        """Add the findings of one batch."""
        self.rows += batch.table.num_rows
        self._count_targets(batch.table.column(contract.target))
        for name, found in batch.faults.items():
            self.faults.setdefault(name, ColumnFaults()).add(found)
        if batch.disorder:
            self.disorder[origin] = self.disorder.get(origin, 0) + batch.disorder

    def _count_targets(self, targets: pa.ChunkedArray) -> None:
        counted = pc.value_counts(targets.drop_null())
        known = pc.is_in(counted.field("values"), pa.array([0, 1]))
        for pair in counted.filter(known).to_pylist():
            self.classes[pair["values"]] = self.classes.get(pair["values"], 0) + pair["counts"]
        strange = counted.filter(pc.invert(known))
        self.strange_rows += pc.sum(strange.field("counts")).as_py() or 0
        new = pc.is_in(strange.field("values"), pa.array(list(self.strange_targets), pa.int64()))
        first = strange.filter(pc.invert(new)).field("values")[: _EXAMPLES - len(self.strange_targets)].to_pylist()
        shown = pa.array([*self.strange_targets, *first], pa.int64())
        for pair in strange.filter(pc.is_in(strange.field("values"), shown)).to_pylist():
            self.strange_targets[pair["values"]] = self.strange_targets.get(pair["values"], 0) + pair["counts"]


def judge_load(findings: LoadFindings, contract: Contract, known_classes: Mapping[int, int]) -> list[CheckOutcome]:
    """Return one verdict per check of `RAW_CHECKS`, in that order.

    Args:
        findings: What the load brings.
        contract: What it should bring.
        known_classes: Rows per target value that the table holds already; a day without a fraud is fine once the
            table knows frauds.
    """
    per_reason = {
        "contract_types": {name: found.unreadable for name, found in findings.faults.items()},
        "no_nulls": {name: found.null for name, found in findings.faults.items()},
        "no_infinities": {name: found.infinite for name, found in findings.faults.items()},
        "ranges": {name: found.out_of_range for name, found in findings.faults.items() if name != contract.target},
    }
    outcomes = [_per_column(name, counts, findings) for name, counts in per_reason.items()]
    outcomes.append(_binary_target(findings, contract))
    outcomes.append(_both_classes(findings, contract, known_classes))
    outcomes.append(_time_ordered(findings, contract))
    outcomes.append(_volume(findings, contract))
    return outcomes


def _per_column(name: str, counts: Mapping[str, int], findings: LoadFindings) -> CheckOutcome:
    bad = {column: rows for column, rows in counts.items() if rows}
    if not bad:
        return CheckOutcome(name, passed=True, description=f"{findings.rows:,} rows, no finding")
    listed = ", ".join(f"{column} ({rows:,} rows)" for column, rows in bad.items())
    if name == "contract_types":
        examples = {column: findings.faults[column].example for column in bad}
        listed = "; ".join(f"{column} ({rows:,} rows), such as {examples[column]!r}" for column, rows in bad.items())
    return CheckOutcome(
        name,
        passed=False,
        description=f"{listed}: mend these values at the source, or the contract if they are right",
        details={f"rows.{column}": rows for column, rows in bad.items()},
    )


def _binary_target(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    found = [f"{value} ({rows:,} rows)" for value, rows in sorted(findings.strange_targets.items())]
    unseen = findings.strange_rows - sum(findings.strange_targets.values())
    if unseen:
        found.append(f"other values ({unseen:,} rows)")
    faults = findings.faults.get(contract.target, ColumnFaults())
    unusable = faults.unreadable + faults.null + faults.infinite
    if unusable:
        found.append(f"no whole number ({unusable:,} rows)")
    if found:
        text = f"{contract.target} holds {', '.join(found)}: only 0 (genuine) and 1 (fraud) have a meaning"
        rows = findings.strange_rows + unusable
        return CheckOutcome("binary_target", passed=False, description=text, details={"rows": rows})
    return CheckOutcome("binary_target", passed=True, description=f"{contract.target} is 0 or 1")


def _both_classes(findings: LoadFindings, contract: Contract, known: Mapping[int, int]) -> CheckOutcome:
    frauds, genuine = findings.classes.get(1, 0), findings.classes.get(0, 0)
    # Not added up: what the load brings may be in the table already.
    text = f"{contract.target}: {frauds:,} frauds and {genuine:,} genuine rows in the load"
    if known:
        text += f", {known.get(1, 0):,} and {known.get(0, 0):,} in the table"
    both = bool((frauds or known.get(1)) and (genuine or known.get(0)))
    if not both:
        text += "; a model needs both: load a file that holds the other class too"
    return CheckOutcome(
        "both_classes", passed=both, description=text, details={"load.frauds": frauds, "load.genuine": genuine}
    )


def _time_ordered(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    if not contract.ordered:
        return CheckOutcome("time_ordered", passed=True, description="the contract says that files are not ordered")
    if findings.disorder:
        listed = ", ".join(f"{origin} ({rows:,} rows)" for origin, rows in list(findings.disorder.items())[:5])
        text = f"{contract.event_time} goes back in {listed}: sort the file, or set `ordered: false` in the contract"
        return CheckOutcome(
            "time_ordered", passed=False, description=text, details={"rows": sum(findings.disorder.values())}
        )
    return CheckOutcome("time_ordered", passed=True, description=f"{contract.event_time} never goes back")


def _volume(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    enough = findings.rows >= contract.min_rows
    text = f"{findings.rows:,} rows, at least {contract.min_rows:,} wanted"
    if not enough:
        text += ": the export may be cut short; lower `min_rows` in the contract if it is whole"
    return CheckOutcome("volume", passed=enough, description=text, details={"rows": findings.rows})
