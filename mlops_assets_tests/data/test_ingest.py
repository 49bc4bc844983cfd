"""From a source to staged Parquet files: what is new is written once, what is known or wrong is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mlops_assets.data.conform import ROW_NUMBER, ColumnFaults
from mlops_assets.data.contract import Column, Contract
from mlops_assets.data.ingest import BATCH_ID, SOURCE, TECHNICAL_COLUMNS, StagedLoad, stage_load
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.synthetic import SyntheticSource
from mlops_assets.errors import SchemaMismatchError, SourceError

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="time", type="timestamp"),
        Column(name="amount", type="double", min=0),
        Column(name="card", type="string"),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount",),
    target="fraud",
    event_time="time",
)


@dataclass
class Listed:
    """A source whose batches are given."""

    tables: list[tuple[str, str, dict[str, Any]]]

    def batches(self) -> Iterator[SourceBatch]:
        for origin, content, columns in self.tables:
            yield SourceBatch(origin, content, pa.table(columns))


def day(rows: int = 3, **columns: Any) -> dict[str, Any]:
    whole = {
        "time": [f"2018-04-01 00:00:{second:02}" for second in range(rows)],
        "amount": [f"{row}.50" for row in range(rows)],
        "card": [f"c{row}" for row in range(rows)],
        "fraud": [str(row % 2) for row in range(rows)],
    }
    return {name: pa.array(columns.get(name, values), pa.string()) for name, values in whole.items()}


def csv(path: Path, **columns: Any) -> Path:
    table = pa.table(day(**columns))
    pa_csv.write_csv(table.rename_columns([name.title() for name in table.column_names]), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    staging = tmp_path / "staging"
    staging.mkdir()
    return staging


def staged(folder: Path) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted(folder.iterdir())]


def test_each_new_batch_becomes_one_file_with_its_origin(folder: Path):
    source = Listed([("a.csv", "hash-a", day(3)), ("b.csv", "hash-b", day(2))])

    load = stage_load(source, CARDS, folder, known=[])

    assert (load.new, load.known, load.new_rows) == ({"hash-a": "a.csv", "hash-b": "b.csv"}, [], 5)
    first, second = staged(folder)
    assert first.column_names == [*CARDS.column_names, ROW_NUMBER, BATCH_ID, SOURCE]
    assert first.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert first.column("amount").to_pylist() == [0.5, 1.5, 2.5]
    assert second.select([ROW_NUMBER, BATCH_ID, SOURCE]).to_pylist() == [
        {ROW_NUMBER: 0, BATCH_ID: "hash-b", SOURCE: "b.csv"},
        {ROW_NUMBER: 1, BATCH_ID: "hash-b", SOURCE: "b.csv"},
    ]
    assert set(first.column_names) - set(CARDS.column_names) < set(TECHNICAL_COLUMNS)


def test_what_the_table_knows_is_counted_but_not_written(folder: Path):
    source = Listed([("a.csv", "hash-a", day(3)), ("b.csv", "hash-b", day(2))])

    load = stage_load(source, CARDS, folder, known={"hash-a"})

    assert (load.new, load.known, load.new_rows) == ({"hash-b": "b.csv"}, ["a.csv"], 2)
    assert [table.num_rows for table in staged(folder)] == [2]
    assert load.findings.rows == 5
    assert load.findings.classes == {0: 3, 1: 2}


def test_the_same_content_under_two_names_is_written_once(folder: Path, tmp_path: Path):
    first = csv(tmp_path / "1.csv")
    (tmp_path / "2.csv").write_bytes(first.read_bytes())

    load = stage_load(FilesSource(str(tmp_path / "*.csv")), CARDS, folder, known=[])

    assert list(load.new.values()) == [str(first)]
    assert load.known == [str(tmp_path / "2.csv")]
    assert [table.num_rows for table in staged(folder)] == [3]


def test_nothing_new_writes_nothing(folder: Path):
    load = stage_load(Listed([("a.csv", "hash-a", day())]), CARDS, folder, known=["hash-a"])

    assert (load.new, load.new_rows, list(folder.iterdir())) == ({}, 0, [])


def test_a_source_without_batches_gives_an_empty_load(folder: Path):
    assert stage_load(Listed([]), CARDS, folder, known=[]) == StagedLoad()


def test_a_batch_without_rows_is_staged_in_the_right_types(folder: Path):
    load = stage_load(Listed([("a.csv", "hash-a", day(0)), ("b.csv", "hash-b", day(1))]), CARDS, folder, known=[])

    empty, one = staged(folder)
    assert load.new_rows == 1
    assert empty.num_rows == 0
    assert empty.schema == one.schema


def test_findings_of_all_batches_are_added_up(folder: Path):
    source = Listed(
        [
            ("a.csv", "hash-a", day(3, amount=["x", "1", None])),
            ("b.csv", "hash-b", day(2, amount=["-1", "y"], time=["2018-04-02", "2018-04-01"])),
        ]
    )

    findings = stage_load(source, CARDS, folder, known=[]).findings

    assert findings.faults == {"amount": ColumnFaults(unreadable=2, null=1, out_of_range=1, example="x")}
    assert findings.disorder == {"b.csv": 1}


def test_files_of_a_folder_are_read_from_disk_with_lower_cased_names(folder: Path, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    csv(landing / "1.csv", rows=3)
    pq.write_table(pa.table({name.upper(): values for name, values in day(2).items()}), landing / "2.parquet")

    load = stage_load(FilesSource(str(landing)), CARDS, folder, known=[])

    assert load.new_rows == 5
    assert load.findings.faults == {}
    assert pa.concat_tables(staged(folder)).column("card").to_pylist() == ["c0", "c1", "c2", "c0", "c1"]


def test_synthetic_rows_keep_the_contract_and_their_identity(folder: Path, creditcard: Contract):
    load = stage_load(SyntheticSource(rows=500, days=2, fraud_rate=0.1), creditcard, folder, known=[])
    again = stage_load(SyntheticSource(rows=500, days=2, fraud_rate=0.1), creditcard, folder, known=load.new)

    assert (load.new_rows, load.findings.faults, load.findings.disorder) == (500, {}, {})
    assert (again.new_rows, again.known) == (0, list(load.new.values()))


def test_other_columns_stop_the_load_at_their_file(folder: Path):
    wrong = {name: values for name, values in day().items() if name != "card"}
    source = Listed([("a.csv", "hash-a", day()), ("wrong.csv", "hash-w", {**wrong, "colour": ["red"] * 3})])

    with pytest.raises(SchemaMismatchError, match=r"missing columns: card; unknown columns: colour .*\[wrong.csv\]"):
        stage_load(source, CARDS, folder, known=[])


def test_known_content_is_checked_as_well(folder: Path):
    """A table that was made under another contract must not make wrong columns pass."""
    with pytest.raises(SchemaMismatchError, match="missing columns: time"):
        stage_load(Listed([("a.csv", "hash-a", {"amount": ["1"]})]), CARDS, folder, known=["hash-a"])


def test_a_source_that_cannot_be_read_stops_the_load(folder: Path, tmp_path: Path):
    with pytest.raises(SourceError, match="nothing"):
        stage_load(FilesSource(str(tmp_path / "nothing.csv")), CARDS, folder, known=[])
    assert list(folder.iterdir()) == []
