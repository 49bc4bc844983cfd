"""`require_java` where the script's tests don't reach: the PATH, and the Java that these tests run with.

The versions are in `mlops_assets_tests/scripts/test_preflight.py`, where both checks get the same ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.errors import SettingsError
from mlops_assets.resources.java import require_java
from mlops_assets.settings import Settings
from mlops_assets_tests.scripts.fakes import fake_java

ASK = "from mlops_assets.resources.java import require_java; print(require_java(None))"


def ask_with_path(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", ASK]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False, timeout=60)


def test_the_java_that_the_tests_run_with_is_fit():
    assert require_java(Settings.from_environment().java_home) >= 17


def test_without_java_home_the_path_is_searched(tmp_path: Path):
    fake_java(tmp_path / "java", "21.0.2")
    assert ask_with_path(tmp_path).stdout.strip() == "21"


def test_no_java_in_the_path(tmp_path: Path):
    answer = ask_with_path(tmp_path)
    assert answer.returncode != 0
    assert answer.stderr.splitlines()[-1].startswith("mlops_assets.errors.SettingsError: Spark needs Java 17 or 21")


def test_java_home_without_a_java_is_named(tmp_path: Path):
    with pytest.raises(SettingsError) as error:
        require_java(str(tmp_path))
    assert error.value.where == f"JAVA_HOME={tmp_path}"
