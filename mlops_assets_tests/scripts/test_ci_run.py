"""`.ci/run` with a `make` that only says what it is asked for: which parts run, and how it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Writes the report of a test that passes, unless told otherwise.
MAKE = """#!/bin/sh
echo "make $*"
case "$*" in
  check) exit 0 ;;
  test) report=junit ;;
  *slow) exec sleep 60 ;;
  *) report=proof-${2#PART=} ;;
esac
mkdir -p "$MLOPS_HOME/test"
echo '<testsuite><testcase classname="tests" name="test_'$report'"/></testsuite>' > "$MLOPS_HOME/test/$report.xml"
case "$*" in *broken) exit 1 ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (".ci/run", "scripts/check_skips.py"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".ci" / "allowed-skips").touch()
    for name, text in {
        "make": MAKE,
        "chromium": "#!/bin/sh\n",
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
    }.items():
        executable = tmp_path / "venv" / "bin" / name
        executable.parent.mkdir(parents=True, exist_ok=True)
        executable.write_text(text, "utf-8")
        executable.chmod(0o755)
    return tmp_path


def run(checkout: Path, parts: str) -> tuple[int, list[str]]:
    """Run it with these parts; return its exit code and what it said."""
    (checkout / ".ci" / "proof-parts").write_text(f"# of the long proofs\n{parts}", "utf-8")
    answer = subprocess.run(
        ["bash", ".ci/run"],  # noqa: S607 - the one of the PATH
        cwd=checkout,
        env={"PATH": f"{checkout / 'venv' / 'bin'}:{os.environ['PATH']}", "VENV": "venv", "JAVA_HOME": "there"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return answer.returncode, answer.stdout.splitlines()


def test_parts_run_in_their_order_while_their_minutes_fit(checkout: Path):
    code, lines = run(checkout, "first 20\n  tests/a.py\nlong 61\n  tests/b.py\nlast 5\n  tests/c.py\n")

    assert code == 0
    assert [line for line in lines if line.startswith("make ")] == [
        "make check",
        "make test",
        "make proof PART=first",
        "make proof PART=last",
    ]
    assert lines[-2:] == ["proofs: ran first last; no time for long", "3 passed, 0 failed, 0 skipped"]


def test_a_part_that_overruns_is_stopped_and_what_comes_after_it_runs(checkout: Path):
    code, lines = run(checkout, "slow 0.01\n  tests/a.py\nlast 5\n  tests/c.py\n")

    assert code == 1
    assert lines[-3:] == [
        "proofs: ran slow last; no time for none",
        "failed: make proof PART=slow (stopped: it ran for more than twice its 0.01 minutes)",
        "2 passed, 0 failed, 0 skipped",
    ]


def test_a_part_that_fails_fails_the_run(checkout: Path):
    code, lines = run(checkout, "broken 1\n  tests/a.py\n")

    assert code == 1
    assert lines[-2:] == ["failed: make proof PART=broken", "2 passed, 0 failed, 0 skipped"]
