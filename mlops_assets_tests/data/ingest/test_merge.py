"""Of the rows with one key, the last write stays: by event time, then by position."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.merge import last_writes

KEYED = Contract(
    name="keyed",
    version=1,
    columns=(
        Column(name="id", type="string"),
        Column(name="at", type="double"),
        Column(name="score", type="double"),
        Column(name="fraud", type="long"),
    ),
    features=("score",),
    target="fraud",
    event_time="at",
    key="id",
)


def rows(pairs: list[tuple[str, float]]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([key for key, _ in pairs], pa.string()),
            "at": pa.array([at for _, at in pairs], pa.float64()),
            ROW_NUMBER: pa.array(range(len(pairs)), pa.int64()),
        }
    )


def kept(pairs: list[tuple[str, float]]) -> list[int]:
    numbers: list[int] = chosen(rows(pairs)).column(ROW_NUMBER).to_pylist()
    return numbers


def chosen(table: pa.Table, good: list[bool] | None = None) -> pa.Table:
    stays = last_writes(table, KEYED, None if good is None else pa.chunked_array([pa.array(good, pa.bool_())]))
    return table if stays is None else table.filter(stays)


def test_the_later_event_wins_wherever_it_stands():
    assert kept([("a", 2.0), ("b", 1.0), ("a", 1.0), ("b", 3.0)]) == [0, 3]


def test_of_equal_event_times_the_row_further_down_wins():
    """A correction follows what it corrects."""
    assert kept([("a", 1.0), ("a", 1.0), ("b", 1.0)]) == [1, 2]


def test_the_contract_says_what_the_last_write_is():
    """Row 0 is the newest event, row 1 has the highest version, row 2 comes last."""
    table = rows([("a", 3.0), ("a", 2.0), ("a", 1.0)]).append_column("score", pa.array([1.0, 9.0, 5.0]))

    for says, stays in (("event_time", 0), ("score", 1), ("arrival", 2)):
        mask = last_writes(table, KEYED.model_copy(update={"last_write": says}))
        assert mask is not None
        assert table.filter(mask).column(ROW_NUMBER).to_pylist() == [stays], says


def test_without_a_key_all_rows_stay():
    unkeyed = KEYED.model_copy(update={"key": None})

    assert last_writes(rows([("a", 1.0), ("a", 1.0)]), unkeyed) is None


def test_a_row_that_breaks_the_contract_replaces_no_other_and_does_not_stay():
    table = rows([("a", 1.0), ("a", 2.0), ("b", 1.0), ("b", 1.0), ("c", 1.0)])

    stays = chosen(table, [True, False, True, True, False])

    assert stays.column(ROW_NUMBER).to_pylist() == [0, 3]


def test_where_no_good_key_comes_twice_all_good_rows_stay():
    table = rows([("c", 1.0), ("a", 2.0), ("a", 3.0), ("b", 1.0)])

    assert chosen(table, [True, False, True, True]).column(ROW_NUMBER).to_pylist() == [0, 2, 3]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, 2.0])), max_size=12))
def test_it_is_the_greatest_of_each_key_and_asking_twice_changes_nothing(pairs: list[tuple[str, float]]):
    best: dict[str, tuple[float, int]] = {}
    for number, (key, at) in enumerate(pairs):
        best[key] = max(best.get(key, (at, number)), (at, number))

    once = chosen(rows(pairs))

    assert once.column(ROW_NUMBER).to_pylist() == sorted(number for _, number in best.values())
    assert chosen(once).equals(once)
