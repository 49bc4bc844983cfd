"""The feature matrix: the same arrays from the same rows, whatever order and types they come in."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.training.matrix import Matrix, entity_ids, hashed, joined, matrix_columns, to_matrix

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="at", type="double"),
        Column(name="amount", type="double", min=0),
        Column(name="tries", type="long", nullable=True),
        Column(name="score", type="double", nullable=True),
        Column(name="card", type="long", nullable=True),
        Column(name="fraud", type="long"),
    ),
    features=("score", "amount", "tries"),
    target="fraud",
    event_time="at",
    amount="amount",
    entity="card",
)
ARRAYS = ("X", "y", "days", "amounts", "entities")


def table(**columns: Any) -> pa.Table:
    rows = len(next(iter(columns.values())))
    whole = {
        "at": [float(row) for row in range(rows)],
        "amount": [float(row) for row in range(rows)],
        "tries": [1] * rows,
        "score": [0.5] * rows,
        "fraud": [0] * rows,
        "card": list(range(rows)),
        BATCH_ID: ["a"] * rows,
        ROW_NUMBER: list(range(rows)),
    }
    return pa.table({**whole, **columns})


def same(one: Matrix, other: Matrix) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "X") for name in ARRAYS)


def test_a_matrix_holds_features_in_the_order_of_the_contract_and_target_days_and_amounts():
    matrix = to_matrix(
        table(
            at=[0.0, 86_399.9, 86_400.0],
            amount=[1.5, 2.5, 1e6],
            tries=pa.array([3, None, 5]),
            score=pa.array([None, 0.25, math.nan]),
            fraud=[0, 1, 0],
        ),
        CARDS,
    )

    assert matrix.features == ("score", "amount", "tries")
    assert np.array_equal(matrix.X, [[np.nan, 1.5, 3], [0.25, 2.5, np.nan], [np.nan, 1e6, 5]], equal_nan=True)
    assert matrix.y.tolist() == [0, 1, 0]
    assert matrix.days.tolist() == [0, 0, 1]
    assert matrix.amounts is not None
    assert matrix.amounts.tolist() == [1.5, 2.5, 1e6]
    assert [str(array.dtype) for array in (matrix.X, matrix.y, matrix.days)] == ["float32", "uint8", "int64"]
    assert (matrix.rows, matrix.frauds) == (3, 1)


def test_the_columns_of_a_matrix_are_named_once():
    assert matrix_columns(CARDS) == ["score", "amount", "tries", "fraud", "at", "card", BATCH_ID, ROW_NUMBER]
    assert to_matrix(table(at=[1.0]).select(matrix_columns(CARDS)), CARDS).rows == 1


def test_a_contract_without_amounts_gives_none():
    assert to_matrix(table(at=[1.0]), CARDS.model_copy(update={"amount": None})).amounts is None


def test_entities_are_equal_ids_in_all_sets_and_rows_without_one_stand_alone():
    one = to_matrix(table(card=pa.array([7, None, 8, 7, None])), CARDS).entities
    other = to_matrix(table(card=pa.array([8, 9])), CARDS).entities
    assert one is not None
    assert other is not None
    assert one[0] == one[3] >= 0
    assert one[2] == other[0] >= 0
    assert len({*one.tolist(), *other.tolist()}) == 5
    assert (one[[1, 4]] < 0).all()
    assert to_matrix(table(at=[1.0]), CARDS.model_copy(update={"entity": None})).entities is None


@pytest.mark.parametrize(
    "values",
    [[5, 6, 5], ["a", "b", "a"], [0.5, 0.25, 0.5], [dt.datetime(2020, 1, day, tzinfo=dt.UTC) for day in (1, 2, 1)]],
)
def test_an_entity_may_be_of_any_type_and_come_in_chunks(values: list[Any]):
    whole = entity_ids(hashed(pa.chunked_array([values])))
    assert entity_ids(hashed(pa.chunked_array([values[:1], values[1:]]))).tolist() == whole.tolist()
    assert whole[0] == whole[2] != whole[1]
    assert entity_ids(hashed(pa.array(values[:0], pa.array(values).type))).tolist() == []


def test_rows_can_be_picked_and_put_together_again():
    whole = to_matrix(table(at=[float(row * 40_000) for row in range(6)]), CARDS)
    first = np.arange(6) < 2

    again = joined([whole.where(first), whole.where(~first)])

    assert [part.rows for part in (whole.where(first), whole.where(~first))] == [2, 4]
    for name in ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(whole, name)), name
        assert np.array_equal(getattr(whole.where(first), name), getattr(whole, name)[:2]), name
    assert whole.on_whole_day is not None
    assert np.array_equal(whole.where(~first).on_whole_day, whole.on_whole_day[2:])  # type: ignore[arg-type]
    assert again.on_whole_day is None


def test_an_event_time_is_no_feature_of_what_ships(creditcard: Contract, handbook: Contract):
    for contract in (creditcard, handbook):
        wanted = matrix_columns(contract)
        assert wanted[: len(contract.features)] == list(contract.features)
        assert contract.event_time in wanted[len(contract.features) :]


def test_rows_stand_by_time_then_batch_then_position():
    matrix = to_matrix(
        table(
            at=[2.0, 1.0, 1.0, 1.0, -1.0],
            amount=[5.0, 4.0, 3.0, 2.0, 1.0],
            **{BATCH_ID: ["a", "b", "a", "a", "z"], ROW_NUMBER: [0, 0, 7, 6, 9]},
        ),
        CARDS,
    )

    assert matrix.amounts is not None
    assert matrix.amounts.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, -0.0, 1.0, 1e5]), st.sampled_from("ab"), st.floats(width=32)), max_size=30
)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_neither_the_order_nor_the_chunks_of_rows_matter(rows: list[tuple[float, str, float]], random: Any, cut: int):
    columns = {
        "at": pa.array([row[0] for row in rows], pa.float64()),
        BATCH_ID: pa.array([row[1] for row in rows], pa.string()),
        "score": pa.array([row[2] for row in rows], pa.float64()),
        "fraud": pa.array([n % 2 for n in range(len(rows))], pa.int64()),
        "tries": pa.array(list(range(len(rows))), pa.int64()),
    }
    ordered = table(**columns)
    shuffled = ordered.take(pa.array(random.sample(range(len(rows)), len(rows)), pa.int64()))

    again = to_matrix(pa.concat_tables([shuffled.slice(cut), shuffled.slice(0, cut)]), CARDS)

    assert same(to_matrix(ordered, CARDS), again)
    assert again.X.shape == (len(rows), 3)


@given(st.lists(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)), min_size=1, max_size=10))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_days_of_timestamps_are_days_since_1970(moments: list[dt.datetime]):
    of_time = CARDS.model_copy(update={"columns": (Column(name="at", type="timestamp"), *CARDS.columns[1:])})
    times = pa.array([moment.replace(tzinfo=dt.UTC) for moment in sorted(moments)], pa.timestamp("us", tz="UTC"))

    matrix = to_matrix(table(at=times), of_time)

    assert matrix.days.tolist() == [(moment.date() - dt.date(1970, 1, 1)).days for moment in sorted(moments)]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()], ids=str)
def test_days_before_the_origin_are_negative(kind: pa.DataType):
    times = pa.array([-86_401, -86_400, -1, 0, 86_399, 86_400], pa.int64()).cast(kind)

    assert to_matrix(table(at=times), CARDS).days.tolist() == [-2, -1, -1, 0, 0, 1]


def test_a_whole_number_beyond_2_to_the_53_is_rounded_and_not_refused():
    matrix = to_matrix(table(tries=[2**53 + 1, 2**62 + 1]), CARDS)

    assert matrix.X[:, 2].tolist() == [2.0**53, 2.0**62]


def test_whatever_conforms_is_finite_in_float32():
    """A double that is too large for float32 would be infinite here; the contract's checks count it, so none comes."""
    batch = conform(table(score=[3.4e38, -3.4e38, 1e-46]).drop_columns([BATCH_ID, ROW_NUMBER]), CARDS, where="x")
    too_large = conform(table(score=[3.5e38]).drop_columns([BATCH_ID, ROW_NUMBER]), CARDS, where="x")

    matrix = to_matrix(batch.table.append_column(BATCH_ID, pa.array(["a"] * 3)), CARDS)

    assert batch.faults == {}
    assert np.isfinite(matrix.X).all()
    assert too_large.faults["score"].infinite == 1


def test_an_empty_split_gives_an_empty_matrix():
    matrix = to_matrix(table(at=[1.0]).slice(1), CARDS)

    assert (matrix.rows, matrix.frauds, matrix.X.shape) == (0, 0, (0, 3))


def test_the_synthetic_set_comes_through_whole(creditcard: Contract):
    rows = generate(2_000, 3.0, 0.05, 1)
    staged = conform(rows, creditcard, where="x").table.append_column(BATCH_ID, pa.array(["a"] * 2_000))

    matrix = to_matrix(staged.take(pa.array(np.random.default_rng(1).permutation(2_000))), creditcard)

    assert matrix.frauds == pc.sum(rows.column("class")).as_py()
    for number, name in enumerate(creditcard.features):
        assert np.array_equal(matrix.X[:, number], rows.column(name).to_numpy().astype(np.float32))


def test_days_are_those_of_the_contracts_zone_and_parts_of_them_are_marked():
    """23:30 UTC is half past one of the next day in Berlin; the last day has six hours only."""
    of_time = CARDS.model_copy(
        update={"columns": (Column(name="at", type="timestamp"), *CARDS.columns[1:]), "time_zone": "Europe/Berlin"}
    )
    start = dt.datetime(2026, 5, 1, 22, tzinfo=dt.UTC)
    moments = [start + dt.timedelta(minutes=15 * number) for number in range(96 + 24)]

    matrix = to_matrix(table(at=pa.array(moments, pa.timestamp("us", tz="UTC"))), of_time)

    days = (np.datetime64("2026-05-02"), np.datetime64("2026-05-03"))
    assert matrix.days.tolist() == [days[0].astype(int)] * 96 + [days[1].astype(int)] * 24
    assert matrix.on_whole_day is not None
    assert matrix.on_whole_day.tolist() == [True] * 96 + [False] * 24
