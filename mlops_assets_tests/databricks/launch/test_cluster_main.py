"""The script's own parts, without a cluster: the form of its reports, and the thread that writes them."""

from __future__ import annotations

import ast
import hashlib
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.databricks.launch import cluster_main, reports
from mlops_assets.databricks.launch.cluster_main import ChangedFileError, unpacked
from mlops_assets.databricks.launch.reports import Channel, ForgedChunkError, chunk_name, decode_chunk, encode_chunk

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
RECORDS = st.lists(st.dictionaries(st.text(), st.text(), max_size=3), max_size=5)


@given(RECORDS, st.integers(1, 10**6))
def test_whole_chunk_is_read_as_it_was_written(records: list[dict[str, Any]], number: int):
    assert decode_chunk(number, encode_chunk(number, records, KEY), KEY) == records


@given(RECORDS, st.data())
def test_part_of_a_chunk_is_not_taken_for_it(records: list[dict[str, Any]], data: st.DataObject):
    whole = encode_chunk(1, records, KEY)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert decode_chunk(1, whole[:cut], KEY) is None


@given(RECORDS, st.data())
def test_chunk_with_a_changed_byte_is_not_taken(records: list[dict[str, Any]], data: st.DataObject):
    whole = bytearray(encode_chunk(1, records, KEY))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1
    with suppress(ForgedChunkError):
        assert decode_chunk(1, bytes(whole), KEY) is None  # the length is larger now


def test_chunk_that_is_longer_than_it_says_is_forged():
    whole = encode_chunk(1, [{"": ""}], KEY)
    with pytest.raises(ForgedChunkError):
        decode_chunk(1, whole.replace(b" 10 ", b" 00 "), KEY)
    with pytest.raises(ForgedChunkError):
        decode_chunk(1, whole + b" ", KEY)


@pytest.mark.parametrize(("number", "key"), [(2, KEY), (1, OTHER_KEY)])
def test_chunk_of_another_number_or_key_is_forged(number: int, key: str):
    with pytest.raises(ForgedChunkError, match="chunk-00000"):
        decode_chunk(number, encode_chunk(1, [], KEY), key)


def test_only_the_launchers_own_code_is_unpacked(tmp_path: Path):
    archive = tmp_path / "code-1.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("package/__init__.py", "x = 1")
    request = {"code": str(archive), "code_sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    (tmp_path / "here").mkdir()

    kept, folder = unpacked(request, tmp_path / "here")
    assert kept.read_bytes() == archive.read_bytes()
    assert (folder / "package/__init__.py").read_text() == "x = 1"

    with zipfile.ZipFile(archive, "a") as files:
        files.writestr("package/more.py", "")
    (tmp_path / "there").mkdir()
    with pytest.raises(ChangedFileError, match=r"code-1\.zip has the SHA-256 .* Nothing of it was run"):
        unpacked(request, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def written(folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for number in range(1, 1 + len(list(folder.iterdir()))):
        chunk = decode_chunk(number, (folder / chunk_name(number)).read_bytes(), KEY)
        assert chunk is not None
        records += chunk
    return records


def test_records_are_written_before_the_end_and_each_once(tmp_path: Path):
    channel = Channel(tmp_path, KEY, 0.1)
    channel.put("event", number=1)
    deadline = time.monotonic() + 5
    while not list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for number in range(2, 50):
        channel.put("event", number=number)
    channel.close()
    assert [record["number"] for record in written(tmp_path)] == list(range(1, 50))


def test_storage_that_is_away_for_a_while_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "away"
    channel = Channel(folder, KEY, 0.1)
    channel.put("event", number=1)
    time.sleep(0.8)
    folder.mkdir()
    channel.put("event", number=2)
    channel.close()
    assert [record["number"] for record in written(folder)] == [1, 2]
    assert capsys.readouterr().out == ""


def test_storage_that_stays_away_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reports, "_WRITE_ATTEMPTS", 1)
    channel = Channel(tmp_path / "away", KEY, 0.1)
    channel.put("event")
    with pytest.raises(FileNotFoundError):
        channel.close()


def test_flood_of_printed_text_is_cut_with_a_word(tmp_path: Path):
    channel = Channel(tmp_path, KEY, 100)
    for _ in range(1000):
        channel.put_text("stdout", "x" * 1000)
    channel.put("event", number=1)
    channel.close()
    text, event = written(tmp_path)
    assert len(text["text"]) < 300_000
    assert text["text"].count("the rest of the output is in the driver's log") == 1
    assert event["number"] == 1


def test_many_records_become_several_chunks(tmp_path: Path):
    channel = Channel(tmp_path, KEY, 100)
    for number in range(30):
        channel.put("event", entry="x" * 100_000, number=number)
    channel.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 1
    assert max(sizes) < 2 * 2**20
    assert [record["number"] for record in written(tmp_path)] == list(range(30))


@pytest.mark.parametrize("module", [cluster_main, reports])
def test_it_needs_nothing_but_the_standard_library_to_start(module: ModuleType):
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    names = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names}
