from __future__ import annotations

import codecs
import gzip
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SchemaMismatchError, SettingsError, SourceError

TEXT = b"Time,Amount\n0,1.50\n1,2.50\n"


def _read(location: str | Path) -> list[SourceBatch]:
    return list(FilesSource(str(location)).batches())


def _names(batches: list[SourceBatch]) -> list[str]:
    return [batch.origin.rpartition("/")[2] for batch in batches]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three readable files, and all that a folder must be read past."""
    (tmp_path / "b.csv").write_bytes(TEXT)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.replace(b"2.50", b"3.50")))
    pq.write_table(pa.table({"Time": [5.0], "Amount": [4.5]}), tmp_path / "c.parquet")
    for name in ("_SUCCESS", ".hidden.csv", "_part.csv", "notes.txt", "c.parquet.crc"):
        (tmp_path / name).write_bytes(b"not for us")
    (tmp_path / "sub.csv").mkdir()
    (tmp_path / "sub.csv" / "d.csv").write_bytes(TEXT.replace(b"0,", b"9,"))
    return tmp_path


def test_one_csv_file(folder: Path):
    (batch,) = _read(folder / "b.csv")

    assert batch.origin == str(folder / "b.csv")
    assert batch.table.to_pydict() == {"time": ["0", "1"], "amount": ["1.50", "2.50"]}
    assert len(batch.content_hash) == 64


def test_parquet_keeps_its_types(folder: Path):
    (batch,) = _read(folder / "c.parquet")

    assert batch.table.equals(pa.table({"time": [5.0], "amount": [4.5]}))


def test_a_folder_is_read_in_order_of_names_past_other_files(folder: Path):
    assert _names(_read(folder)) == ["a.csv.gz", "b.csv", "c.parquet"]
    assert _names(_read(f"{folder}/")) == ["a.csv.gz", "b.csv", "c.parquet"]


def test_a_glob_is_read_in_order_of_names(folder: Path):
    assert _names(_read(folder / "[ab].csv*")) == ["a.csv.gz", "b.csv"]
    assert _names(_read(folder / "**" / "*.csv")) == ["b.csv", "d.csv"]
    assert _names(_read(folder / "?.csv")) == ["b.csv"]


def test_a_glob_passes_by_what_tools_keep_for_themselves(folder: Path):
    (folder / "table" / "_delta_log").mkdir(parents=True)
    (folder / "table" / "_delta_log" / "checkpoint.csv").write_bytes(b"not for us")
    (folder / "table" / "e.csv").write_bytes(TEXT)

    assert _names(_read(folder / "table" / "**" / "*.csv")) == ["e.csv"]
    with pytest.raises(SourceError, match="no file matches"):
        _read(folder / "_p*.csv")


def test_a_comma_in_a_name_is_reached_with_a_wildcard(tmp_path: Path):
    (tmp_path / "a,b.csv").write_bytes(TEXT)

    assert _names(_read(tmp_path / "a?b.csv")) == _names(_read(tmp_path)) == ["a,b.csv"]


def test_a_list_is_read_in_its_own_order(folder: Path):
    assert _names(_read(f"{folder}/c.parquet, {folder}/*.gz,{folder}/b.csv")) == ["c.parquet", "a.csv.gz", "b.csv"]


def test_a_name_with_wildcards_that_exists_is_a_file(folder: Path):
    (folder / "data[1].csv").write_bytes(TEXT)

    assert _names(_read(folder / "data[1].csv")) == ["data[1].csv"]


def test_the_hash_follows_the_content_not_the_name_or_the_packing(tmp_path: Path):
    (tmp_path / "1.csv").write_bytes(TEXT)
    (tmp_path / "2.csv").write_bytes(TEXT)
    (tmp_path / "3.csv.gz").write_bytes(gzip.compress(TEXT, mtime=1))
    (tmp_path / "4.csv.gz").write_bytes(gzip.compress(TEXT, 1, mtime=2))
    (tmp_path / "5.csv").write_bytes(TEXT.replace(b"2.50", b"2.5"))

    hashes = [batch.content_hash for batch in _read(tmp_path)]

    assert len(set(hashes[:4])) == 1
    assert hashes[4] != hashes[0]


def test_files_are_read_one_at_a_time(folder: Path):
    (folder / "b.csv").write_bytes(b"")
    batches = FilesSource(str(folder)).batches()

    assert next(batches).origin.endswith("a.csv.gz")
    with pytest.raises(SourceError, match=r"empty \(0 bytes\)"):
        next(batches)


def test_a_missing_item_is_found_before_the_first_file_is_read(folder: Path):
    with pytest.raises(SourceError, match="no such file"):
        next(FilesSource(f"{folder}/b.csv,{folder}/none.csv").batches())


def test_a_file_url_and_a_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder))

    assert _read(f"file://{folder}/b.csv")[0].origin == str(folder / "b.csv")
    assert _read("~/b.csv")[0].origin == str(folder / "b.csv")


def test_links_are_followed(folder: Path):
    (folder / "d.csv").symlink_to(folder / "b.csv")

    assert _names(_read(folder)) == ["a.csv.gz", "b.csv", "c.parquet", "d.csv"]


@pytest.fixture
def memory() -> Iterator[None]:
    store = fsspec.filesystem("memory")
    store.pipe({"/in/a.csv": TEXT, "/in/b.csv.gz": gzip.compress(TEXT), "/in/_c.csv": TEXT, "/in/more/d.csv": TEXT})
    yield
    store.rm("/in", recursive=True)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    "location", ["memory://in", "memory://in/", "memory://in/*.csv*", "memory://in/a.csv,memory://in/b*"]
)
def test_other_file_systems(location: str):
    batches = _read(location)

    assert [batch.origin for batch in batches] == ["memory://in/a.csv", "memory://in/b.csv.gz"]
    assert batches[0].table.num_rows == 2


@pytest.mark.usefixtures("memory")
def test_what_is_missing_elsewhere_is_named_as_it_was_written():
    with pytest.raises(SourceError, match=r"no such file or folder \[memory://in/none.csv\]"):
        _read("memory://in/none.csv")
    with pytest.raises(SourceError, match=r"no file matches \[memory://in/x\*.csv\]"):
        _read("memory://in/x*.csv")


def test_new_files_are_seen_by_a_source_that_looked_before(folder: Path):
    source = FilesSource(str(folder))
    assert len(list(source.batches())) == 3

    (folder / "e.csv").write_bytes(TEXT)

    assert len(list(source.batches())) == 4


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("zero.csv", b"", r"empty \(0 bytes\)"),
        ("zero.parquet", b"", r"empty \(0 bytes\)"),
        ("zero.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("header.csv", b"a,b\n", "a header but no rows"),
        ("notes.txt", b"a,b\n1,2\n", r"unknown kind .*\*\.csv, \*\.csv\.gz, \*\.parquet"),
        ("cut.csv.gz", gzip.compress(TEXT, mtime=0)[:-3], "not a complete gzip file"),
        ("text.parquet", TEXT, "not a complete Parquet file"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "row 3 has 1 field"),
        ("latin.csv", b"a,b\n1,\xe9\n", "not UTF-8 text: line 2"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "duplicate columns: a"),
        ("index.csv", b",a\n0,1\n", "column 1 of 2 has no name"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, name: str, content: bytes, problem: str):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError, match=problem) as raised:
        _read(tmp_path / name)
    assert raised.value.where == str(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_columns_that_differ_by_case_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"v1,V1\n1,2\n")

    with pytest.raises(SchemaMismatchError, match="V1, v1"):
        _read(tmp_path / "a.csv")


def test_locations_without_files_are_refused(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_bytes(b"x")

    with pytest.raises(SourceError, match="no such file or folder"):
        _read(folder / "none")
    with pytest.raises(SourceError, match="no such file or folder"):
        _read(folder / "b.csv" / "below_a_file.csv")
    with pytest.raises(SourceError, match=r"the folder holds no file like \*\.csv"):
        _read(tmp_path / "empty")
    with pytest.raises(SourceError, match="no file matches"):
        _read(folder / "x*.csv")
    with pytest.raises(SourceError, match=r"unknown kind \[.*notes.txt\]"):
        _read(folder / "*.txt")
    with pytest.raises(SettingsError, match="no location"):
        FilesSource(" , ")


def test_what_only_looks_like_a_file_is_refused(folder: Path):
    (folder / "d.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(SourceError, match=r"a broken link \[.*d\.csv\]"):
        _read(folder)

    (folder / "d.csv").unlink()
    os.mkfifo(folder / "d.csv")
    for location in (folder, folder / "d.csv"):
        with pytest.raises(SourceError, match=r"neither a file nor a folder \[.*d\.csv\]"):
            _read(location)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of one's own, entered as a user whom file modes bind: root reads everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "a.csv").write_bytes(TEXT)
        (path / "a.csv").chmod(0o644)  # whatever the umask is: importing the code location changes it
        codecs.lookup("utf-8-sig")  # Python's own files may be root's alone
        if user == 0:
            os.seteuid(65_534)
        try:
            yield path
        finally:
            os.seteuid(user)
            path.chmod(0o755)


def test_permissions_are_respected_in_words(unprivileged: Path):
    assert len(_read(unprivileged / "a.csv")) == 1

    _as_owner(lambda: (unprivileged / "a.csv").chmod(0o000))
    with pytest.raises(SourceError, match=r"permission denied \[.*a\.csv\]"):
        _read(unprivileged / "a.csv")

    _as_owner(lambda: unprivileged.chmod(0o000))
    for location in (unprivileged, unprivileged / "a.csv"):
        with pytest.raises(SourceError, match="permission denied"):
            _read(location)


def _as_owner(action: Callable[[], None]) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    action()
    os.seteuid(user)


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("abfss://container@account.dfs.core.windows.net/a.csv", r"no driver handles abfss:// .*install .*adlfs"),
        ("gs://bucket/a.csv", r"the driver for gs:// is missing .*gcsfs"),
        ("s3://key:secret@bucket/a.csv", r"the driver for s3:// is missing \[s3://bucket/a.csv\].*s3fs"),
        ("nosuch://secret@host/a.csv", r"no driver handles nosuch:// \[nosuch://host/a.csv\]"),
    ],
)
def test_a_missing_driver_is_named(location: str, problem: str):
    with pytest.raises(SourceError, match=problem) as raised:
        _read(location)
    assert "secret" not in str(raised.value)


def test_an_unreachable_host_is_refused_without_its_password(dead_url: str):
    netloc = dead_url.removeprefix("http://")

    with pytest.raises(
        SourceError, match=rf"the storage can't be read \(ConnectionRefusedError\) \[ftp://{netloc}/"
    ) as raised:
        _read(f"ftp://user:secret@{netloc}/a.csv")
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None
