"""Rows that are set aside keep their values as text, and that text reads like the value: then and when tried again."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import ORIGINAL, REASONS, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.conform import ConformedBatch, conform
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.quarantine import bad_rows, count_reasons, first_originals, try_again
from mlops_assets.data.sources.synthetic import generate

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="at", type="timestamp"),
        Column(name="amount", type="double", min=0, max=100),
        Column(name="tries", type="long", min=0, nullable=True),
        Column(name="card", type="string"),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount", "tries"),
    target="fraud",
    event_time="at",
    ignored=("note",),
)
GOOD: dict[str, Any] = {
    "at": pa.array([dt.datetime(2018, 4, 1, 12, tzinfo=dt.UTC)] * 3, pa.timestamp("us")),
    "amount": [1.5, 2.5, 3.5],
    "tries": [1, None, 3],
    "card": ["a", "b", "c"],
    "fraud": [0, 1, 0],
}


def aside(**columns: Any) -> pa.Table:
    raw = pa.table({**GOOD, **columns})
    return bad_rows(raw, conform(raw, CARDS, where="x"), CARDS)


def good_rows(batch: ConformedBatch) -> pa.Table:
    return batch.table if batch.bad is None else batch.table.filter(pc.invert(batch.bad))


def test_good_rows_keep_their_numbers_and_bad_ones_their_reasons_in_the_order_of_the_columns():
    raw = pa.table({**GOOD, "amount": [None, 2.5, 101.0], "card": ["a", "b", None], "fraud": [3, 0, 0]})
    batch = conform(raw, CARDS, where="x")

    assert good_rows(batch).column(ROW_NUMBER).to_pylist() == [1]
    bad = bad_rows(raw, batch, CARDS)
    assert bad.column(ROW_NUMBER).to_pylist() == [0, 2]
    assert bad.column(REASONS).to_pylist() == [
        ["null:amount", "not_binary:fraud"],
        ["out_of_range:amount", "null:card"],
    ]
    assert count_reasons(bad) == dict.fromkeys(
        ["not_binary:fraud", "null:amount", "null:card", "out_of_range:amount"], 1
    )
    assert first_originals(bad, 1) == [
        {
            "source": "None",
            "row": "0",
            "reasons": "null:amount, not_binary:fraud",
            "values": "amount = None, fraud = '3'",
        }
    ]


def test_where_all_is_good_nothing_is_set_aside():
    batch = conform(pa.table(GOOD), CARDS, where="x")

    assert batch.bad is None
    assert bad_rows(pa.table(GOOD), batch, CARDS).num_rows == 0
    assert count_reasons(bad_rows(pa.table(GOOD), batch, CARDS)) == {}


def test_the_values_of_all_columns_are_kept_as_written_also_of_those_that_the_contract_ignores():
    columns = {name: [None, " 2 ", "3,5"] for name in (*GOOD, "note")}

    kept = aside(**columns).column(ORIGINAL).to_pylist()

    assert kept == [[(name, value) for name in (*GOOD, "note")] for value in (None, " 2 ", "3,5")]


DAY = dt.datetime(2018, 4, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
VALUES = [
    ("amount", pa.array([0.1, -math.inf, math.nan], pa.float64())),
    ("amount", pa.array([0.1, 1.1, 1e-45], pa.float32())),
    ("amount", pa.array([Decimal("0.41"), Decimal("99.99"), None], pa.decimal128(12, 2))),
    ("amount", pa.array([True, False, None])),
    ("tries", pa.array([True, False, None])),
    ("tries", pa.array([5.0, 1.5, 2.0**53], pa.float64())),
    ("tries", pa.array([2**63, 5, 0], pa.uint64())),
    ("tries", pa.array([16_777_216.0, 1.5, 3.0], pa.float32())),
    ("tries", pa.array([2.0**53, 1.0, math.inf], pa.float64())),
    ("at", pa.array([DAY, None, DAY], pa.timestamp("us"))),
    ("at", pa.array([DAY, None, DAY], pa.timestamp("ns", tz="Europe/Paris"))),
    ("at", pa.array([DAY.date()] * 3, pa.date32())),
    ("at", pa.array([10**17, 0, -(10**17)], pa.timestamp("s"))),
    ("at", pa.array(["2018-04-01T00:00:00+02:00", "2018-02-30", " 2018-04-01 "])),
    ("card", pa.array([b"\xff", b"ok", None], pa.binary())),
    ("card", pa.array([1, 2, None], pa.int64())),
    ("card", pa.array([True, None, False])),
    ("card", pa.array([0.5, math.nan, 1.0])),
    ("card", pa.array(["x", " ", None]).dictionary_encode()),
    ("fraud", pa.array(["fraud", "1", "0x1"])),
    ("fraud", pa.array([b"1", b"\xfe", b"0"], pa.binary())),
]


@pytest.mark.parametrize(("column", "values"), VALUES, ids=[f"{name} {values.type}" for name, values in VALUES])
def test_tried_again_under_the_same_contract_a_row_is_as_it_was(column: str, values: pa.Array):
    """All rows are set aside here, the good values among them by another column: text must read as the value did."""
    other = "amount" if column != "amount" else "tries"
    raw = pa.table({**GOOD, column: values, other: [-1, -2, -3]})
    before = conform(raw, CARDS, where="x")

    kept = bad_rows(raw, before, CARDS)
    again, judged = try_again(kept, CARDS)

    no_text = [f"not_text:{column}" in reasons for reasons in kept.column(REASONS).to_pylist()]
    for now, then, unknown in zip(again.table.column(column), before.table.column(column), no_text, strict=True):
        assert unknown or now.equals(then) or (math.isnan(now.as_py()) and math.isnan(then.as_py()))
    for now, then, unknown in zip(
        judged.column(REASONS).to_pylist(), kept.column(REASONS).to_pylist(), no_text, strict=True
    ):
        assert now == then or (unknown and set(then) - set(now) == {f"unreadable:{column}"})
    assert again.bad is not None
    assert again.bad.to_pylist() == [True] * 3


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False, None]),
        pa.array([-0.0, math.nan, 2.5]),
        pa.array([1.0, math.inf, 0.0], pa.float32()),
        pa.array([Decimal("1.0"), Decimal("0.0"), Decimal("0.5")], pa.decimal128(5, 1)),
        pa.array([1, 0, 2]),
        pa.array([" Yes", "n", "perhaps"]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_boolean_tried_again_is_what_it_was(values: pa.Array):
    contract = CARDS.model_copy(
        update={"columns": (*CARDS.columns, Column(name="abroad", type="boolean", nullable=True))}
    )
    raw = pa.table({**GOOD, "amount": [-1, -2, -3], "abroad": values})
    before = conform(raw, contract, where="x")

    kept = bad_rows(raw, before, contract)
    again, judged = try_again(kept, contract)

    assert again.table.column("abroad").to_pylist() == before.table.column("abroad").to_pylist()
    assert judged.column(REASONS).to_pylist() == kept.column(REASONS).to_pylist()


def test_what_the_contract_accepts_by_now_is_good_by_now():
    kept = aside(amount=[101.0, -1.0, 2.0], fraud=[0, 1, 7])
    wider = CARDS.model_copy(
        update={"columns": (*(c if c.name != "amount" else c.model_copy(update={"max": 200}) for c in CARDS.columns),)}
    )

    again, judged = try_again(kept, wider)

    assert judged.column(REASONS).to_pylist() == [[], ["out_of_range:amount"], ["not_binary:fraud"]]
    assert good_rows(again).select(list(CARDS.column_names)).to_pylist() == [
        {"at": dt.datetime(2018, 4, 1, 12, tzinfo=dt.UTC), "amount": 101.0, "tries": 1, "card": "a", "fraud": 0}
    ]


def test_a_new_nullable_column_is_null_in_a_row_that_came_without_it():
    kept = aside(amount=[101.0, 1.0, 1.0])
    columns = (*(c.model_copy(update={"max": None}) for c in CARDS.columns if c.name != "fraud"), CARDS.column("fraud"))
    extended = CARDS.model_copy(update={"columns": (*columns, Column(name="shop", type="string", nullable=True))})
    strict = CARDS.model_copy(update={"columns": (*columns, Column(name="shop", type="string"))})

    assert try_again(kept, extended)[0].bad is None
    assert try_again(kept, strict)[1].column(REASONS).to_pylist() == [["null:shop"]]


def test_what_has_no_text_is_not_tried_again_until_its_column_is_gone():
    kept = aside(card=pa.array([b"\xff", b"b", b"c"], pa.binary()), tries=pa.array([2.0**24, 1.0, 2.0], pa.float32()))
    assert kept.column(REASONS).to_pylist() == [
        ["unreadable:tries", "unreadable:card", "not_text:tries", "not_text:card"]
    ]
    assert dict(kept.column(ORIGINAL).to_pylist()[0])["card"] == "\\xff"

    assert try_again(kept, CARDS)[1].column(REASONS).to_pylist()[0][-2:] == ["not_text:tries", "not_text:card"]
    without = tuple(column for column in CARDS.columns if column.name not in ("card", "tries"))
    gone = CARDS.model_copy(update={"columns": without, "features": ("amount",)})
    assert try_again(kept, gone)[0].bad is None


def test_nested_values_are_kept_and_not_taken_for_text():
    kept = aside(card=pa.array([[1, 2], None, [3]], pa.list_(pa.int64())))

    assert [dict(row)["card"] for row in kept.column(ORIGINAL).to_pylist()] == ["[1, 2]", None, "[3]"]
    assert try_again(kept, CARDS)[0].bad.to_pylist() == [True] * 3  # type: ignore[union-attr]


CELLS = st.sampled_from(["1", "x", "", "-1", "101", "1e400", "nan", " 7 "])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12))
def test_good_and_bad_rows_are_all_rows(rows: list[tuple[str, str, str]]):
    raw = pa.table(
        {
            "at": pa.array(["2018-04-01"] * len(rows), pa.string()),
            "card": pa.array(["c"] * len(rows), pa.string()),
            **{
                name: pa.array([row[position] or None for row in rows], pa.string())
                for position, name in enumerate(("amount", "tries", "fraud"))
            },
        }
    )
    batch = conform(raw, CARDS, where="x")

    bad = bad_rows(raw, batch, CARDS)
    numbers = [*good_rows(batch).column(ROW_NUMBER).to_pylist(), *bad.column(ROW_NUMBER).to_pylist()]
    assert sorted(numbers) == list(range(len(rows)))
    assert all(bad.column(REASONS).to_pylist())
    for number, original in zip(bad.column(ROW_NUMBER).to_pylist(), bad.column(ORIGINAL).to_pylist(), strict=True):
        assert [dict(original)[name] or "" for name in ("amount", "tries", "fraud")] == list(rows[number])
    again, judged = try_again(bad, CARDS)
    assert judged.column(REASONS).to_pylist() == bad.column(REASONS).to_pylist()
    assert again.table.num_rows == bad.num_rows


def test_many_bad_rows_are_set_aside_without_looking_at_them_one_by_one(creditcard: Contract):
    table = generate(100_000, 10.0, 0.005, 1)
    text = pa.table({name: table.column(name).cast(pa.string()) for name in table.column_names})
    spoilt = np.array(text.column("v3").to_pylist(), dtype=object)
    spoilt[::10] = "oops"
    text = text.set_column(text.column_names.index("v3"), "v3", pa.array(spoilt.tolist()))
    batch = conform(text, creditcard, where="x")
    bad = bad_rows(text, batch, creditcard)
    good = good_rows(batch)
    again, _ = try_again(bad, creditcard)

    assert (good.num_rows, bad.num_rows) == (90_000, 10_000)
    assert count_reasons(bad) == {"unreadable:v3": 10_000}
    assert again.faults["v3"].unreadable == 10_000
