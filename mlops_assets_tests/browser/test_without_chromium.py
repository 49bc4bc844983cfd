"""Without a Chromium the browser tests are skipped, each with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets_tests.browser.dagster_dev import CHECKOUT
from mlops_assets_tests.browser.web_ui import CHROMIUMS, find_chromium
from mlops_assets_tests.scripts.fakes import executable


def test_a_chromium_is_found_by_any_of_its_names_and_missed_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None

    for name in reversed(CHROMIUMS):
        made = executable(tmp_path / name, "")
        assert find_chromium() == str(made)


@pytest.mark.proof
def test_browser_tests_are_skipped_with_the_reason(tmp_path: Path):
    tests = "mlops_assets_tests/browser/test_web_ui.py"
    command = [sys.executable, "-m", "pytest", tests, "-m", "browser", "-rs", "-p", "no:cacheprovider"]

    answer = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'inner'}"],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "no chromium, chromium-browser or google-chrome in the PATH" in answer.stdout
    summary = answer.stdout.splitlines()[-1]
    assert "skipped" in summary
    assert "passed" not in summary
