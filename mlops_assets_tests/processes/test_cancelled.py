"""A run is cancelled while its search goes on: MLflow says so, and nothing goes on running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.instance.home import prepare_instance
from mlops_assets_tests.processes.control import (
    ANSWER_SECONDS,
    TUNING,
    eventually,
    processes_of,
    started,
    worker,
)
from mlops_assets_tests.processes.points import Point, Then
from mlops_assets_tests.processes.state import Tracked, embedded_store

GONE_SECONDS = 15.0


@pytest.mark.proof
@pytest.mark.timeout(3 * ANSWER_SECONDS)
def test_a_cancelled_search_is_killed_in_mlflow_and_leaves_no_process(
    inputs: list[Path], new_home: Callable[[], Path], undisturbed: Path, tmp_path: Path
):
    """Ctrl-C in a terminal, which reaches the whole group, and SIGTERM as a cluster or a service manager sends it.

    The second one arrives between the requests that make up one child run.
    """
    home = new_home()
    shutil.copytree(undisturbed / "lakehouse", home / "lakehouse")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"ops": {"tuned_model": {"config": {**TUNING, "trials": 2_000, "parallelism": 2}}}}))
    job = ["job", "execute", "-m", "mlops_assets.definitions", "-j", "build_model", "-c", str(config)]
    variables = {
        "MLOPS_HOME": str(home),
        "MLOPS_SOURCE": str(inputs[0]),
        "MLOPS_SPARK_MASTER": "local[2]",
        "DAGSTER_HOME": str(prepare_instance(home / "dagster")),
    }
    tracked = Tracked(embedded_store(home))

    with (
        started([sys.executable, "-m", "dagster", *job], tmp_path / "job.log", variables=variables) as cli,
        worker(tmp_path / "worker.log") as half_way,
    ):
        half_way.begin(home, inputs[0], "tuned_model", stop_at=Point.TRIAL_HALF_RECORDED, then=Then.WAIT)
        half_way.wait_at(Point.TRIAL_HALF_RECORDED)
        half_way.process.terminate()
        assert not half_way.answer().success

        eventually(lambda: len(_finished_trials(tracked)) >= 4, ANSWER_SECONDS, "the job's search has begun")
        os.killpg(cli.pid, signal.SIGINT)
        eventually(lambda: cli.poll() is not None, GONE_SECONDS, "Ctrl-C ends the process")

    eventually(lambda: not processes_of(home), GONE_SECONDS, "no JVM is left")
    assert [run.info.status for run in tracked.parents()] == ["KILLED", "KILLED"]
    assert tracked.statuses()["RUNNING"] == 0
    assert tracked.statuses()["FINISHED"] < 2_000


def _finished_trials(tracked: Tracked) -> list[str]:
    return [run.info.run_id for run in tracked.runs() if run.info.status == "FINISHED"]
