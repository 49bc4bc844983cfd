"""`scripts/check_skips.py` on reports that pytest really wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = "def test_good():\n    assert True\n"
BAD = "def test_bad():\n    assert False\n"
SKIPPED = "import pytest\n@pytest.mark.skip(reason='no chromium')\ndef test_skipped():\n    pass\n"
SKIPPED_WHOLE = "import pytest\npytest.skip('not today', allow_module_level=True)\n"
EXPECTED_TO_FAIL = "import pytest\n@pytest.mark.xfail\ndef test_known():\n    assert False\n"
BAD_TEARDOWN = (
    "import pytest\n@pytest.fixture\ndef broken():\n    yield\n    raise OSError\n"
    "def test_torn(broken):\n    assert False\n"
)


def check(folder: Path, allowed: str, **modules: str) -> tuple[int, list[str]]:
    """Run pytest on the modules, then the script on its report; return the script's exit code and lines."""
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text, "utf-8")
    report, list_file = folder / "junit.xml", folder / "allowed-skips"
    list_file.write_text(allowed, "utf-8")
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider"]
    subprocess.run(
        [*pytest_command, f"--rootdir={folder}", f"--junitxml={report}", folder],
        cwd=folder,
        # The plugins of this environment take seconds to import.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    answer = subprocess.run(
        [sys.executable, ROOT / "scripts" / "check_skips.py", report, list_file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return answer.returncode, answer.stdout.splitlines()


def test_all_passed(tmp_path: Path):
    assert check(tmp_path, "", good=GOOD, known=EXPECTED_TO_FAIL) == (0, ["2 passed, 0 failed, 0 skipped"])


def test_skip_that_is_not_allowed_fails_and_is_named(tmp_path: Path):
    code, lines = check(tmp_path, "# test_some::test_skipped is not allowed\n", good=GOOD, some=SKIPPED)
    assert code == 1
    assert "test_some::test_skipped (" in lines[0]
    assert lines[0].endswith("no chromium)")
    assert lines[-1] == "1 passed, 0 failed, 1 skipped"


def test_skip_of_a_whole_module_is_seen(tmp_path: Path):
    code, lines = check(tmp_path, "", good=GOOD, whole=SKIPPED_WHOLE)
    assert code == 1
    assert "test_whole" in lines[0]
    assert "not today" in lines[0]


@pytest.mark.parametrize("pattern", ["test_some::test_skipped", "test_some::*  # needs a browser"])
def test_allowed_skip_passes(tmp_path: Path, pattern: str):
    assert check(tmp_path, f"\n{pattern}\n", good=GOOD, some=SKIPPED) == (0, ["1 passed, 0 failed, 1 skipped"])


def test_failure_fails(tmp_path: Path):
    assert check(tmp_path, "", good=GOOD, bad=BAD) == (1, ["1 passed, 1 failed, 0 skipped"])


def test_failure_with_an_error_in_its_teardown_counts_once(tmp_path: Path):
    assert check(tmp_path, "", good=GOOD, torn=BAD_TEARDOWN) == (1, ["1 passed, 1 failed, 0 skipped"])


@pytest.mark.parametrize(("allowed", "modules"), [("", {}), ("*", {"some": SKIPPED})], ids=["none", "all skipped"])
def test_nothing_tested_is_no_success(tmp_path: Path, allowed: str, modules: dict[str, str]):
    code, lines = check(tmp_path, allowed, **modules)
    assert code == 1
    assert lines[0] == "no test has passed"


def test_no_report_is_no_success(tmp_path: Path):
    (tmp_path / "allowed-skips").touch()
    script = [sys.executable, str(ROOT / "scripts" / "check_skips.py")]
    arguments = [str(tmp_path / "absent.xml"), str(tmp_path / "allowed-skips")]
    answer = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 1
    assert answer.stderr.startswith("no report of the tests")


def test_several_reports_are_counted_together_and_one_that_is_absent_fails(tmp_path: Path):
    for name, text in {"good": GOOD, "bad": BAD}.items():
        (tmp_path / name).mkdir()
        check(tmp_path / name, "", **{name: text})
    reports = [str(tmp_path / name / "junit.xml") for name in ("good", "bad", "absent")]

    def counted(*chosen: str) -> tuple[int, str]:
        command = [sys.executable, str(ROOT / "scripts" / "check_skips.py"), *chosen, os.devnull]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return answer.returncode, answer.stdout.splitlines()[-1]

    assert counted(*reports[:2]) == (1, "1 passed, 1 failed, 0 skipped")
    assert counted(reports[0], reports[2]) == (1, "1 passed, 0 failed, 0 skipped")
    assert counted(reports[0]) == (0, "1 passed, 0 failed, 0 skipped")
