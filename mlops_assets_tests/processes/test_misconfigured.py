"""Settings that can't work: every way in says so in one line, quickly, before Spark is started."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from mlops_assets_tests.processes.control import CHECKOUT, environment

DEMO = ("-m", "mlops_assets.cli.main", "demo")
INSTANCE = ("-m", "mlops_assets.cli.main", "instance")
# Importing everything takes seconds; the limit is for a machine that is busy with something else.
QUICK_SECONDS = 60.0


def asset(name: str) -> tuple[str, ...]:
    return ("-m", "dagster", "asset", "materialize", "-m", "mlops_assets.definitions", "--select", name)


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
CASES = {
    "demo, home below a file": Case(DEMO, *BELOW_A_FILE),
    "instance, home below a file": Case(INSTANCE, *BELOW_A_FILE),
    "asset, home below a file": Case(asset("group:ingest"), *BELOW_A_FILE),
    "model, home below a file": Case(asset("tuned_model"), *BELOW_A_FILE),
    "demo, bad value": Case(DEMO, *BAD_VALUE),
    "instance, bad value": Case(INSTANCE, *BAD_VALUE),
    "asset, bad value": Case(asset("group:ingest"), *BAD_VALUE),
    "demo, misspelt name": Case(DEMO, *MISSPELT),
    "demo, no such contract": Case(DEMO, *NO_CONTRACT),
    "asset, no such contract": Case(asset("group:ingest"), *NO_CONTRACT),
    "model, no server": Case(asset("tuned_model"), *NO_SERVER),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: str
    errors: str
    seconds: float
    left: list[str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How all cases ended, run two at a time."""
    folder = tmp_path_factory.mktemp("misconfigured")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def run(name: str, case: Case) -> Ended:
        tmp = folder / name.replace(" ", "_").replace(",", "")
        tmp.mkdir()
        (tmp / "file").write_text("a regular file")
        value = case.value.format(tmp=tmp, port=port)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *case.command],
            cwd=CHECKOUT,
            env=environment(MLOPS_HOME=str(tmp / "home")) | {case.variable: value},
            capture_output=True,
            text=True,
            check=False,
            timeout=QUICK_SECONDS * 4,
        )
        left = sorted(str(path.relative_to(tmp)) for path in tmp.rglob("*"))
        return Ended(
            done.returncode, done.stdout, done.stderr.replace(str(tmp), "{tmp}"), time.monotonic() - began, left
        )

    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(CASES, pool.map(run, CASES, CASES.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_setting_that_cannot_work_is_one_clear_error(ended: dict[str, Ended], name: str):
    case, found = CASES[name], ended[name]

    assert found.status != 0
    (line, *_) = [line for line in found.errors.splitlines() if case.said in line]
    assert "Fix:" in line
    assert found.seconds < QUICK_SECONDS
    assert not [path for path in found.left if "spark" in path or "_delta_log" in path]
    if case.command in (DEMO, INSTANCE):  # the others are Dagster's own program, which adds its stack traces
        assert (found.errors.splitlines(), found.output) == ([line], "")
