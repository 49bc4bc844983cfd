"""`mlops doctor`: a line for each thing that must be there, and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.cli.doctor import report
from mlops_assets.databricks.preflight import Finding
from mlops_assets_tests.conftest import CHECKOUT


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({}, 0, "ok      settings: valid"),
        ({"MLOPS_TARGET": "elsewhere"}, 1, "error   settings: MLOPS_TARGET: Input should be 'local' or 'databricks'"),
        ({"MLOPS_CONTRACT": "none.yaml"}, 1, "error   settings: no such contract [none.yaml]"),
    ],
)
def test_the_command_line(tmp_path: Path, variables: dict[str, str], code: int, words: str):
    done = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli.main", "doctor"],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MLOPS_HOME": str(tmp_path / "home"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert words in done.stdout
    assert done.stdout.startswith("ok      java:")


def test_warnings_do_not_fail():
    assert report([Finding("warning", "python", "differs"), Finding("ok", "java", "17")]) == (
        "warning python: differs\nok      java: 17",
        0,
    )
