"""Landing places are listed without opening a file, and a mark changes when its file does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import fsspec
import pytest

from mlops_assets.data.sources.listing import landed_files
from mlops_assets.errors import SourceError, UnreachableError


def names(locations: str) -> list[str]:
    return [Path(file.location).name for file in landed_files(locations)]


def test_a_folder_gives_its_readable_files_in_order(tmp_path: Path):
    for name in ("b.csv", "a.parquet", "c.csv.gz", ".hidden.csv", "_SUCCESS", "draft.csv.tmp", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.csv").touch()
    assert names(str(tmp_path)) == ["a.parquet", "b.csv", "c.csv.gz"]


def test_a_glob_reaches_below_and_may_match_nothing(tmp_path: Path):
    for name in ("2018/a.csv", "2018/_tmp/b.csv", "2019/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(f"{tmp_path}/**/*.csv") == ["a.csv", "c.csv"]
    assert names(f"{tmp_path}/*.parquet") == []


def test_a_mark_follows_size_and_time_of_writing(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    os.utime(path, (1, 1))
    first = landed_files(str(tmp_path))
    assert landed_files(str(tmp_path)) == first, "nothing has changed"
    path.write_text("longer")
    os.utime(path, (1, 1))
    longer = landed_files(str(tmp_path))
    os.utime(path, (2, 2))
    later = landed_files(str(tmp_path))
    assert len({first[0].mark, longer[0].mark, later[0].mark}) == 3


def test_another_file_system_keeps_its_scheme():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/landing/a.csv", b"x")
    fs.pipe_file("/landing/.b.csv", b"x")
    try:
        assert [file.location for file in landed_files("memory://landing")] == ["memory:///landing/a.csv"]
    finally:
        fs.rm("/landing", recursive=True)


def test_a_file_named_twice_is_listed_once(tmp_path: Path):
    (tmp_path / "a.csv").touch()
    assert names(f"{tmp_path}/a.csv, {tmp_path}") == ["a.csv"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no such folder.*MLOPS_SOURCE"):
        landed_files(str(tmp_path / "none"))


def test_a_server_that_does_not_answer_is_unreachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        with pytest.raises(UnreachableError, match="can't be read"):
            landed_files(f"ftp://127.0.0.1:{closed.getsockname()[1]}/landing")


def test_web_servers_and_credentials_are_refused():
    with pytest.raises(SourceError, match="list no folders"):
        landed_files("https://127.0.0.1/landing/")
    with pytest.raises(SourceError, match="credentials") as caught:
        landed_files("ftp://user:secret@127.0.0.1/landing")
    assert "secret" not in str(caught.value)
