"""Settings that can't work: every way in says so in one line, quickly, before Spark is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_assets.cli.main import main
from mlops_assets_tests.processes.control import CHECKOUT, environment

# Importing everything takes seconds; the limit is for a machine that is busy with something else.
QUICK_SECONDS = 60.0
# A server that does not answer may be restarting: the step waits 30 and 90 s for it.
RETRY_SECONDS = 120.0


INGEST = 'tag:"mlops_assets/stage"="ingest"'


def asset(name: str) -> tuple[str, ...]:
    return ("dagster", "asset", "materialize", "-m", "mlops_assets.definitions", "--select", name)


@dataclass(frozen=True)
class Case:
    """A command, what is wrong with its settings (`{tmp}` is a folder), and what it must say."""

    command: tuple[str, ...]
    variable: str
    value: str
    said: str


BELOW_A_FILE = ("MLOPS_HOME", "{tmp}/file/home", "folder can't be written: Not a directory [{tmp}/file/home/")
BAD_VALUE = ("MLOPS_DRIVER_MEMORY", "lots", "MLOPS_DRIVER_MEMORY: use a whole number with m or g")
MISSPELT = ("MLOPS_SUORCE", "a.csv", "MLOPS_SUORCE: no such setting; did you mean MLOPS_SOURCE?")
NO_CONTRACT = ("MLOPS_CONTRACT", "{tmp}/none.yaml", "no such contract [{tmp}/none.yaml]")
NO_SERVER = ("MLOPS_TRACKING_URI", "http://127.0.0.1:{port}", "the MLflow server does not answer")
# Commands of ours that are refused before they load what a process must load anew, the code location.
COMMANDS = {
    "demo, home below a file": Case(("demo",), *BELOW_A_FILE),
    "instance, home below a file": Case(("instance",), *BELOW_A_FILE),
    "demo, bad value": Case(("demo",), *BAD_VALUE),
    "instance, bad value": Case(("instance",), *BAD_VALUE),
    "demo, misspelt name": Case(("demo",), *MISSPELT),
}
PROGRAMS = {
    "demo, no such contract": Case(("mlops_assets.cli.main", "demo"), *NO_CONTRACT),
    "asset, home below a file": Case(asset(INGEST), *BELOW_A_FILE),
    "model, home below a file": Case(asset("tuned_model"), *BELOW_A_FILE),
    "asset, bad value": Case(asset(INGEST), *BAD_VALUE),
    "asset, no such contract": Case(asset(INGEST), *NO_CONTRACT),
    "model, no server": Case(asset("tuned_model"), *NO_SERVER),
}
# Each of them is like one that runs soon: the same place in Dagster's program, another setting or another asset; what
# is said of a server, `resources` tests.
ALIKE = ("model, home below a file", "asset, no such contract", "model, no server")


@pytest.fixture
def variables(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables of the test's case, in a folder with one regular file."""
    case: Case = request.getfixturevalue("case")
    (tmp_path / "file").write_text("a regular file")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return {"MLOPS_HOME": str(tmp_path / "home"), case.variable: case.value.format(tmp=tmp_path, port=port)}


def require_one_error(errors: str, case: Case, tmp_path: Path) -> str:
    """Return the line of the errors that says what is wrong and what to do; nothing of Spark or Delta was made."""
    (line, *_) = [line for line in errors.splitlines() if case.said.format(tmp=tmp_path) in line]
    assert "Fix:" in line
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert not [path for path in left if "spark" in path or "_delta_log" in path]
    return line


@pytest.mark.parametrize("case", COMMANDS.values(), ids=COMMANDS)
def test_a_command_with_a_setting_that_cannot_work_prints_one_line(
    case: Case,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    status = main(case.command)

    captured = capsys.readouterr()
    assert status != 0
    line = require_one_error(captured.err, case, tmp_path)
    assert (captured.err.splitlines(), captured.out) == ([line], "")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.proof] if name in ALIKE else [])
        for name, case in PROGRAMS.items()
    ],
)
def test_a_program_with_a_setting_that_cannot_work_ends_with_one_clear_error(
    case: Case, variables: dict[str, str], tmp_path: Path
):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *case.command],
        cwd=CHECKOUT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=QUICK_SECONDS * 4,
    )

    assert done.returncode != 0
    assert time.monotonic() - began < QUICK_SECONDS + (RETRY_SECONDS if case.variable == NO_SERVER[0] else 0)
    line = require_one_error(done.stderr, case, tmp_path)
    if "dagster" not in case.command:  # Dagster's own program adds its stack traces
        assert (done.stderr.splitlines(), done.stdout) == ([line], "")
