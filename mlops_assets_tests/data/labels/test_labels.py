"""Label files: what a row must look like, what is set aside and why, and that no row is lost on the way."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT, KNOWN_AT, LABEL, ORIGINAL, REASONS, ROW_NUMBER, SOURCE
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.new_inputs import StagedInputs
from mlops_assets.data.labels.labels import (
    label_files_readable,
    label_table_columns,
    labels_accounted,
    read_labels,
    require_labels,
    stage_labels,
)
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.errors import ContractError, SchemaMismatchError, SourceError

NOW = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)


def contract(*, clock: Any = "timestamp", labels: bool = True, share: float = 1.0) -> Contract:
    return Contract(
        name="cards",
        version=3,
        columns=(
            Column(name="id", type="long", min=0),
            Column(name="at", type=clock),
            Column(name="amount", type="double"),
            Column(name="fraud", type="long"),
        ),
        features=("amount",),
        key="id",
        target="fraud",
        event_time="at",
        labels=LabelColumns(key="id", label="is_fraud", known_at="known_at") if labels else None,
        max_bad_share=share,
    )


CARDS = contract()
GOOD = {"id": ["1", "2"], "is_fraud": ["1", "0"], "known_at": ["2018-05-01", "2018-05-02T03:04:05Z"]}


def texts(**columns: Any) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in {**GOOD, **columns}.items()})


def test_good_rows_are_read_in_the_contracts_types_and_other_columns_are_left_unread():
    rows = read_labels(texts(note=["x", None]), CARDS, NOW, where="x")

    assert rows.drop([REASONS, ORIGINAL]).to_pylist() == [
        {"id": 1, LABEL: 1, KNOWN_AT: dt.datetime(2018, 5, 1, tzinfo=dt.UTC), ROW_NUMBER: 0},
        {"id": 2, LABEL: 0, KNOWN_AT: dt.datetime(2018, 5, 2, 3, 4, 5, tzinfo=dt.UTC), ROW_NUMBER: 1},
    ]
    assert rows.column(REASONS).to_pylist() == [[], []]
    assert rows.column(ORIGINAL).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("id", None, "null:id"),
        ("id", "x", "unreadable:id"),
        ("id", "-1", "out_of_range:id"),
        ("is_fraud", "", "null:is_fraud"),
        ("is_fraud", "fraud", "unreadable:is_fraud"),
        ("is_fraud", "2", "not_binary:is_fraud"),
        ("is_fraud", "-1", "not_binary:is_fraud"),
        ("known_at", None, "null:known_at"),
        ("known_at", "yesterday", "unreadable:known_at"),
        ("known_at", "2018-06-01T00:00:00.000001Z", "from_the_future:known_at"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason_and_values_and_the_other_is_not(
    column: str, value: str | None, reason: str
):
    rows = read_labels(texts(**{column: [value, GOOD[column][1]]}), CARDS, NOW, where="x")

    assert rows.column(ROW_NUMBER).to_pylist() == [1, 0]
    assert rows.column(REASONS).to_pylist() == [[], [reason]]
    nothing, original = rows.column(ORIGINAL).to_pylist()
    assert nothing is None
    assert dict(original) == {**{name: values[0] for name, values in GOOD.items()}, column: value}


def test_a_label_that_becomes_known_as_it_comes_in_is_good():
    rows = read_labels(texts(known_at=[NOW.isoformat()] * 2), CARDS, NOW, where="x")

    assert rows.column(REASONS).to_pylist() == [[], []]


def test_on_a_clock_of_its_own_the_time_is_a_number_and_nothing_is_in_the_future():
    raw = pa.table({"id": [1, 2, 3], "is_fraud": [1, 0, 1], "known_at": [0.5, 1e12, math.nan]})

    rows = read_labels(raw, contract(clock="long"), NOW, where="x")

    assert rows.column(KNOWN_AT).to_pylist()[:2] == [0.5, 1e12]
    assert rows.column(REASONS).to_pylist() == [[], [], ["null:known_at"]]


def test_a_file_without_the_columns_is_refused_and_the_columns_are_named():
    with pytest.raises(SchemaMismatchError, match="lacks is_fraud, known_at; it has id, label") as caught:
        read_labels(pa.table({"id": ["1"], "label": ["1"]}), CARDS, NOW, where="a.csv")
    assert "| known_at | missing | timestamp |" in caught.value.diff


def test_a_contract_that_tells_nothing_of_labels_is_refused():
    with pytest.raises(ContractError, match="the contract has no `labels`"):
        require_labels(contract(labels=False))


# Files.


@dataclass
class Listed:
    """A source whose batches are given, or an error in the place of one."""

    batches_: list[tuple[str, str, pa.Table | SourceError]]

    def batches(self) -> Iterator[SourceBatch]:
        def read(item: tuple[str, str, pa.Table | SourceError]) -> SourceBatch:
            origin, content, table = item
            if isinstance(table, SourceError):
                raise table
            return SourceBatch(origin, content, table)

        return map(read, self.batches_)


def staged(folder: Path, *batches: tuple[str, str, pa.Table | SourceError], known: list[str] | None = None) -> Any:
    return stage_labels(Listed(list(batches)), contract(share=0.5), folder, known or [], now=lambda: NOW)


def test_each_new_file_is_staged_once_and_what_is_known_is_counted(tmp_path: Path):
    found = staged(
        tmp_path,
        ("a", "hash a", texts()),
        ("b", "hash b", texts(is_fraud=["7", "0"])),
        ("a again", "hash a", texts()),
        ("old", "hash old", texts()),
        known=["hash old"],
    )

    assert [(r.source, r.rows, r.accepted, r.quarantined) for r in found.records] == [("a", 2, 2, 0), ("b", 2, 1, 1)]
    assert (found.known, found.known_rows, found.errors) == (["a again", "old"], 4, [])
    assert found.reasons == {"not_binary:is_fraud": 1}
    tables = [pq.read_table(path) for path in sorted(tmp_path.iterdir())]
    assert [table.column_names for table in tables] == [list(label_table_columns(CARDS))] * 2
    (first, second) = (table.column(INGESTED_AT)[0].as_py() for table in tables)
    assert second - first == dt.timedelta(microseconds=1), "each batch has an instant of its own"
    assert tables[1].column(BATCH_ID).unique().to_pylist() == ["hash b"]
    assert tables[1].column(SOURCE).unique().to_pylist() == ["b"]
    assert labels_accounted(found, written=4).passed
    assert label_files_readable(found).passed


def test_a_file_that_is_bad_in_itself_is_refused_and_the_others_are_not_held_up(tmp_path: Path):
    found = staged(
        tmp_path,
        ("empty", "1", SourceError("the file is empty", where="empty", fix="export it anew")),
        ("wrong", "2", pa.table({"id": ["1"]})),
        ("rotten", "3", texts(id=["x", "y"])),
        ("good", "4", texts()),
    )

    assert [record.source for record in found.records] == ["good"]
    assert [error.where for error in found.errors] == ["empty", "wrong", "rotten"]
    assert "2 of 2 label rows are bad: unreadable:id (2 rows)" in found.errors[2].what
    accounted, readable = labels_accounted(found, written=2), label_files_readable(found)
    assert (accounted.passed, readable.passed) == (True, False)
    assert "rotten: 2 of 2 label rows are bad" in readable.description


@pytest.mark.parametrize(("written", "said"), [(1, "1 rows were lost"), (3, "1 rows were duplicated")])
def test_rows_that_are_not_in_the_table_are_missed(tmp_path: Path, written: int, said: str):
    accounted = labels_accounted(staged(tmp_path, ("a", "hash a", texts())), written=written)

    assert not accounted.passed
    assert said in accounted.description


def test_where_nothing_comes_in_nothing_is_missed():
    assert labels_accounted(StagedInputs(), written=0).passed
    assert label_files_readable(StagedInputs()).passed


VALUES = {
    "id": st.sampled_from(["1", "2", " 3 ", "x", "-4", "", None]),
    "is_fraud": st.sampled_from(["0", "1", "2", "no", None]),
    "known_at": st.sampled_from(["2018-05-01", "2019-01-01", "soon", None]),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=12))
def test_every_row_is_in_the_table_once_good_or_with_a_reason(rows: list[dict[str, str | None]]):
    raw = texts(**{name: [row[name] for row in rows] for name in GOOD})
    with tempfile.TemporaryDirectory() as folder:
        source = Listed([("a", "hash", raw)])
        found = stage_labels(source, contract(), Path(folder), [], now=lambda: NOW)
        (path,) = Path(folder).iterdir()
        table = pq.read_table(path).to_pylist()

    assert sorted(row[ROW_NUMBER] for row in table) == list(range(len(rows)))
    for row in table:
        said = rows[row[ROW_NUMBER]]
        good = str(said["id"]).strip() in "123" and bool((said["id"] or "").strip())
        good &= said["is_fraud"] in ("0", "1") and said["known_at"] == "2018-05-01"
        assert (not row[REASONS]) == good
        assert row[ORIGINAL] is None if good else dict(row[ORIGINAL]) == said
    assert found.records[0].rows == found.records[0].accepted + found.records[0].quarantined == len(rows)
