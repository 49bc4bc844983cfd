"""What each commit of somebody else's Delta table added, read without a JVM."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.data.sources.delta import DeltaSource, newest_version
from mlops_assets.errors import SourceError


def rows(*values: int) -> pa.Table:
    return pa.table({"X": values, "half": ["first half" if value < 10 else "second" for value in values]})


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Three appends into partitions whose names want encoding, an OPTIMIZE in between, another append."""
    place = str(tmp_path / "watched")
    write_deltalake(place, rows(1, 11), partition_by=["half"])
    write_deltalake(place, rows(2), mode="append")
    write_deltalake(place, rows(3, 12, 13), mode="append")
    DeltaTable(place).optimize.compact()
    write_deltalake(place, rows(4), mode="append")
    return place


def read(source: DeltaSource) -> dict[str, list[int]]:
    return {batch.origin.rpartition("@")[2]: sorted(batch.table.column("x").to_pylist()) for batch in source.batches()}


def test_each_commit_is_a_batch_and_rearranging_adds_nothing(table: str):
    assert read(DeltaSource(table)) == {"v0": [1, 11], "v1": [2], "v2": [3, 12, 13], "v4": [4]}
    assert newest_version(table)[1] == 4


def test_only_the_wanted_versions_are_read(table: str):
    assert read(DeltaSource(table, after_version=1)) == {"v2": [3, 12, 13], "v4": [4]}
    assert read(DeltaSource(table, after_version=0, up_to_version=2)) == {"v1": [2], "v2": [3, 12, 13]}
    assert read(DeltaSource(table, after_version=4)) == {}


def test_the_partition_column_comes_with_the_rows(table: str):
    first = next(DeltaSource(table).batches())
    assert dict(zip(first.table["x"].to_pylist(), first.table["half"].to_pylist(), strict=True)) == {
        1: "first half",
        11: "second",
    }


def test_the_identity_is_that_of_table_and_version(table: str, tmp_path: Path):
    hashes = [batch.content_hash for batch in DeltaSource(table).batches()]
    assert hashes == [batch.content_hash for batch in DeltaSource(table).batches()]
    assert len(set(hashes)) == 4
    moved = str(tmp_path / "moved")
    shutil.copytree(table, moved)
    assert [batch.content_hash for batch in DeltaSource(moved).batches()] == hashes
    other = str(tmp_path / "other")
    write_deltalake(other, rows(1, 11), partition_by=["half"])
    assert next(DeltaSource(other).batches()).content_hash not in hashes


def test_rewritten_rows_are_refused_without_a_key_and_come_again_with_one(table: str):
    DeltaTable(table).update(predicate='"X" = 3', updates={"half": "'first half'"})
    write_deltalake(table, rows(5), mode="append")
    with pytest.raises(SourceError, match=r"version 5 \(UPDATE\) rewrote rows.*name the key column"):
        read(DeltaSource(table))
    again = read(DeltaSource(table, after_version=4, has_key=True))
    assert 3 in again["v5"]
    assert again["v6"] == [5]


def test_a_table_that_was_made_anew_is_said(table: str):
    with pytest.raises(SourceError, match=r"version 9 was requested but the newest is 4.*recreated"):
        read(DeltaSource(table, up_to_version=9))


def test_no_table_is_said(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no Delta table there"):
        newest_version(str(tmp_path / "empty"))


def test_a_version_whose_log_is_gone_is_said(table: str):
    (Path(table) / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(SourceError, match=r"no longer readable|no Delta table"):
        read(DeltaSource(table))


def test_a_file_that_was_vacuumed_is_said(table: str):
    for path in Path(table).glob("half=*/*.parquet"):
        path.unlink()
    with pytest.raises(SourceError):
        read(DeltaSource(table))
