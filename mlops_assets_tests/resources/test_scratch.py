"""Temporary files of killed processes go; those of living ones, and what is not ours, stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlops_assets.processes import process
from mlops_assets.resources.scratch import own_scratch


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        theirs = tmp_path / process(other.pid).replace(":", "=")
        (theirs / "spark-1").mkdir(parents=True)
        (tmp_path / "something").mkdir()
        (tmp_path / "elsewhere=1=1").mkdir()

        mine = own_scratch(tmp_path)
        assert own_scratch(tmp_path) == mine
        assert theirs.is_dir(), "it is alive"
        other.kill()
        other.wait()

    own_scratch(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, "something", "elsewhere=1=1"])
