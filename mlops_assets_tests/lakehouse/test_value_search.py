"""A value is found in every kind of file of a table that can hold it, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.lakehouse.value_search import files_holding

CARDS = {"card": ["7"]}


def holding(folder: Path, wanted: dict[str, list[str]] = CARDS) -> list[str]:
    return [path.name for path in files_holding(folder, wanted)]


def test_data_and_statistics_of_a_table_are_found(tmp_path: Path):
    folder = tmp_path / "t"
    for cards in ([7, 8], [9, 70]):
        rows = pa.table({"card": pa.array(cards, pa.int64()), "amount": [1.0, 7.0]})
        write_deltalake(folder, rows, mode="append")
    table = DeltaTable(folder)
    table.create_checkpoint()

    found = holding(folder)

    assert f"{0:020d}.json" in found
    assert f"{1:020d}.json" not in found, "70 is another card, and 7.0 another column"
    assert f"{1:020d}.checkpoint.parquet" in found
    assert len([name for name in found if name.endswith("c000.snappy.parquet")]) == 1
    assert holding(folder, {"card": ["71"]}) == []
    assert holding(folder, {"amount": []}) == []


@pytest.mark.parametrize(("value", "held"), [("7", True), (" 7 ", True), ("7.0", True), ("71", False), ("x7", False)])
def test_original_values_of_rows_that_were_set_aside_are_found(tmp_path: Path, value: str, held: bool):
    original = pa.array([[("card", value), ("amount", "7")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"original": original}), tmp_path / "a.parquet")

    assert bool(holding(tmp_path)) is held


@pytest.mark.parametrize("wide", [False, True], ids=["short", "longer than Delta's statistics"])
def test_texts_in_json_are_found_whole_or_by_their_beginning(tmp_path: Path, wide: bool):
    card = "c-17" * (10 if wide else 1)
    stats = json.dumps({"minValues": {"card": card[:32]}, "maxValues": {"card": "z"}})
    (tmp_path / "entry.json").write_text(json.dumps({"add": {"stats": stats}}))

    assert holding(tmp_path, {"card": [card]}) == ["entry.json"]
    assert holding(tmp_path, {"card": ["c-1"]}) == []


def test_a_file_that_is_no_parquet_is_searched_as_text(tmp_path: Path):
    (tmp_path / "broken.parquet").write_text('{"card": 7}')
    assert holding(tmp_path) == ["broken.parquet"]
    assert holding(tmp_path / "nothing") == []
