"""How a process on the cluster waits for its next request: for how long, for which file, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.databricks.launch import request_loop, step_on_cluster
from mlops_assets.databricks.launch.cluster_main import ChangedFileError
from mlops_assets.databricks.launch.request_loop import (
    StepFailedError,
    Ticket,
    await_ticket,
    run_requests,
    waiting_seconds,
)
from mlops_assets_tests.databricks.launch.driving import CHECKOUT

SHA256, KEY = hashlib.sha256(b"a").hexdigest(), "ab" * 32
FOLDERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1).map("/{}".format)


@given(FOLDERS, st.data())
def test_part_of_a_ticket_is_not_taken_for_it(folder: str, data: st.DataObject):
    whole = Ticket(SHA256, KEY, folder).encode()
    assert Ticket.decode(whole) == Ticket(SHA256, KEY, folder)
    assert Ticket.decode(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@pytest.mark.parametrize(
    ("reuse", "age", "seconds"),
    [
        (None, 0, 0),
        ({"seconds": 600, "limit_seconds": 3600}, 60, 600),
        ({"seconds": 600, "limit_seconds": 3600}, 1500, 300),  # the next step has half of the limit
        ({"seconds": 600, "limit_seconds": 3600}, 1800, 0),
        ({"seconds": 600, "limit_seconds": 3600}, 4000, 0),
    ],
)
def test_no_step_is_taken_in_the_second_half_of_the_time_limit(reuse: Any, age: float, seconds: float):
    assert waiting_seconds(reuse, age) == seconds


def test_it_takes_the_ticket_that_comes_in_time_and_no_other(tmp_path: Path):
    path, ticket = tmp_path / "next-1.txt", Ticket(SHA256, KEY, "/a")
    path.write_bytes(ticket.encode()[:-1])  # still being written
    Timer(0.3, path.write_bytes, (ticket.encode(),)).start()
    assert await_ticket(path, 5) == ticket
    began = time.monotonic()
    assert await_ticket(tmp_path / "next-2.txt", 0.2) is None
    assert time.monotonic() - began < 2


def test_storage_that_hangs_does_not_keep_a_cluster(tmp_path: Path):
    """Opening a pipe that nobody writes to waits for ever, as a mount does whose server is gone."""
    os.mkfifo(tmp_path / "next-1.txt")
    code = (
        "import sys\nfrom pathlib import Path\nfrom mlops_assets.databricks.launch import request_loop\n"
        "request_loop._GRACE_S = 0.2\nrequest_loop.await_ticket(Path(sys.argv[1]), 0.3)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "next-1.txt")]
    assert subprocess.run(command, cwd=CHECKOUT, timeout=30, check=False).returncode == os.EX_TEMPFAIL


class Process:
    """A process on the cluster whose steps do nothing, and the launcher's side of its files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.ran = folder, list[str]()
        self._tickets = 0
        monkeypatch.setattr(step_on_cluster, "run_step", self._step)
        monkeypatch.setattr(request_loop, "_LOOK_S", 0.02)

    def _step(self, step: dict[str, str], _put: object) -> bool:
        self.ran.append(step["name"])
        return step["name"] != "failing"

    def request(self, name: str, *, stays: bool = True, code: str = "c") -> dict[str, Any]:
        tickets = {"seconds": 0.5, "limit_seconds": 60, "tickets": str(self.folder / "next")}
        fields = {"step_key": name, "step": {"name": name}, "reuse": tickets if stays else None, "code_sha256": code}
        return {**fields, "flush_seconds": 1, "orphan_seconds": 60}

    def hand_over(self, request: dict[str, Any]) -> Path:
        folder = self.folder / request["step_key"]
        folder.mkdir()
        content = json.dumps(request).encode()
        (folder / "request.json").write_bytes(content)
        self._tickets += 1
        ticket = Ticket(hashlib.sha256(content).hexdigest(), KEY, str(folder))
        (self.folder / f"next-{self._tickets}.txt").write_bytes(ticket.encode())
        return folder

    def run(self, request: dict[str, Any]) -> None:
        first = self.folder / "first"
        first.mkdir()
        run_requests(first, request, KEY, lambda _channel: None, started=time.monotonic())


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(tmp_path, monkeypatch)


def test_it_takes_one_request_after_another_until_none_comes(process: Process):
    folders = [process.hand_over(process.request(name)) for name in ("second", "third")]
    process.run(process.request("first"))
    assert process.ran == ["first", "second", "third"]
    assert [(folder / "taken").exists() for folder in folders] == [True, True]


def test_it_ends_with_a_step_that_nothing_follows(process: Process):
    process.hand_over(process.request("second"))
    process.run(process.request("first", stays=False))
    assert process.ran == ["first"]


def test_it_ends_with_a_step_that_fails(process: Process):
    process.hand_over(process.request("second"))
    with pytest.raises(StepFailedError, match="step failing failed"):
        process.run(process.request("failing"))
    assert process.ran == ["failing"]


def test_a_request_that_was_changed_is_not_run(process: Process):
    folder = process.hand_over(process.request("second"))
    (folder / "request.json").write_text(json.dumps(process.request("forged")))
    with pytest.raises(ChangedFileError, match="Nothing of it was run"):
        process.run(process.request("first"))
    assert (process.ran, (folder / "taken").exists()) == (["first"], False)


def test_a_request_for_other_code_is_not_run(process: Process):
    process.hand_over(process.request("second", code="other"))
    with pytest.raises(ChangedFileError, match="asks for other code than this process runs"):
        process.run(process.request("first"))
    assert process.ran == ["first"]
