"""The console script as a user starts and stops it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback.cli import main
from databricks_loopback.driving import processes, python_task, submit, wait_for_text

SCRIPT = Path(sys.executable).with_name("databricks-loopback")
SLEEPER = """
import subprocess
sleeping = subprocess.Popen(["sleep", "4005.25"])
open("/dbfs/running", "w").write("yes")
sleeping.wait()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SCRIPT, "--volume", "main.default.files"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_a_client_needs_and_stops_what_it_started(
    served: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
):
    assert served.stdout is not None
    lines = [served.stdout.readline() for _ in range(2)]
    exported = dict(re.findall(r"^export (\w+)=(\S+)$", "".join(lines), re.MULTILINE))
    assert set(exported) == {"DATABRICKS_HOST", "DATABRICKS_TOKEN"}
    client = WorkspaceClient(host=exported["DATABRICKS_HOST"], token=exported["DATABRICKS_TOKEN"])
    assert [volume.full_name for volume in client.volumes.list("main", "default")] == ["main.default.files"]
    submit(client, python_task(SLEEPER, client))
    wait_for_text(client, "/running")
    assert processes("sleep 4005.25")

    served.send_signal(number)
    _, errors = served.communicate(timeout=30)

    assert served.returncode == 0, errors
    assert "Traceback" not in errors
    assert processes("sleep 4005.25") == []
    assert list(tmp_path.iterdir()) == [], "its files are gone"


def test_files_of_a_named_home_are_kept(tmp_path: Path):
    home = tmp_path / "kept"
    process = subprocess.Popen([SCRIPT, "--home", str(home)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export DATABRICKS_HOST=")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert (home / "dbfs").is_dir()


def test_what_can_not_start_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handlers
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = {
            ("--port", str(port)): "the port can't be opened",
            ("--home", str(tmp_path / "used")): "the folder is not empty",
            ("--home", str(tmp_path / "used" / "file")): "the folder can't be used",
            ("--jars", str(tmp_path)): "there are no jars",
            ("--volume", "main.files"): "does not have three levels",
        }
        for arguments, reason in refused.items():
            assert main(arguments) == 2
            printed = capsys.readouterr()
            assert printed.err.startswith("databricks-loopback: ")
            assert printed.err.count("\n") == 1
            assert reason in printed.err
            assert "Fix: " in printed.err
            assert "DATABRICKS_TOKEN" not in printed.out


def test_help_shows_an_example_and_the_exit_codes():
    answer = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True, timeout=60)
    for part in ("example:", "$ databricks-loopback --port 8474", "export DATABRICKS_TOKEN=", "exit codes: 0 "):
        assert part in answer.stdout
