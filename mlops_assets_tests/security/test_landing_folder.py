"""Whoever may put files into the landing folder loads those files, and nothing else of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.data.sources import files as files_module
from mlops_assets.data.sources import storage
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.listing import landed_files
from mlops_assets.data.sources.within import outside
from mlops_assets.errors import SourceError, UnreachableError

TEXT = "time,amount\n0,1.50\n"


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    (folder / "good.csv").write_text(TEXT)
    (tmp_path / "private.csv").write_text("secret\n1\n")
    return folder


def read(location: object) -> list[SourceBatch]:
    return list(FilesSource(str(location)).batches())


@pytest.mark.parametrize("pattern", ["", "/*.csv", "/**/*.csv"])
def test_a_link_out_of_the_folder_is_refused(landing: Path, pattern: str):
    (landing / "bad.csv").symlink_to(landing.parent / "private.csv")

    with pytest.raises(SourceError, match="leads out of the folder"):
        read(f"{landing}{pattern}")
    assert [Path(file.location).name for file in landed_files(f"{landing}{pattern}")] == ["good.csv"]


def test_a_link_to_a_folder_elsewhere_is_not_followed(landing: Path):
    (landing / "day").symlink_to(landing.parent)

    with pytest.raises(SourceError, match="no file matches"):
        read(f"{landing}/*/*.csv")


def test_a_run_can_t_be_given_a_link_out_of_the_place(landing: Path):
    bad = landing / "bad.csv"
    bad.symlink_to(landing.parent / "private.csv")

    assert outside(str(bad), str(landing)) == [str(bad)]
    assert outside(str(bad), f"{landing}/*.csv") == [str(bad)]
    assert outside(str(landing / "good.csv"), f"{landing}/*.csv") == []


def test_links_within_the_folder_and_of_the_folder_itself_are_followed(landing: Path, tmp_path: Path):
    (landing / "latest.csv").symlink_to("good.csv")
    (tmp_path / "linked").symlink_to(landing)

    assert len(read(landing)) == len(read(tmp_path / "linked")) == 2
    assert len(landed_files(str(tmp_path / "linked"))) == 2
    assert outside(str(tmp_path / "linked" / "latest.csv"), str(tmp_path / "linked")) == []


def test_a_file_that_the_operator_names_may_be_a_link(landing: Path, tmp_path: Path):
    (tmp_path / "latest.csv").symlink_to(landing / "good.csv")

    assert len(read(tmp_path / "latest.csv")) == 1
    assert outside(str(tmp_path / "latest.csv"), str(tmp_path / "latest.csv")) == []


def test_a_pipe_and_a_device_are_refused_without_being_opened(landing: Path):
    os.mkfifo(landing / "pipe.csv")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        read(landing)
    (landing / "pipe.csv").unlink()
    (landing / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="leads out of the folder"):
        read(landing)
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        read(landing / "zero.csv")


def test_a_folder_with_the_name_of_a_file_is_none(landing: Path):
    (landing / "folder.csv").mkdir()

    assert [batch.origin for batch in read(landing)] == [str(landing / "good.csv")]
    assert len(landed_files(str(landing))) == 1


@pytest.mark.parametrize("name", ["simplecache::file:", "zip:", "file::memory:"])
def test_a_name_that_chains_file_systems_is_refused(landing: Path, name: str):
    chained = f"{name}::{landing}/good.csv" if "::" not in name else f"{name}//{landing}/good.csv"

    with pytest.raises(SourceError, match="has `::`"):
        read(chained)


def test_a_file_that_changes_while_it_is_read_is_left_for_later(landing: Path, monkeypatch: pytest.MonkeyPatch):
    ask = storage.ask

    def growing(item: str, action: Any, where: str | None = None) -> Any:
        answer = ask(item, action, where)
        if isinstance(answer, bytes):
            (landing / "good.csv").write_text(TEXT * 2)
        return answer

    monkeypatch.setattr(files_module, "ask", growing)

    with pytest.raises(UnreachableError, match="changed while it was read") as raised:
        read(landing)
    assert raised.value.transient
