"""Each check of the inputs of a load refuses what it is for, by column and rows, and lets a good load pass."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.validation import (
    INPUT_CHECKS,
    InputFindings,
    LoadFindings,
    judge_load,
    refuses_load,
)
from mlops_assets.errors import SourceError

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
        conformed = conform(pa.table(batch), contract, where=origin)
        findings.inputs.append(InputFindings.of(conformed, contract, origin=origin))
    return findings


def judged(
    *batches: dict[str, list[Any]], contract: Contract = CARDS, known: dict[int, int] | None = None
) -> dict[str, CheckOutcome]:
    outcomes = judge_load(found_in(*batches, contract=contract), contract, known or {})
    found = {outcome.name: outcome for outcome in outcomes}
    assert list(found) == [name for name in INPUT_CHECKS if name in found], "in their order, each once"
    return found


def failed(outcomes: dict[str, CheckOutcome]) -> dict[str, str]:
    return {name: outcome.description for name, outcome in outcomes.items() if not outcome.passed}


def test_a_good_load_passes_every_check():
    outcomes = judged(GOOD)

    assert failed(outcomes) == {}
    assert list(outcomes) == list(INPUT_CHECKS)
    assert outcomes["ranges"].description == "4 rows, no findings"
    assert outcomes["load_classes"].description == "fraud: 1 frauds and 3 genuine rows in the load"


def test_dates_in_another_format_say_which_are_read():
    dated = CARDS.model_copy(
        update={"columns": (Column(name="time", type="timestamp"), *CARDS.columns[1:])},
    )
    wrong = {**GOOD, "time": ["31.12.2026 10:00", "2026-12-31T10:00:00Z", "2026-12-31 10:00", "2026-12-31"]}

    said = judged(wrong, contract=dated)["contract_types"].description

    assert "time (1 rows), such as '31.12.2026 10:00' (timestamps are read as ISO 8601: 2026-12-31, " in said


def of_four(bad: int, text: str) -> str:
    return (
        f"day.csv: {text} ({bad} of 4 rows are bad); at most 1.00% may be set aside: "
        "fix these values at the source, or change the contract if they are right"
    )


BAD = [
    ("amount", ["x", "1,5", "2", "3"], {"contract_types": of_four(2, "amount (2 rows), such as 'x'")}),
    ("amount", [None, 2.0, math.nan, 1.0], {"no_nulls": of_four(2, "amount (2 rows)")}),
    ("amount", [math.inf, 1.0, -math.inf, 2.0], {"no_infinities": of_four(2, "amount (2 rows)")}),
    ("amount", [1e39, 1.0, 2.0, 3.0], {"no_infinities": of_four(1, "amount (1 rows)")}),
    ("amount", [-0.01, 1_000.0, 1_000.01, 1.0], {"ranges": of_four(2, "amount (2 rows)")}),
    ("tries", [-1, None, 0, 1], {"ranges": of_four(1, "tries (1 rows)")}),
    ("fraud", [0, 1, 2, -7], {"binary_target": of_four(2, "fraud holds -7 (1 rows), 2 (1 rows)")}),
    (
        "fraud",
        [0, 1, 0, None],
        {
            "no_nulls": of_four(1, "fraud (1 rows)"),
            "binary_target": of_four(1, "fraud holds values that are not whole numbers (1 rows)"),
        },
    ),
    (
        "fraud",
        ["0", "1", "genuine", "0.5"],
        {
            "contract_types": of_four(2, "fraud (2 rows), such as 'genuine'"),
            "binary_target": of_four(2, "fraud holds values that are not whole numbers (2 rows)"),
        },
    ),
    (
        "fraud",
        [0, 0, 0, 0],
        {
            "load_classes": "fraud: 0 frauds and 4 genuine rows in the load; "
            "a model needs both: also load a file with the other class"
        },
    ),
    (
        "fraud",
        [1, 1, 1, 1],
        {
            "load_classes": "fraud: 4 frauds and 0 genuine rows in the load; "
            "a model needs both: also load a file with the other class"
        },
    ),
    (
        "time",
        [5.0, 1.0, 0.0, 7.0],
        {"time_ordered": "time goes back in day.csv (2 rows): sort the file, or set `ordered: false` in the contract"},
    ),
]


@pytest.mark.parametrize(("column", "values", "expected"), BAD)
def test_a_bad_column_fails_its_checks_and_no_other(column: str, values: list[Any], expected: dict[str, str]):
    known = {0: 1, 1: 1} if column != "fraud" else None

    assert failed(judged({**GOOD, column: values}, known=known)) == expected


def test_every_check_is_failed_above_or_below():
    below = {"volume", "inputs_readable"}

    assert {name for _, _, expected in BAD for name in expected} | below == set(INPUT_CHECKS)


LENIENT = CARDS.model_copy(update={"max_bad_share": 0.5})


@pytest.mark.parametrize(("bad", "refused"), [(0, False), (1, False), (2, False), (3, True)])
def test_as_many_rows_as_the_contract_says_may_be_set_aside(bad: int, *, refused: bool):
    batch = {**GOOD, "amount": [-1.0] * bad + [1.0] * (4 - bad)}
    findings = found_in(batch, contract=LENIENT)

    outcome = judged(batch, contract=LENIENT, known={0: 1, 1: 1})["ranges"]

    assert [found.refused(LENIENT) for found in findings.inputs] == [refused]
    assert outcome.passed is not refused
    if bad and not refused:
        assert outcome.description == f"set aside: day.csv: amount ({bad} rows)"


def test_the_classes_are_those_of_rows_that_go_in():
    batch = {**GOOD, "amount": [1.0, -1.0, 1.0, 1.0]}

    assert found_in(batch, contract=LENIENT).classes(LENIENT) == {0: 3, 1: 0}
    assert found_in(batch, contract=LENIENT).inputs[0].bad_frauds == 1
    refused = found_in(batch, {**GOOD, "fraud": [0, 0, 0, 0]})
    assert [found.refused(CARDS) for found in refused.inputs] == [True, False]
    assert refused.classes(CARDS) == {0: 4, 1: 0}


def test_an_input_that_cannot_be_read_is_named():
    errors = [SourceError("not a whole gzip file", where="a.csv.gz", fix="copy it anew")]

    outcomes = judge_load(found_in(GOOD), CARDS, {}, errors=errors)

    assert failed({outcome.name: outcome for outcome in outcomes}) == {
        "inputs_readable": "a.csv.gz: not a whole gzip file"
    }
    assert not refuses_load(outcomes)


def test_known_rows_count_for_the_volume():
    short = {name: values[:3] for name, values in GOOD.items()}

    outcomes = judge_load(found_in(short), CARDS, {}, known_rows=1)

    assert failed({outcome.name: outcome for outcome in outcomes}) == {}


@pytest.mark.parametrize("target", [["0", "1.0", " 0", "0.0"], [True, False, True, False], [0.0, 1.0, 0.0, 0.0]])
def test_a_target_may_be_written_in_several_ways(target: list[Any]):
    assert failed(judged({**GOOD, "fraud": target})) == {}


def test_each_column_is_named_with_its_rows():
    outcomes = judged({**GOOD, "amount": ["a", "b", "1", "2"], "tries": ["1", "c", "2", "3"]})

    types = outcomes["contract_types"]
    assert types.description.startswith("day.csv: amount (2 rows), such as 'a'; tries (1 rows), such as 'c' (2 of 4")


def test_too_few_rows_fail_the_volume():
    short = {name: values[:3] for name, values in GOOD.items()}

    assert failed(judged(short)) == {
        "volume": "3 rows, at least 4 expected: the export may be truncated; "
        "lower `min_rows` in the contract if it is complete"
    }


def test_a_load_without_rows_fails_volume_and_classes_only():
    empty: dict[str, list[Any]] = {name: [] for name in GOOD}

    assert set(failed(judged(empty))) == {"load_classes", "volume"}


def test_a_load_without_an_input_fails_only_where_the_table_lacks_a_class():
    assert set(failed(judged())) == {"load_classes"}
    assert failed(judged(known={0: 3, 1: 1})) == {}


def test_a_check_that_has_nothing_to_look_at_has_no_verdict():
    loose = CARDS.model_copy(update={"ordered": False})

    assert list(judged(known={0: 3, 1: 1})) == ["inputs_readable", "load_classes"]
    assert set(INPUT_CHECKS) - set(judged(GOOD, contract=loose)) == {"time_ordered"}


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
    outcome = judged({**GOOD, "fraud": target}, known=known)["load_classes"]

    assert outcome.passed is passes
    assert f"{known.get(1, 0)} and {known.get(0, 0)} in the table" in outcome.description


def test_a_day_without_frauds_is_fine_where_reports_come_later():
    number = Column(name="number", type="long")
    by_number = {"columns": (*CARDS.columns, number), "key": "number"}
    late = LabelColumns(key="number", label="fraud", known_at="at")
    genuine = {**GOOD, "fraud": [0, 0, 0, 0], "number": [1, 2, 3, 4]}

    assert set(failed(judged(genuine, contract=CARDS.model_copy(update=by_number)))) == {"load_classes"}
    outcomes = judged(genuine, contract=CARDS.model_copy(update=by_number | {"labels": late}))
    assert failed(outcomes) == {}
    assert outcomes["load_classes"].description.endswith("; labels may come later")


def test_order_is_not_asked_for_where_the_contract_says_so():
    loose = CARDS.model_copy(update={"ordered": False})

    assert failed(judged({**GOOD, "time": [3.0, 2.0, 1.0, 0.0]}, contract=loose)) == {}


def test_order_is_judged_inside_a_file_and_not_between_files():
    assert failed(judged(GOOD, {**GOOD, "time": [-9.0, -8.0, -7.0, -6.0]})) == {}


def test_files_out_of_order_are_named():
    findings = LoadFindings()
    for origin in ("a.csv", "b.csv"):
        batch = conform(pa.table({**GOOD, "time": [1.0, 0.0, 2.0, 3.0]}), CARDS, where=origin)
        findings.inputs.append(InputFindings.of(batch, CARDS, origin=origin))

    (outcome,) = [o for o in judge_load(findings, CARDS, {}) if o.name == "time_ordered"]

    assert "a.csv (1 rows), b.csv (1 rows)" in outcome.description
    assert outcome.details == {"rows": 2}
    assert all(found.refused(CARDS) for found in findings.inputs)


def test_a_target_full_of_ids_is_refused_with_a_few_examples():
    rows = 100_000
    wrong: dict[str, list[Any]] = {
        "time": [0.0] * rows,
        "amount": [1.0] * rows,
        "tries": [1] * rows,
        "fraud": list(range(rows)),
    }

    outcome = judged(wrong)["binary_target"]

    listed = ", ".join(f"{value} (1 rows)" for value in range(2, 7))
    assert outcome.description.startswith(f"day.csv: fraud holds {listed}, other values (99,993 rows) (99,998 of")


CELL = st.none() | st.sampled_from([0.0, 1.0, 2.0, 0.5, -3.0, math.nan, math.inf, 5_000.0])
ROWS = st.lists(st.tuples(CELL, CELL, CELL, CELL), max_size=20)


def as_batch(rows: list[tuple[float | None, ...]]) -> dict[str, list[Any]]:
    return {name: pa.array([row[i] for row in rows], pa.float64()) for i, name in enumerate(GOOD)}


@settings(deadline=None)  # the first call loads Arrow's kernels
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
        "volume": len(rows) >= 4,
    }
    assert {name: outcomes[name].passed for name in expected} == expected
