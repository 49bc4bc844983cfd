"""Each blocking check of a load refuses what it is for, by column and rows, and lets a good load pass."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.conform import conform
from mlops_assets.data.contract import Column, Contract
from mlops_assets.data.validation import RAW_CHECKS, LoadFindings, judge_load

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="time", type="double"),
        Column(name="amount", type="double", min=0, max=1_000),
        Column(name="tries", type="long", min=0, nullable=True),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount", "tries"),
    target="fraud",
    event_time="time",
    min_rows=4,
)
GOOD: dict[str, list[Any]] = {
    "time": [0.0, 1.0, 1.0, 5.0],
    "amount": [0.0, 1.5, 1_000.0, 7.0],
    "tries": [1, None, 3, 4],
    "fraud": [0, 1, 0, 0],
}


def found_in(*batches: dict[str, list[Any]], contract: Contract = CARDS, origin: str = "day.csv") -> LoadFindings:
    findings = LoadFindings()
    for batch in batches:
        findings.add(conform(pa.table(batch), contract, where=origin), contract, origin=origin)
    return findings


def judged(
    *batches: dict[str, list[Any]], contract: Contract = CARDS, known: dict[int, int] | None = None
) -> dict[str, CheckOutcome]:
    outcomes = judge_load(found_in(*batches, contract=contract), contract, known or {})
    assert [outcome.name for outcome in outcomes] == list(RAW_CHECKS)
    return {outcome.name: outcome for outcome in outcomes}


def failed(outcomes: dict[str, CheckOutcome]) -> dict[str, str]:
    return {name: outcome.description for name, outcome in outcomes.items() if not outcome.passed}


def test_a_good_load_passes_every_check():
    outcomes = judged(GOOD)

    assert failed(outcomes) == {}
    assert outcomes["ranges"].description == "4 rows, no finding"
    assert outcomes["both_classes"].description == "fraud: 1 frauds and 3 genuine rows in the load"


MEND = ": mend these values at the source, or the contract if they are right"
BAD = [
    ("amount", ["x", "1,5", "2", "3"], {"contract_types": f"amount (2 rows), such as 'x'{MEND}"}),
    ("amount", [None, math.nan, 1.0, 2.0], {"no_nulls": f"amount (2 rows){MEND}"}),
    ("amount", [math.inf, 1.0, -math.inf, 2.0], {"no_infinities": f"amount (2 rows){MEND}"}),
    ("amount", [1e39, 1.0, 2.0, 3.0], {"no_infinities": f"amount (1 rows){MEND}"}),
    ("amount", [-0.01, 1_000.01, 0.0, 1.0], {"ranges": f"amount (2 rows){MEND}"}),
    ("tries", [-1, None, 0, 1], {"ranges": f"tries (1 rows){MEND}"}),
    (
        "fraud",
        [0, 1, 2, -7],
        {"binary_target": "fraud holds -7 (1 rows), 2 (1 rows): only 0 (genuine) and 1 (fraud) have a meaning"},
    ),
    (
        "fraud",
        [0, 1, 0, None],
        {
            "no_nulls": f"fraud (1 rows){MEND}",
            "binary_target": "fraud holds no whole number (1 rows): only 0 (genuine) and 1 (fraud) have a meaning",
        },
    ),
    (
        "fraud",
        ["0", "1", "genuine", "0.5"],
        {
            "contract_types": f"fraud (2 rows), such as 'genuine'{MEND}",
            "binary_target": "fraud holds no whole number (2 rows): only 0 (genuine) and 1 (fraud) have a meaning",
        },
    ),
    (
        "fraud",
        [0, 0, 0, 0],
        {
            "both_classes": "fraud: 0 frauds and 4 genuine rows in the load; "
            "a model needs both: load a file that holds the other class too"
        },
    ),
    (
        "fraud",
        [1, 1, 1, 1],
        {
            "both_classes": "fraud: 4 frauds and 0 genuine rows in the load; "
            "a model needs both: load a file that holds the other class too"
        },
    ),
    (
        "time",
        [5.0, 1.0, 0.0, 7.0],
        {"time_ordered": "time goes back in day.csv (2 rows): sort the file, or set `ordered: false` in the contract"},
    ),
    ("time", [0.0, None, 1.0, math.inf], {"no_nulls": f"time (1 rows){MEND}", "no_infinities": f"time (1 rows){MEND}"}),
]


@pytest.mark.parametrize(("column", "values", "expected"), BAD)
def test_a_bad_column_fails_its_checks_and_no_other(column: str, values: list[Any], expected: dict[str, str]):
    assert failed(judged({**GOOD, column: values})) == expected


def test_every_check_but_volume_is_failed_above():
    assert {name for _, _, expected in BAD for name in expected} | {"volume"} == set(RAW_CHECKS)


@pytest.mark.parametrize("target", [["0", "1.0", " 0", "0.0"], [True, False, True, False], [0.0, 1.0, 0.0, 0.0]])
def test_a_target_may_be_written_in_several_ways(target: list[Any]):
    assert failed(judged({**GOOD, "fraud": target})) == {}


def test_each_column_is_named_with_its_rows():
    outcomes = judged({**GOOD, "amount": ["a", "b", "1", "2"], "tries": ["1", "c", "2", "3"]})

    types = outcomes["contract_types"]
    assert types.description.startswith("amount (2 rows), such as 'a'; tries (1 rows), such as 'c': mend")
    assert types.details == {"rows.amount": 2, "rows.tries": 1}


def test_too_few_rows_fail_the_volume():
    short = {name: values[:3] for name, values in GOOD.items()}

    assert failed(judged(short)) == {
        "volume": "3 rows, at least 4 wanted: the export may be cut short; "
        "lower `min_rows` in the contract if it is whole"
    }


def test_a_load_without_rows_fails_volume_and_classes_only():
    empty: dict[str, list[Any]] = {name: [] for name in GOOD}

    assert set(failed(judged(empty))) == {"both_classes", "volume"}
    assert set(failed(judged())) == {"both_classes", "volume"}


@pytest.mark.parametrize(
    ("target", "known", "passes"),
    [
        ([0, 0, 0, 0], {0: 10, 1: 2}, True),
        ([0, 0, 0, 0], {1: 2}, True),
        ([0, 0, 0, 0], {0: 10}, False),
        ([1, 1, 1, 1], {0: 10}, True),
        ([1, 1, 1, 1], {1: 10}, False),
    ],
)
def test_a_day_of_one_class_is_fine_once_the_table_knows_the_other(
    target: list[int], known: dict[int, int], *, passes: bool
):
    outcome = judged({**GOOD, "fraud": target}, known=known)["both_classes"]

    assert outcome.passed is passes
    assert f"{known.get(1, 0)} and {known.get(0, 0)} in the table" in outcome.description


def test_order_is_not_asked_for_where_the_contract_says_so():
    loose = CARDS.model_copy(update={"ordered": False})

    assert failed(judged({**GOOD, "time": [3.0, 2.0, 1.0, 0.0]}, contract=loose)) == {}


def test_order_is_judged_inside_a_file_and_not_between_files():
    assert failed(judged(GOOD, {**GOOD, "time": [-9.0, -8.0, -7.0, -6.0]})) == {}


def test_files_out_of_order_are_named_and_those_of_one_name_are_added_up():
    findings = LoadFindings()
    for origin in ("a.csv", "b.csv", "a.csv"):
        batch = conform(pa.table({**GOOD, "time": [1.0, 0.0, 2.0, 3.0]}), CARDS, where=origin)
        findings.add(batch, CARDS, origin=origin)

    (outcome,) = [o for o in judge_load(findings, CARDS, {}) if o.name == "time_ordered"]

    assert findings.disorder == {"a.csv": 2, "b.csv": 1}
    assert "a.csv (2 rows), b.csv (1 rows)" in outcome.description
    assert outcome.details == {"rows": 3}


def test_a_target_full_of_ids_is_refused_with_a_few_examples():
    rows = 100_000
    wrong: dict[str, list[Any]] = {
        "time": [0.0] * rows,
        "amount": [1.0] * rows,
        "tries": [1] * rows,
        "fraud": list(range(rows)),
    }

    outcome = judged(wrong, wrong)["binary_target"]

    listed = ", ".join(f"{value} (2 rows)" for value in range(2, 7))
    assert outcome.description.startswith(f"fraud holds {listed}, other values (199,986 rows): only")
    assert outcome.details == {"rows": 2 * (rows - 2)}


CELL = st.none() | st.sampled_from([0.0, 1.0, 2.0, 0.5, -3.0, math.nan, math.inf, 5_000.0])
ROWS = st.lists(st.tuples(CELL, CELL, CELL, CELL), max_size=20)


def as_batch(rows: list[tuple[float | None, ...]]) -> dict[str, list[Any]]:
    return {name: pa.array([row[i] for row in rows], pa.float64()) for i, name in enumerate(GOOD)}


@given(ROWS, st.lists(st.integers(0, 20), max_size=3).map(sorted))
def test_findings_add_up_over_batches(rows: list[tuple[float | None, ...]], cuts: list[int]):
    parts = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]

    whole, added = found_in(as_batch(rows)), found_in(*(as_batch(part) for part in parts))

    assert (added.rows, added.classes, added.faults) == (whole.rows, whole.classes, whole.faults)
    assert (added.strange_targets, added.strange_rows) == (whole.strange_targets, whole.strange_rows)
    assert sum(added.disorder.values()) <= sum(whole.disorder.values())


@given(ROWS)
def test_a_load_passes_exactly_when_a_slow_reference_finds_nothing(rows: list[tuple[float | None, ...]]):
    outcomes = judged(as_batch(rows))

    times, amounts, tries, targets = ([row[i] for row in rows] for i in range(4))
    finite = [value for value in (*times, *amounts, *tries, *targets) if value is not None and math.isfinite(value)]
    given_values = [*times, *amounts, *targets]
    whole = [value for value in (*tries, *targets) if value is not None and math.isfinite(value)]
    expected = {
        "contract_types": all(value.is_integer() for value in whole),
        "no_nulls": not any(value is None or math.isnan(value) for value in given_values),
        "no_infinities": len(finite) == sum(v is not None and not math.isnan(v) for v in (*given_values, *tries)),
        "ranges": all(v is None or not math.isfinite(v) or 0 <= v <= 1_000 for v in amounts)
        and all(v is None or not math.isfinite(v) or not v.is_integer() or v >= 0 for v in tries),
        "binary_target": all(value in (0, 1) for value in targets),
        "both_classes": {0.0, 1.0} <= set(targets),
        "volume": len(rows) >= 4,
    }
    assert {name: outcomes[name].passed for name in expected} == expected
