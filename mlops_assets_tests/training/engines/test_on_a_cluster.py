"""The search on a Spark cluster of two executors: what dies there dies once, and costs what was in flight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
import pytest

from mlops_assets.training.objective import fit, judge, quantized
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.spark_trials import DIED
from mlops_assets_tests.training.cluster_process import CHECKOUT, PLAN, print_none
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.spaces import seed_point

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def found(scratch: Path, shared_home: Path) -> dict[str, Any]:
    """What the driver on the cluster has printed."""
    # Spark's workers write below its home; this one is made of links, so that they do not write into the environment.
    home, notes = scratch / "spark", scratch / "notes"
    home.mkdir()
    notes.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-m", "mlops_assets_tests.training.cluster_process", str(shared_home), str(notes)],
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, "SPARK_HOME": str(home), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_trial_that_kills_its_worker_has_failed_once_and_the_others_count(found: dict[str, Any], scratch: Path):
    failed = [error for status, error in found["worker"] if status == "fail"]

    assert 0 < len(failed) < 8
    assert len(found["worker"]) == 8
    assert set(failed) == {DIED}
    killed = [file.read_text() for file in (scratch / "notes").iterdir() if file.name.startswith("0.")]
    assert killed == ["killed\n"] * len(failed)


def test_an_executor_that_is_killed_costs_the_trials_in_flight(found: dict[str, Any]):
    failed = [error for status, error in found["executor"] if status == "fail"]

    assert len(found["executor"]) == 8
    assert 1 <= len(failed) <= 2
    assert set(failed) == {DIED}


def test_a_hanging_objective_does_not_outlive_the_time_budget(found: dict[str, Any], scratch: Path):
    pids = [int(file.name.removeprefix("pid-")) for file in (scratch / "notes").glob("pid-*")]

    assert found["hanging"] == []
    assert pids
    until = time.monotonic() + 6
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_same_seed_is_the_same_search_in_another_process_on_another_cluster(
    found: dict[str, Any], spark: SparkSession, halves: tuple[Matrix, Matrix]
):
    here = run_search(spark, *halves, PLAN, print_none)

    assert found["search"] == [repr(record) for record in without_time(here.trials)]
    assert {record.state for record in here.trials} == {"finished", "pruned"}


def test_broadcast_rows_give_the_same_bits(found: dict[str, Any], halves: tuple[Matrix, Matrix]):
    train, validation = halves
    binned = quantized(train, threads=1)
    model = fit(seed_point(3, 20, 0.3), binned, seed=42, threads=1)
    value = judge("average_precision", validation.y, model.predict(quantized(validation, threads=1, ref=binned)))

    assert found["broadcast"] == [value] * 3


def test_the_slots_of_a_cluster_are_counted(found: dict[str, Any]):
    assert found["slots"] == 2
