"""Objectives that fail, hang, die and tell, a search over them, and a look at the processes they ran in.

What executors run must be importable there or be pickled by value; cloudpickle pickles functions of a module by
reference, so the objectives are made by functions.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import fmin, tpe

from mlops_assets.training.search.proposals import Document, point_of, to_hyperopt
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.space import Point
from mlops_assets_tests.training.spaces import seed_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPACE = seed_space(max_depth=(2, 4), n_estimators=(3, 9))


def failing_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point["max_depth"] == 4:
            return {"status": "fail", "error": "ValueError: too deep", "seconds": 0.0}
        return {"status": "ok", "loss": float(point["max_depth"]), "value": -float(point["max_depth"]), "seconds": 0.0}

    return task


def dying_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point["max_depth"] == 4:
            os._exit(9)
        return {"status": "ok", "loss": float(point["max_depth"]), "seconds": 0.0}

    return task


def telling_its_process() -> Any:
    def task(point: Point) -> dict[str, Any]:
        return {"status": "ok", "loss": point["learning_rate"], "pid": os.getpid(), "seconds": 0.0}

    return task


def sleeping(pids: Path) -> Any:
    def task(point: Point) -> dict[str, Any]:
        (pids / str(os.getpid())).touch()
        time.sleep(120)
        return {"status": "ok", "loss": 1.0, "seconds": 120.0}

    return task


def looping_in_c(pids: Path) -> Any:
    def task(point: Point) -> dict[str, Any]:
        (pids / str(os.getpid())).touch()
        sum(itertools.repeat(0))  # holds the interpreter: neither a signal handler nor a thread gets a turn
        return {"status": "ok", "loss": 1.0, "seconds": 120.0}

    return task


def meeting_every_end() -> Any:
    """Trials that finish, are pruned, fail, and kill their worker, as their point has it."""

    def task(point: Point) -> dict[str, Any]:
        if point["learning_rate"] > 0.433:
            os._exit(9)
        if point["max_depth"] == 4:
            return {"status": "fail", "error": "ValueError: too deep", "seconds": 0.0}
        loss = point["learning_rate"] * point["n_estimators"]
        return {
            "status": "ok",
            "loss": loss,
            "value": -loss,
            "rounds": point["n_estimators"],
            "curve": [[point["n_estimators"], -loss]],
            "pruned": point["max_depth"] == 2,
            "seconds": 0.0,
        }

    return task


def trials_of(
    spark: SparkSession,
    task: Any,
    evaluations: int,
    parallelism: int,
    timeout: float | None = None,
    before: Sequence[Document] = (),
) -> EventDrivenSparkTrials:
    trials = EventDrivenSparkTrials(spark, parallelism, partial(point_of, SPACE), lambda document: None)
    trials.insert_trial_docs(before)
    fmin(
        task,
        to_hyperopt(SPACE),
        algo=lambda *proposal: tpe.suggest(*proposal, n_startup_jobs=4),
        max_evals=evaluations,
        timeout=timeout,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    return trials


def are_gone(pids: Path, within: float) -> bool:
    """Return whether the processes that left their number in a folder have ended, or do so within seconds."""
    until = time.monotonic() + within
    numbers = [int(file.name) for file in pids.iterdir()]
    assert numbers
    while any(is_alive(number) for number in numbers):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
