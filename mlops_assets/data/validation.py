"""Decide whether a load may enter the raw table: the blocking checks of `raw_transactions`.

What belongs here: counts in, verdicts out; each verdict names the columns and the rows. What does not: computing the
counts (`conform`), writing, Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow.compute as pc

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.conform import ColumnFaults, ConformedBatch
from mlops_assets.data.contract import Contract

RAW_CHECKS: dict[str, str] = {
    "contract_types": "Every value can be read as its column's type.",
    "no_nulls": "No null or NaN where the contract wants a value.",
    "no_infinities": "No infinite value.",
    "ranges": "Numbers are within the contract's ranges.",
    "binary_target": "The target is 0 or 1.",
    "both_classes": "The table holds frauds and genuine transactions.",
    "time_ordered": "Inside a file, event time never goes back.",
    "volume": "The load brings as many rows as the contract wants.",
}


@dataclass
class LoadFindings:
    """What was found in all batches of one load.

    Attributes:
        rows: Rows of the load.
        classes: Rows per target value.
        faults: Column faults, added up.
        disorder: Rows that go back in time, per origin.
    """

    rows: int = 0
    classes: dict[int, int] = field(default_factory=dict)
    faults: dict[str, ColumnFaults] = field(default_factory=dict)
    disorder: dict[str, int] = field(default_factory=dict)

    def add(self, batch: ConformedBatch, contract: Contract, *, origin: str) -> None:
        """Add the findings of one batch."""
        self.rows += batch.table.num_rows
        for pair in pc.value_counts(batch.table.column(contract.target)).to_pylist():
            if pair["values"] is not None:
                self.classes[pair["values"]] = self.classes.get(pair["values"], 0) + pair["counts"]
        for name, found in batch.faults.items():
            self.faults.setdefault(name, ColumnFaults()).add(found)
        if batch.disorder:
            self.disorder[origin] = batch.disorder


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
    example = next((findings.faults[c].example for c in bad if findings.faults[c].example), "")
    shown = f", such as {example!r}" if name == "contract_types" and example else ""
    return CheckOutcome(
        name,
        passed=False,
        description=f"{listed}{shown}: mend these values at the source, or the contract if they are right",
        details={f"rows.{column}": rows for column, rows in bad.items()},
    )


def _binary_target(findings: LoadFindings, contract: Contract) -> CheckOutcome:
    strange = {value: rows for value, rows in findings.classes.items() if value not in (0, 1)}
    if strange:
        listed = ", ".join(f"{value} ({rows:,} rows)" for value, rows in sorted(strange.items())[:5])
        text = f"{contract.target} holds {listed}: only 0 (genuine) and 1 (fraud) have a meaning"
        return CheckOutcome("binary_target", passed=False, description=text, details={"rows": sum(strange.values())})
    return CheckOutcome("binary_target", passed=True, description=f"{contract.target} is 0 or 1")


def _both_classes(findings: LoadFindings, contract: Contract, known: Mapping[int, int]) -> CheckOutcome:
    frauds = findings.classes.get(1, 0) + known.get(1, 0)
    genuine = findings.classes.get(0, 0) + known.get(0, 0)
    text = f"{contract.target}: {frauds:,} frauds, {genuine:,} genuine rows in table and load together"
    if not (frauds and genuine):
        text += "; a model needs both: load a file that holds the other class too"
    return CheckOutcome(
        "both_classes",
        passed=bool(frauds and genuine),
        description=text,
        details={"frauds": frauds, "genuine": genuine},
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
