"""The set-up's command for Spark; `test_delta_jars` runs it where the jars or Java are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mlops_assets.resources.class_archive import make_archive

COMMAND = [sys.executable, "-m", "mlops_assets.resources.prepare_spark"]


def test_a_home_that_has_everything_costs_one_silent_call(shared_home: Path):
    archive = make_archive(shared_home, os.environ.get("JAVA_HOME"))
    before = archive.stat().st_mtime_ns

    command = [*COMMAND, str(shared_home), os.environ.get("JAVA_HOME", "")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert archive.stat().st_mtime_ns == before


def test_a_call_without_a_home_says_how_to_use_it():
    answer = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=60)

    assert answer.returncode == os.EX_USAGE
    assert answer.stderr == "usage: python -m mlops_assets.resources.prepare_spark HOME [JAVA_HOME]\n"
