"""Landing places are listed without opening a file, and a mark changes when its file does."""

from __future__ import annotations

import os
import socket
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import fsspec
import pytest

from mlops_assets.data.sources.listing import _written_at, arrived_on, landed_files
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


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_day_has_the_files_that_were_last_written_on_it_in_utc(tmp_path: Path):
    times = {
        "before.csv": "2026-05-01T23:59:59+00:00",
        "first.csv": "2026-05-02T00:00:00+00:00",
        "abroad.parquet": "2026-05-03T01:30:00+02:00",
        "last.csv": "2026-05-02T23:59:59+00:00",
        "after.csv": "2026-05-03T00:00:00+00:00",
        "_draft.csv": "2026-05-02T12:00:00+00:00",
    }
    for name, at in times.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds(at), seconds(at)))

    found = arrived_on(str(tmp_path), date(2026, 5, 2))

    assert [Path(location).name for location in found] == ["first.csv", "abroad.parquet", "last.csv"]
    assert arrived_on(str(tmp_path), date(2026, 5, 4)) == []


def test_another_file_system_says_when_too():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/landing/a.csv", b"x")
    try:
        today = fs.modified("/landing/a.csv").date()
        assert arrived_on("memory://landing", today) == ["memory:///landing/a.csv"]
    finally:
        fs.rm("/landing", recursive=True)


@pytest.mark.parametrize("entry", [{}, {"updated": "yesterday"}, {"mtime": None}])
def test_a_storage_that_does_not_say_when_is_refused(entry: dict[str, object]):
    with pytest.raises(SourceError, match="does not say when"):
        _written_at("s3://landing/a.csv", entry)


@pytest.mark.parametrize(
    "entry",
    [
        {"mtime": 1_777_680_000.0},
        {"LastModified": datetime(2026, 5, 2, 2, tzinfo=timezone(timedelta(hours=2)))},
        {"last_modified": datetime(2026, 5, 2)},  # noqa: DTZ001 - drivers that give UTC without saying so
        {"updated": "2026-05-02T00:00:00.000Z"},
    ],
)
def test_each_way_of_saying_when_is_the_same_moment(entry: dict[str, object]):
    assert _written_at("x", entry) == datetime(2026, 5, 2, tzinfo=UTC)


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
    with pytest.raises(SourceError, match=r"no such folder.*MLOPS_SOURCE"):
        landed_files(f"{tmp_path}/none/*.csv")


def test_a_server_that_does_not_answer_is_unreachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        with pytest.raises(UnreachableError, match="can't be read"):
            landed_files(f"ftp://127.0.0.1:{closed.getsockname()[1]}/landing")


def test_web_servers_and_credentials_are_refused():
    with pytest.raises(SourceError, match="can't list folders"):
        landed_files("https://127.0.0.1/landing/")
    with pytest.raises(SourceError, match="credentials") as caught:
        landed_files("ftp://user:secret@127.0.0.1/landing")
    assert "secret" not in str(caught.value)
