"""The loopback workspace under two versions of databricks-sdk: its answers, its errors, and what it accepts.

Its own tests run in environments that have the version and nothing of this project, from a copy outside of the
checkout. They compare each endpoint's answer with the SDK's data class, and errors with the SDK's mapping.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mlops_assets_tests.databricks.judged.conftest import CHECKOUT, NEWEST_SDK
from mlops_assets_tests.environments import MakeEnvironment

PACKAGE = CHECKOUT / "packages" / "databricks-loopback"
# Those that need neither Spark nor Dagster.
TESTS = (
    "shapes",
    "errors",
    "grants",
    "notebooks",
    "files",
    "dbfs",
    "runs_api",
    "clusters",
    "secret_scopes",
    "workspace_files",
    "server",
    "serverless",
    "rates",
)
pytestmark = [
    pytest.mark.proof,  # asks the package index, and runs tasks
    pytest.mark.timeout(1000),
]


@pytest.mark.parametrize("sdk", ["databricks-sdk==0.60.0", NEWEST_SDK])
def test_answers_and_errors_are_what_the_sdk_reads(environment: MakeEnvironment, tmp_path: Path, sdk: str):
    python = environment(sdk, "pytest>=8.3,<10", "pytest-timeout", "requests", "packaging")
    shutil.copytree(PACKAGE, tmp_path / "loopback", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "loopback" / "pytest.ini").write_text("[pytest]\nmarkers = proof: long\n")
    files = [f"tests/test_{name}.py" for name in TESTS]
    jars = Path(os.environ.get("MLOPS_HOME", CHECKOUT / ".mlops")) / "jars"
    where = {"PYTHONPATH": "src", "DATABRICKS_LOOPBACK_JARS": str(jars), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not proof", *files],
        cwd=tmp_path / "loopback",
        env=where,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 150
    assert "skipped" not in done.stdout
