"""A table that outgrows a worker: refused or failing in memory, trained over the cluster, and as good a model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def told(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tables")
    command = [sys.executable, "-m", "mlops_assets_tests.training.small_cluster", str(shared_home), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert ran.returncode == 0, ran.stderr[-4_000:]
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    sys.stdout.write(json.dumps({name: found[name] for name in ("seconds", "limit_mib", "choice", "in memory")}))
    return found


def test_the_choice_is_the_cluster_and_for_a_quarter_of_the_rows_memory(told: Any):
    assert told["choice"]["engine"] == "distributed"
    assert told["choice"]["reason"].endswith("too much")
    assert told["half"]["engine"] == "memory"


def test_in_memory_it_fails(told: Any):
    assert "none of 2 trials succeeded" in told["in memory"]


def test_over_the_cluster_it_trains(told: Any):
    assert told["workers"] == 2
    assert [trial["state"] for trial in told["trials"]] == ["finished", "finished"]
    assert told["reproduced"]
    assert told["rows"] == 60_000
    assert told["features"] == [f"f{number:02d}" for number in range(60)]
    assert told["top"] == {"there": "f00", "here": "f00"}


def test_its_metrics_lie_within_the_intervals_of_the_model_in_memory(told: Any):
    for name in ("average_precision", "roc_auc", "log_loss", "brier"):
        here = told["here"][name]
        assert here["low"] <= told["there"][name]["estimate"] <= here["high"], name
    assert told["here"]["average_precision"]["estimate"] > 0.3
