"""The platform's engine, driven for a measurement: given points or TPE's, each trial to its end, its costs noted.

What belongs here: the one place where benchmarks touch the parts below `run_search`. What does not: measuring.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import fmin, tpe

from benchmarks._given_points import Algorithm, suggest_given
from benchmarks._meters import Metered
from mlops_assets.training.proposals import decode, to_hyperopt
from mlops_assets.training.space import Point, SearchSpace
from mlops_assets.training.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.trial import TrialTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import Objective


_METERS = ("value", "seconds", "cpu_seconds", "worker", "peak_bytes", "base_bytes")


@dataclass(frozen=True)
class MeteredTrial:
    """One trial.

    Attributes:
        number: Its number, in the order of proposal.
        point: What was tried.
        value: The objective on the validation rows.
        seconds: Wall time in the worker.
        cpu_seconds: CPU time of the worker's process meanwhile, all threads.
        worker: Process id of the worker.
        peak_bytes: Largest resident size that the worker ever had, after the trial.
        base_bytes: Resident size of the worker before its first trial touched the data.
    """

    number: int
    point: Point
    value: float
    seconds: float
    cpu_seconds: float
    worker: int
    peak_bytes: int
    base_bytes: int


@dataclass(frozen=True)
class MeteredSearch:
    """All trials of a search, in the order in which they ended, and its wall time."""

    trials: tuple[MeteredTrial, ...]
    seconds: float


def try_points(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    points: Sequence[Point],
    *,
    parallelism: int,
    objective: Objective = "average_precision",
) -> MeteredSearch:
    """Try given points, each to the end of its rounds.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to judge on.
        points: What to try.
        parallelism: Trials in flight.
        objective: What is computed on the validation rows.

    Raises:
        RuntimeError: A trial failed.
    """
    proposals = suggest_given([point.as_dict() for point in points])
    return _search(spark, train, validation, proposals, len(points), parallelism=parallelism, objective=objective)


def search_to_the_end(
    spark: SparkSession, train: Matrix, validation: Matrix, *, trials: int, parallelism: int, seed: int = 42
) -> MeteredSearch:
    """Search as `run_search` does with early stopping and pruning off: TPE proposes, and learns from each result.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to judge on.
        trials: Number of trials.
        parallelism: Trials in flight.
        seed: Seed of the proposals and of XGBoost.

    Raises:
        RuntimeError: A trial failed.
    """
    random_start = max(1, min(20, trials // 4))
    algo = partial(tpe.suggest, n_startup_jobs=random_start)
    return _search(spark, train, validation, algo, trials, parallelism=parallelism, seed=seed)


def _search(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    algo: Algorithm,
    trials: int,
    *,
    parallelism: int,
    objective: Objective = "average_precision",
    seed: int = 42,
) -> MeteredSearch:
    space = SearchSpace()
    ended: list[MeteredTrial] = []

    def note(document: dict[str, Any]) -> None:
        result = document.get("result", {})
        if result.get("status") != "ok":
            raise RuntimeError(f"trial {document['tid']}: {result.get('error') or document['misc'].get('error')}")
        point = decode(space, {label: found[0] for label, found in document["misc"]["vals"].items()})
        ended.append(MeteredTrial(document["tid"], point, **{name: result[name] for name in _METERS}))

    started = time.perf_counter()
    broadcast = spark.sparkContext.broadcast((train, validation))
    try:
        fmin(
            Metered(TrialTask(uuid.uuid4().hex, broadcast, objective, seed, threads=1)),
            to_hyperopt(space),
            algo=algo,
            max_evals=trials,
            trials=EventDrivenSparkTrials(spark, parallelism, partial(decode, space), note),
            rstate=np.random.default_rng(seed),
            show_progressbar=False,
            return_argmin=False,
        )
    finally:
        broadcast.unpersist()
    return MeteredSearch(tuple(ended), time.perf_counter() - started)
