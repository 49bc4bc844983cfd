"""The code of README.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_readme_has_both_examples():
    assert ["PipesDatabricksClient" in block for block in BLOCKS] == [False, True]


@pytest.mark.proof  # each starts a Spark of its own, as `test_spark_task` and `test_stock_pipes` do soon
@pytest.mark.parametrize(
    ("block", "prints"),
    [(0, r"RunResultState\.SUCCESS 5 rows on \d+\.\d+"), (1, r"5 rows")],
    ids=["databricks-sdk", "Pipes"],
)
def test_example_runs_as_it_stands(tmp_path: Path, block: int, prints: str):
    (tmp_path / "example.py").write_text(BLOCKS[block], "utf-8")
    answer = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert answer.returncode == 0, answer.stderr
    assert re.search(prints, answer.stdout)
