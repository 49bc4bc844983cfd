from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT
from mlops_assets.data.ingest import staged_files
from mlops_assets.data.ingest.new_inputs import origin_columns
from mlops_assets.data.ingest.staged_files import BAD, GOOD, StagedFiles, leave_out, make_folders, stem_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def arrived(number: int) -> datetime:
    return NOON + timedelta(microseconds=number)


def staged(folder: Path, *sizes: int, shared: bool) -> StagedFiles:
    """Stage inputs of so many rows, of which the first of each is left out."""
    make_folders(folder)
    files = StagedFiles(folder, "one", shared=shared)
    for number, size in enumerate(sizes):
        rows = pa.table({"id": pa.array(range(size), pa.int64())})
        chosen = pa.chunked_array([pa.array([at > 0 for at in range(size)])])
        files.write(GOOD, rows, origin_columns(f"{number}.csv", f"hash-{number}", arrived(number)), chosen=chosen)
    files.close()
    return files


def rows_of(folder: Path) -> list[list[tuple[str, int]]]:
    found = []
    for path in sorted((folder / GOOD).iterdir()):
        table = pq.ParquetFile(path).read()
        found.append(list(zip(table.column(BATCH_ID).to_pylist(), table.column("id").to_pylist(), strict=True)))
    return found


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staged_files, "_GROUP_ROWS", 5)


def test_rows_of_small_inputs_share_files_that_do_not_grow_without_end(tmp_path: Path):
    files = staged(tmp_path, 3, 4, 3, shared=True)

    first = [("hash-0", 1), ("hash-0", 2), ("hash-1", 1), ("hash-1", 2), ("hash-1", 3)]
    assert rows_of(tmp_path) == [first, [("hash-2", 1), ("hash-2", 2)]]
    assert {stem_of(path) for path in (tmp_path / GOOD).iterdir()} == {files.stem}
    assert list((tmp_path / BAD).iterdir()) == []


def test_a_large_input_has_files_of_its_own_and_so_has_each_that_shares_none(tmp_path: Path):
    (tmp_path / "shared").mkdir()
    staged(tmp_path / "shared", 3, 5, 2, shared=True)
    (tmp_path / "alone").mkdir()
    staged(tmp_path / "alone", 3, 2, shared=False)

    large = [("hash-1", number) for number in range(1, 5)]
    assert sorted(rows_of(tmp_path / "shared")) == sorted([large, [("hash-0", 1), ("hash-0", 2), ("hash-2", 1)]])
    assert rows_of(tmp_path / "alone") == [[("hash-0", 1), ("hash-0", 2)], [("hash-1", 1)]]


def test_rows_of_an_input_are_left_out_of_a_shared_file_and_a_file_without_rows_is_gone(tmp_path: Path):
    staged(tmp_path, 2, 2, 2, shared=True)
    (file,) = (tmp_path / GOOD).iterdir()
    before = pq.read_schema(file)

    leave_out(file, [arrived(1), arrived(7)])
    assert rows_of(tmp_path) == [[("hash-0", 1), ("hash-2", 1)]]
    assert pq.read_schema(file) == before
    assert pq.ParquetFile(file).read().column(INGESTED_AT).to_pylist() == [arrived(0), arrived(2)]

    leave_out(file, [arrived(0), arrived(2)])
    assert not file.exists()
