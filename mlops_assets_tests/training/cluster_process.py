"""A driver of its own on a Spark cluster of two executors, run as a process by `test_on_a_cluster`.

It prints one JSON object. What it shows can't be shown in the tests' own Spark: that one runs tasks in its own JVM, and
runs none of them twice.

Usage: python -m mlops_assets_tests.training.cluster_process HOME SCRATCH
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import fmin, tpe

from mlops_assets.resources.spark import SparkResource
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.proposals import point_of, to_hyperopt
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.shared_data import BroadcastData, Samples
from mlops_assets.training.search.slots import count_slots
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets.training.space import Point
from mlops_assets_tests.training.conftest import make_halves, without_time
from mlops_assets_tests.training.spaces import seed_point, seed_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SPACE = seed_space(max_depth=(2, 4), n_estimators=(3, 40))
PLAN = SearchPlan(space=SPACE, trials=12, parallelism=1, early_stopping_rounds=8, checkpoint_rounds=2)


def good(point: Point) -> dict[str, Any]:
    """Return the result of a trial that finishes."""
    return {"status": "ok", "loss": point["learning_rate"], "seconds": 0.0}


def killing_its_worker(notes: Path) -> Callable[[Point], dict[str, Any]]:
    """Trials of deep trees kill their own process, and note each time they do."""

    def task(point: Point) -> dict[str, Any]:
        if point["max_depth"] == 4:
            with (notes / f"{point['learning_rate']}").open("a") as file:
                file.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return good(point)

    return task


def killing_an_executor(notes: Path) -> Callable[[Point], dict[str, Any]]:
    """The first trial kills the JVM that its worker belongs to."""

    def task(point: Point) -> dict[str, Any]:
        flag = notes / "executor"
        if not flag.exists():
            flag.touch()
            daemon = os.getppid()
            executor = int(Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[1])
            assert b"CoarseGrainedExecutorBackend" in Path(f"/proc/{executor}/cmdline").read_bytes()
            os.kill(executor, signal.SIGKILL)
        return good(point)

    return task


def looping_in_c(notes: Path) -> Callable[[Point], dict[str, Any]]:
    """Trials that hold the interpreter for good."""

    def task(point: Point) -> dict[str, Any]:
        (notes / f"pid-{os.getpid()}").touch()
        sum(itertools.repeat(0))
        return good(point)

    return task


def ends(spark: SparkSession, task: Any, timeout: float | None = None) -> list[tuple[str, str]]:
    """Run eight trials; return status and error of each that is over."""
    trials = EventDrivenSparkTrials(spark, 2, partial(point_of, SPACE), lambda document: None)
    fmin(
        task,
        to_hyperopt(SPACE),
        algo=tpe.suggest,
        max_evals=8,
        timeout=timeout,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    results = [trial["result"] for trial in trials.trials]
    return [(result["status"], result.get("error", "").partition("\n")[0]) for result in results]


def broadcast_value(spark: SparkSession) -> list[float]:
    """Return the value of one point, tried three times on rows that were broadcast."""
    samples = tuple(Samples.of(rows) for rows in make_halves())
    data = BroadcastData(spark.sparkContext.broadcast(samples))
    task = TrialTask("broadcast", data, "average_precision", 42, 1, 5, 0)
    points = [Assignment(seed_point(3, 20, 0.3))] * 3
    return [float(result["value"]) for result in spark.sparkContext.parallelize(points, 3).map(task).collect()]


def main() -> None:
    """Run all of it and print what came of it."""
    home, scratch = sys.argv[1:]
    notes = Path(scratch)
    spark = SparkResource(
        home=home,
        master="local-cluster[2,1,1024]",
        driver_memory="1g",
        extra_conf={
            "spark.executor.memory": "1g",
            "spark.task.maxFailures": "4",
            # The session is there when both executors are; what they are counted against is this maximum.
            "spark.cores.max": "2",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
        },
    ).session
    found = {
        "slots": count_slots(spark.sparkContext, cpus=1),
        "search": [repr(record) for record in without_time(run_search(spark, *make_halves(), PLAN, print_none).trials)],
        "broadcast": broadcast_value(spark),
        "worker": ends(spark, killing_its_worker(notes)),
        "executor": ends(spark, killing_an_executor(notes)),
        "hanging": ends(spark, looping_in_c(notes), timeout=5.0),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def print_none(_: Any) -> None:
    """Report nothing."""


if __name__ == "__main__":
    main()
