"""Which engine trains: every trial in one worker's memory, or each trial over the whole cluster.

What belongs here: the rule, and reading off the cluster what the rule needs. What does not: the engines themselves
(`search` in memory, `distributed`).

In memory is the faster one by far wherever the data fit: trials run side by side and each worker bins its data once.
So the rule takes `distributed` only when the data do not fit.
"""

from __future__ import annotations

import os
import re
import resource
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops_assets.errors import SearchError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Engine = Literal["memory", "distributed"]
AskedEngine = Literal["auto", "memory", "distributed"]

_BYTES_PER_VALUE = 4
# A worker's peak while it trains, in multiples of the float32 matrix: the matrix itself, XGBoost's bins of it twice
# (by row and by column), gradients and predictions. Measured with xgboost 3.2.0: 2.3 at 29 features; the rest is room
# for what grows with the rows alone, and for the interpreter.
MEMORY_FACTOR = 3.0
# Arrow sends the driver each value as a double.
_BYTES_PER_COLLECTED_VALUE = 8
_UNITS = {"": 2**20, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_GIB = 2**30


@dataclass(frozen=True)
class ClusterMemory:
    """What there is room for.

    Attributes:
        worker_bytes: Memory of one Python worker: a task slot's share of its machine beside the JVM's heap, or Spark's
            own limit on it, whichever is less.
        result_bytes: What the driver may collect at once (`spark.driver.maxResultSize`); None when it is not limited.
    """

    worker_bytes: int
    result_bytes: int | None = None


@dataclass(frozen=True)
class EngineChoice:
    """An engine and why it was taken, in words for the run's metadata."""

    engine: Engine
    reason: str


def choose_engine(rows: int, features: int, memory: ClusterMemory, asked: AskedEngine = "auto") -> EngineChoice:
    """Choose where trials run.

    Args:
        rows: Training and validation rows together: a worker holds both.
        features: Number of features.
        memory: What there is room for.
        asked: `auto` decides by size; anything else is taken as it is, with a warning in the reason if it does not fit.

    Raises:
        SearchError: There is no row, no feature or no memory to decide on.
    """
    if rows < 1 or features < 1 or memory.worker_bytes < 1:
        raise SearchError(
            f"{rows} rows of {features} features, {memory.worker_bytes} bytes a worker",
            where="choice of the engine",
            mend="load data, or name the engine by hand",
        )
    needed = int(rows * features * _BYTES_PER_VALUE * MEMORY_FACTOR)
    collected = rows * features * _BYTES_PER_COLLECTED_VALUE
    size = f"{rows:,} rows x {features} features need about {_gib(needed)} of a worker's {_gib(memory.worker_bytes)}"
    obstacle = ""
    if needed > memory.worker_bytes:
        obstacle = f"{size}: too much"
    elif memory.result_bytes is not None and collected > memory.result_bytes:
        obstacle = (
            f"{rows:,} rows x {features} features are {_gib(collected)} to collect, and spark.driver.maxResultSize is "
            f"{_gib(memory.result_bytes)}"
        )
    if asked == "auto":
        return EngineChoice("distributed", obstacle) if obstacle else EngineChoice("memory", f"{size}: they fit")
    warning = f"; but {obstacle}" if obstacle and asked == "memory" else ""
    return EngineChoice(asked, f"asked for by hand{warning}")


def cluster_memory(spark: SparkSession) -> ClusterMemory:
    """Return what this cluster's workers have room for; on a cluster, one small job asks the executors."""
    context = spark.sparkContext
    conf = context.getConf()
    limit = _bytes(conf.get("spark.driver.maxResultSize", "1g") or "1g")
    if context.master.startswith("local") and not context.master.startswith("local-cluster"):
        heap = _bytes(conf.get("spark.driver.memory", "1g") or "1g")
        workers = {"": max(1, context.defaultParallelism // _task_cpus(spark))}
        answers = list(_tell_memory([0], tell_limit=False))
        answers = [("", total, free) for _, total, free in answers]
    else:
        heap = _bytes(conf.get("spark.executor.memory", "1g") or "1g")
        workers, heaps = _workers_by_host(spark)
        slots = max(1, sum(workers.values()))
        answers = context.parallelize(range(2 * slots), 2 * slots).mapPartitions(_tell_memory).collect()
        return ClusterMemory(_share(answers, workers, {host: n * heap for host, n in heaps.items()}), limit or None)
    return ClusterMemory(_share(answers, workers, {"": heap}), limit or None)
