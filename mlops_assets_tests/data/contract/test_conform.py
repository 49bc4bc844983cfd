"""A batch comes out in the contract's columns and types, and each fault is counted once, under its reason."""

from __future__ import annotations

import math
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.conform import FLOAT32_OVERFLOW, ColumnFaults, ConformedBatch, conform
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.contract.diff import require_columns
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.errors import SchemaMismatchError

SMALL = Contract(
    name="small",
    version=3,
    columns=(
        Column(name="time", type="double"),
        Column(name="score", type="double", min=-10, max=10),
        Column(name="count", type="long", min=0, max=5, nullable=True),
        Column(name="label", type="long", min=0, max=1),
    ),
    features=("score", "count"),
    target="label",
    event_time="time",
    ignored=("note",),
)
REAL_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def small(**columns: Any) -> pa.Table:
    rows = max(len(values) for values in columns.values())
    whole: dict[str, Any] = {"time": list(range(rows)), "score": [0.5] * rows, "count": [1] * rows, "label": [0] * rows}
    return pa.table({**whole, **columns})


def faults(table: pa.Table, contract: Contract = SMALL) -> dict[str, ColumnFaults]:
    return conform(table, contract, where="x.csv").faults


# Columns.


def test_columns_come_in_the_order_and_types_of_the_contract_with_row_numbers():
    shuffled = small(score=pa.array([1, 2], pa.int8())).select(["label", "count", "score", "time"])

    table = conform(shuffled, SMALL, where="x").table

    assert table.column_names == ["time", "score", "count", "label", ROW_NUMBER]
    assert table.schema.types == [pa.float64(), pa.float64(), pa.int64(), pa.int64(), pa.int64()]
    assert table.column(ROW_NUMBER).to_pylist() == [0, 1]
    assert table.column("score").to_pylist() == [1.0, 2.0]


def test_ignored_columns_are_dropped():
    assert "note" not in conform(small(note=["a"]), SMALL, where="x").table.column_names


def test_a_rounding_error_outside_the_range_becomes_the_bound_and_nothing_further_out_does():
    """Sums of floating point numbers: 0.1 + 0.2 - 0.3 is 5.6e-17, and the handbook's windows end at -7e-15."""
    table = small(score=[-10 - 7e-15, -10 - 1e-9, 10 + 1e-10, -10 - 1e-6, 10.1, None, 3.0], count=[1] * 7)

    batch = conform(table, SMALL, where="x")

    assert batch.table.column("score").to_pylist()[:3] == [-10.0, -10.0, 10.0]
    assert batch.reasons["out_of_range:score"].to_pylist() == [False, False, False, True, True, False, False]
    assert batch.faults["score"].out_of_range == 2


def test_the_tolerance_is_the_contracts():
    def out_of_range(tolerance: float) -> int:
        score = Column(name="score", type="double", min=0, max=1, tolerance=tolerance)
        contract = SMALL.model_copy(update={"columns": (SMALL.columns[0], score, *SMALL.columns[2:])})
        found = faults(small(score=[-7e-15, 1.04, 0.5]), contract)
        return found["score"].out_of_range if found else 0

    assert [out_of_range(tolerance) for tolerance in (0, 1e-9, 0.05)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["time", "score", "label"], r"^missing columns: count \(contract small v3\) \[day.csv\] Fix:"),
        (["time", "score", "count", "label", "colour"], r"^unknown columns: colour \(contract small v3\)"),
        (["score", "colour", "shape"], "^missing columns: time, count, label; unknown columns: colour, shape"),
        (["Time", "score", "count", "label"], "^missing columns: time; unknown columns: Time"),
    ],
    ids=["missing", "unknown", "both", "names are lower-cased before"],
)
def test_other_columns_are_refused_by_name(names: list[str], said: str):
    with pytest.raises(SchemaMismatchError, match=said):
        require_columns(pa.schema([(name, pa.string()) for name in names]), SMALL, where="day.csv")
    with pytest.raises(SchemaMismatchError, match=said):
        conform(pa.table({name: [1] for name in names}), SMALL, where="day.csv")


def test_the_columns_of_the_contract_pass():
    names = ["label", "note", "count", "time", "score"]
    require_columns(pa.schema([(name, pa.string()) for name in names]), SMALL, where="x")


# Faults.


def test_good_rows_have_no_faults():
    batch = conform(small(score=["-10", "1e1", " 0 "], count=[0, 5, None]), SMALL, where="x")

    assert batch.faults == {}
    assert batch.disorder == 0
    assert batch.table.column("score").to_pylist() == [-10.0, 10.0, 0.0]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("score", ["1", "oops", "1,5", "1.000,00"], ColumnFaults(unreadable=3, example="oops")),
        ("score", [True, False], ColumnFaults()),
        ("score", [1.0, None, math.nan], ColumnFaults(null=2)),
        ("score", ["", " ", "nan", "0"], ColumnFaults(null=3)),
        ("score", [math.inf, -math.inf, 10.0, 10.1, -11.0, math.nan], ColumnFaults(null=1, infinite=2, out_of_range=2)),
        ("score", ["1e400", "inf", "11"], ColumnFaults(infinite=2, out_of_range=1)),
        ("score", [None, None], ColumnFaults(null=2)),
        ("score", [math.nan, math.nan], ColumnFaults(null=2)),
        ("score", [math.inf], ColumnFaults(infinite=1)),
        ("count", [None, math.nan, 1.0], ColumnFaults()),
        (
            "count",
            [math.inf, 1.5, 6.0, -1.0, 2.0],
            ColumnFaults(infinite=1, unreadable=1, out_of_range=2, example="1.5"),
        ),
        ("count", [2**53 + 1, -(2**63)], ColumnFaults(out_of_range=2)),
        ("count", ["99999999999999999999", "6"], ColumnFaults(unreadable=1, out_of_range=1, example="9" * 20)),
        ("label", ["0", "0.0", "1.", "1e0", "+1", " 1"], ColumnFaults()),
        ("label", [True, False], ColumnFaults()),
        ("label", [0.0, 1.0, 2.0, -1.0], ColumnFaults(not_binary=2)),
        ("label", ["True", "fraud", "0.5", None], ColumnFaults(unreadable=3, null=1, example="True")),
    ],
)
def test_a_fault_is_counted_once_under_its_reason(column: str, values: list[Any], expected: ColumnFaults):
    found = faults(small(**{column: values}))

    assert found == ({column: expected} if expected != ColumnFaults() else {})


def test_unreadable_values_are_null_in_the_table():
    assert conform(small(score=["1", "x"]), SMALL, where="x").table.column("score").to_pylist() == [1.0, None]


def test_a_number_is_no_event_time_where_a_timestamp_is_wanted(handbook: Contract):
    """Seconds taken for microseconds would put all of 2018 into the first half hour of 1970."""
    times = pa.table({"tx_datetime": [1_522_540_800, None]})
    one = handbook.model_copy(update={"columns": (handbook.column("tx_datetime"),)})

    assert faults(times, one) == {"tx_datetime": ColumnFaults(unreadable=1, null=1, example="1522540800")}


def test_a_timestamp_is_no_number_of_seconds():
    found = faults(small(time=pa.array([1, 2], pa.timestamp("s"))))

    assert found["time"].unreadable == 2


def test_a_feature_that_float32_cannot_hold_counts_as_infinite():
    wide = SMALL.model_copy(
        update={"columns": tuple(c.model_copy(update={"min": None, "max": None}) for c in SMALL.columns)}
    )
    largest = np.nextafter(FLOAT32_OVERFLOW, 0)
    values = [largest, -largest, FLOAT32_OVERFLOW, -FLOAT32_OVERFLOW, 1e300, math.inf]

    assert np.isfinite(np.array(values[:2]).astype(np.float32)).all()
    assert faults(small(score=values, time=sorted(values)), wide) == {
        "score": ColumnFaults(infinite=4),
        "time": ColumnFaults(infinite=1),
    }


CELLS = st.one_of(
    st.none(),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1.0, 5.0, 6.0, 10.0, 10.5, -10.0, -10.5, math.nan, math.inf, -math.inf, 1e300]),
)


def reason(value: float | None, column: Column, exact_below: float) -> str:
    """Tell the fault of one value the slow way."""
    if value is None or math.isnan(value):
        return "" if column.nullable else "null"
    if math.isinf(value) or (column.name == "score" and abs(value) > 3.5e38):
        return "infinite"
    if column.type == "long" and (value != math.floor(value) or abs(value) >= exact_below):
        return "unreadable"
    low = -math.inf if column.min is None else column.min
    high = math.inf if column.max is None else column.max
    return "" if low <= value <= high else "not_binary" if column.name == "label" else "out_of_range"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=15), st.booleans())
def test_counts_are_those_of_a_slow_reference(rows: list[tuple[float | None, ...]], as_text: bool):
    columns: dict[str, Any] = {}
    for position, column in enumerate(SMALL.columns):
        cells = [row[position] for row in rows]
        columns[column.name] = (
            pa.array([None if cell is None else repr(cell) for cell in cells], pa.string())
            if as_text
            else pa.array(cells, pa.float64())
        )

    batch = conform(pa.table(columns), SMALL, where="x.csv")
    found = batch.faults

    for position, column in enumerate(SMALL.columns):
        # As text, whole numbers are written in full up to 1e16 and read digit by digit.
        reasons = [reason(row[position], column, 1e16 if as_text else 2**53) for row in rows]
        counted = found.get(column.name, ColumnFaults())
        names = ("unreadable", "null", "infinite", "out_of_range", "not_binary")
        assert astuple(counted)[:5] == tuple(reasons.count(name) for name in names)
        assert bool(counted.example) == bool(counted.unreadable)
        for name in names:
            told = batch.reasons.get(f"{name}:{column.name}")
            assert [found == name for found in reasons] == (told.to_pylist() if told else [False] * len(rows))


@settings(max_examples=50, deadline=None)
@given(st.lists(CELLS, max_size=12), st.integers(0, 12))
def test_counts_add_up_over_batches(cells: list[float | None], cut: int):
    table = pa.table({c.name: pa.array(cells, pa.float64()) for c in SMALL.columns})
    added: dict[str, ColumnFaults] = {}
    for part in (table.slice(0, cut), table.slice(cut)):
        for name, found in faults(part).items():
            added.setdefault(name, ColumnFaults()).add(found)

    assert added == faults(table)


# Order.


def test_rows_that_go_back_in_time_are_counted():
    assert conform(small(time=[1.0, 3.0, 2.0, 2.0, 0.0, 9.0]), SMALL, where="x").disorder == 2
    assert conform(small(time=[0.0, -0.0, 0.0]), SMALL, where="x").disorder == 0


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1.0, 2.0]), max_size=10),
    st.integers(0, 10),
)
def test_disorder_does_not_depend_on_chunks(times: list[float], cut: int):
    column = pa.chunked_array([times[:cut], times[cut:]], pa.float64())
    rows = len(times)
    table = pa.table({"time": column, "score": [0.0] * rows, "count": [0] * rows, "label": [0] * rows})

    slow = sum(later < earlier for earlier, later in pairwise(times))

    assert conform(table, SMALL, where="x").disorder == slow


def test_rows_that_do_not_fit_have_no_say_about_the_order():
    table = small(time=[1.0, 99.0, 2.0, math.inf, 3.0], score=[0.0, 11.0, 0.0, 0.0, 0.0])

    assert conform(table, SMALL, where="x").disorder == 0


def test_disorder_of_timestamps(handbook: Contract):
    one = handbook.model_copy(update={"columns": (handbook.column("tx_datetime"),)})
    table = pa.table({"tx_datetime": ["2018-04-01 00:00:31", "2018-04-01T02:00:30+02:00", "2018-04-02"]})

    assert conform(table, one, where="x") == ConformedBatch(
        pa.table(
            {
                "tx_datetime": pa.array([1522540831, 1522540830, 1522627200], pa.timestamp("s")).cast(
                    pa.timestamp("us", tz="UTC")
                ),
                ROW_NUMBER: [0, 1, 2],
            }
        ),
        disorder=1,
    )


# Empty input and large input.


@pytest.mark.parametrize("kind", [pa.string(), pa.float64(), pa.int32(), pa.null()], ids=str)
def test_a_batch_without_rows_conforms(kind: pa.DataType):
    batch = conform(pa.table({c.name: pa.array([], kind) for c in SMALL.columns}), SMALL, where="x")

    assert batch.table.num_rows == 0
    assert batch.table.schema.types == [pa.float64(), pa.float64(), pa.int64(), pa.int64(), pa.int64()]
    assert (batch.faults, batch.disorder) == ({}, 0)


def test_a_table_without_chunks_conforms():
    table = pa.table({c.name: pa.chunked_array([], pa.string()) for c in SMALL.columns})

    assert conform(table, SMALL, where="x").table.num_rows == 0


def test_bad_values_among_many_are_found_without_looking_at_rows_one_by_one(creditcard: Contract):
    table = generate(100_000, 10.0, 0.005, 1)
    text = pa.table({name: table.column(name).cast(pa.string()) for name in table.column_names})
    bad = pa.concat_tables([text.slice(1), pa.table({name: ["oops"] for name in text.column_names})])
    rows = 400_000
    times = pa.table(
        {"time": ["2018-04-01 00:00:31"] * (rows - 1) + ["oops"], "score": [0.0] * rows, "label": [1] * rows}
    )
    timed = Contract(
        name="timed",
        version=1,
        columns=(Column(name="time", type="timestamp"), SMALL.column("score"), SMALL.column("label")),
        features=("score",),
        target="label",
        event_time="time",
    )
    found = conform(bad, creditcard, where="x").faults
    late = conform(times, timed, where="x").faults

    assert {name: fault.unreadable for name, fault in found.items()} == dict.fromkeys(creditcard.column_names, 1)
    assert late == {"time": ColumnFaults(unreadable=1, example="oops")}


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real files are not beside this checkout")
@pytest.mark.parametrize("name", ["creditcard", "handbook"])
def test_the_real_data_keep_their_contract(name: str, request: pytest.FixtureRequest):
    contract = request.getfixturevalue(name)
    for batch in FilesSource(str(REAL_DATA / f"{name}*")).batches():
        conformed = conform(batch.table, contract, where=batch.origin)

        assert (conformed.faults, conformed.disorder) == ({}, 0)
