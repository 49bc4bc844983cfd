"""Runs the platform's engine for a measurement: given points or TPE's, each trial to its end, with its costs.

What belongs here: the only code of the benchmarks that uses the parts below `run_search`. What does not: comparing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from hyperopt import STATUS_OK, fmin, tpe

from benchmarks._given_points import suggest_given
from benchmarks._meters import Metered
from mlops_assets.training.search.proposals import Algorithm, Document, point_of, to_hyperopt
from mlops_assets.training.search.shared_data import BroadcastData, Samples, shared
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets.training.space import Point, SearchSpace, search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import Objective, SearchPlan


_METERS = ("value", "rounds", "seconds", "cpu_seconds", "worker", "peak_bytes", "base_bytes")


@dataclass(frozen=True)
class MeteredTrial:
    """One trial and what it cost.

    Attributes:
        number: Its number, in the order of proposal.
        point: What was tried.
        value: The objective on the validation rows.
        rounds: Trees of the model that has this value.
        seconds: Wall time in the worker.
        cpu_seconds: CPU time of the worker's process during the trial, all threads.
        worker: Process id of the worker.
        peak_bytes: Peak resident size of the worker process so far, read after the trial.
        base_bytes: Resident size of the worker before its first trial touched the data.
    """

    number: int
    point: Point
    value: float
    rounds: int
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


@contextmanager
def broadcast(spark: SparkSession, train: Matrix, validation: Matrix) -> Iterator[BroadcastData]:
    """Broadcast the rows as `shared` does on a cluster, even on one machine."""
    sent = spark.sparkContext.broadcast(tuple(Samples.of(rows) for rows in (train, validation)))
    try:
        yield BroadcastData(sent)
    finally:
        sent.destroy()


def try_points(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    points: Sequence[Point],
    *,
    parallelism: int,
    as_on_a_cluster: bool = False,
    space: SearchSpace | None = None,
    early_stopping: SearchPlan | None = None,
) -> MeteredSearch:
    """Try the given points, each for all of its rounds unless it may stop early.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to evaluate on.
        points: What to try.
        parallelism: Trials in flight.
        as_on_a_cluster: Broadcasts the rows, although a folder shared with the workers would be enough here.
        space: The space that the points are from; the preset `seed` if not given.
        early_stopping: Its rules of early stopping hold here too; None fits all trees.

    Raises:
        RuntimeError: A trial failed.
    """
    return _search(
        spark,
        train,
        validation,
        suggest_given(points),
        len(points),
        parallelism=parallelism,
        as_on_a_cluster=as_on_a_cluster,
        space=space,
        early_stopping=early_stopping,
    )


def search_to_the_end(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    *,
    trials: int,
    parallelism: int,
    seed: int = 42,
    space: SearchSpace | None = None,
) -> MeteredSearch:
    """Search as `run_search` does, without early stopping and pruning: TPE proposes and learns from each result.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to evaluate on.
        trials: Number of trials.
        parallelism: Trials in flight.
        seed: Seed of the proposals and of XGBoost.
        space: The space to search; the preset `seed` if not given.

    Raises:
        RuntimeError: A trial failed.
    """
    random_start = max(1, min(20, trials // 4))
    algo = partial(tpe.suggest, n_startup_jobs=random_start)
    return _search(spark, train, validation, algo, trials, parallelism=parallelism, seed=seed, space=space)


def _search(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    algo: Algorithm,
    trials: int,
    *,
    parallelism: int,
    seed: int = 42,
    as_on_a_cluster: bool = False,
    space: SearchSpace | None = None,
    early_stopping: SearchPlan | None = None,
) -> MeteredSearch:
    space = space or search_space("seed")
    objective: Objective = "average_precision"
    ended: list[MeteredTrial] = []

    def assign(document: Document) -> Assignment:
        return Assignment(point_of(space, document))

    def note(document: Document) -> None:
        result = document["result"]
        if result["status"] != STATUS_OK:
            raise RuntimeError(f"trial {document['tid']}: {result['error']}")
        point = point_of(space, document)
        ended.append(MeteredTrial(document["tid"], point, **{name: result[name] for name in _METERS}))

    started = time.perf_counter()
    with (broadcast if as_on_a_cluster else shared)(spark, train, validation) as data:
        task = TrialTask(
            uuid.uuid4().hex,
            data,
            objective,
            seed,
            threads=1,
            checkpoint_rounds=0 if early_stopping is None else early_stopping.checkpoint_rounds,
            early_stopping_rounds=0 if early_stopping is None else early_stopping.early_stopping_rounds,
        )
        fmin(
            Metered(task),
            to_hyperopt(space),
            algo=algo,
            max_evals=trials,
            trials=EventDrivenSparkTrials(spark, parallelism, assign, note),
            rstate=np.random.default_rng(seed),
            show_progressbar=False,
            return_argmin=False,
        )
    return MeteredSearch(tuple(ended), time.perf_counter() - started)
