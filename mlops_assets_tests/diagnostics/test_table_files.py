"""Files of a Delta table that are missing, cut, changed or exchanged are found, and whole ones are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.diagnostics.table_files import check_files, check_log
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.checksums import wrong_checksum
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.tables import PathTables


@pytest.fixture(scope="module")
def written_once(new_lakehouse: Callable[[], Lakehouse]) -> Path:
    """A table of two versions, as Spark writes it."""
    lakehouse = new_lakehouse()
    base = None
    for first in (0, 100):
        rows = lakehouse.session.range(first, first + 100)
        base = lakehouse.append("t", rows, base=base, metadata={"first": first})
    return Path(lakehouse.location("t"))


@pytest.fixture
def table(written_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written_once, tmp_path / "t")


def data_files(table: Path) -> list[Path]:
    return sorted(path for path in table.glob("*.parquet"))


def newest_entry(table: Path) -> Path:
    return max((table / "_delta_log").glob("*.json"))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def test_a_whole_table_has_no_damage(table: Path):
    assert check_log(table) == []
    assert check_files(table, [0, 1], contents=True) == []
    assert all((path.with_name(f".{path.name}.crc")).exists() for path in data_files(table)), "Spark writes checksums"


@pytest.mark.parametrize("contents", [True, False])
def test_a_missing_or_cut_data_file_is_named_with_its_version(table: Path, contents: bool):
    gone, cut = data_files(table)[:2]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-10])

    found = {damage.path.name: str(damage) for damage in check_files(table, [1], contents=contents)}

    assert found.keys() == {gone.name, cut.name}
    assert found[gone.name] == f"{gone.name} of version 1 is missing"
    assert "bytes instead of" in found[cut.name]


def test_a_flipped_byte_anywhere_is_found_when_contents_are_read(table: Path):
    path = data_files(table)[0]
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 25)):
        flip(path, at)
        assert [damage.path for damage in check_files(table, [1], contents=True)] == [path], at
        path.write_bytes(whole)


def test_another_file_of_the_same_size_is_found(table: Path):
    first, second = data_files(table)[:2]
    second.write_bytes(first.read_bytes().ljust(second.stat().st_size, b"\0")[: second.stat().st_size])

    assert [damage.path for damage in check_files(table, [1], contents=True)] == [second]


def test_a_version_that_nobody_needs_is_not_looked_at(table: Path):
    for path in data_files(table):
        path.unlink()

    assert check_files(table, [], contents=True) == []


def test_a_damaged_log_entry_is_found(table: Path):
    entry = newest_entry(table)
    whole = entry.read_bytes()
    flip(entry, 20)
    assert [damage.path for damage in check_log(table)] == [entry]
    entry.write_bytes(whole[: len(whole) // 2])
    assert [damage.path for damage in check_log(table)] == [entry]
    entry.with_name(f".{entry.name}.crc").unlink()
    assert "is no log entry" in str(check_log(table)[0]), "also without a checksum"


def test_a_missing_log_entry_is_found(table: Path):
    (table / "_delta_log" / f"{0:020d}.json").unlink()

    assert [str(damage) for damage in check_log(table)] == [f"{0:020d}.json of version 0 is missing in the log"]


def test_a_newest_entry_that_is_gone_is_missed_where_its_checksum_is_left(table: Path):
    newest_entry(table).unlink()

    assert [damage.version for damage in check_log(table)] == [1]
    with pytest.raises(StorageError, match=r"the log of t is damaged: the entry of version 1 is missing .*verify"):
        PathTables(str(table.parent)).newest("t")


def test_an_older_state_of_the_whole_table_is_no_damage_of_its_files(table: Path):
    for path in (table / "_delta_log").glob(f"*{1:020d}.*"):
        path.unlink()

    assert check_log(table) == []
    newest = PathTables(str(table.parent)).newest("t")
    assert newest is not None
    assert newest.version == 0


def test_what_delta_rs_reads_is_compared_with_its_checksums(table: Path):
    tables = PathTables(str(table.parent))
    assert tables.fetch("t", 1, ["id"]).num_rows == 200
    data, entry = data_files(table)[0], newest_entry(table)
    at = entry.read_bytes().index(b"first")
    flip(entry, at)

    with pytest.raises(StorageError, match=r"the log of t is damaged: 0+1.json was changed"):
        tables.newest("t")
    flip(entry, at)
    flip(data, data.stat().st_size // 2)
    with pytest.raises(StorageError, match="a data file of t was changed since it was written"):
        tables.fetch("t", 1, ["id"])
    data.unlink()
    with pytest.raises(StorageError, match="a data file of t is gone"):
        tables.counted("t", 1, ["id"])


@pytest.mark.parametrize(
    "content",
    [b"crc", b"crc\x00", b"crc\x00\x00\x00\x00\x00"],
    ids=["cut", "mark alone", "empty blocks"],
)
def test_a_checksum_file_that_is_damaged_itself_is_told(table: Path, content: bytes):
    path = data_files(table)[0]
    path.with_name(f".{path.name}.crc").write_bytes(content)

    assert wrong_checksum(path) == "has a damaged checksum file beside it"
