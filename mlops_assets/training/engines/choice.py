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

import psutil

from mlops_assets.errors import SearchError
from mlops_assets.training.search.slots import count_slots

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

Engine = Literal["memory", "distributed"]
AskedEngine = Literal["auto", "memory", "distributed"]

_BYTES_PER_VALUE = 4
# A worker's peak while it trains, in multiples of the float32 matrix (itself, its bins by row and by column, some
# buffers), and what comes on top for each row (gradients, predictions, positions). Measured with xgboost 3.2.0: a peak
# of 2.3 matrices at 29 and at 100 features and of 3.4 at 8; the rule gives 3.1, 2.7 and 4.5.
MEMORY_FACTOR = 2.5
_BYTES_PER_ROW = 64
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


@dataclass(frozen=True)
class _Host:
    """What runs on the cluster's fullest machine: bytes of heaps, and Python workers at once."""

    heaps: int
    workers: int


# Memory of a machine or container, and what Spark lets a Python process there grow by (None: no limit).
_Answer = tuple[int, int | None]


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
            fix="load data, or name the engine by hand",
        )
    needed = int(rows * (features * _BYTES_PER_VALUE * MEMORY_FACTOR + _BYTES_PER_ROW))
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
    slots = count_slots(context, int(conf.get("spark.task.cpus") or 1))
    if str(context.master).partition("[")[0] == "local":  # executor and driver are one JVM, on this machine
        host = _Host(bytes_of(conf.get("spark.driver.memory") or "1g"), slots)
        answers: list[_Answer] = [(_machine_bytes(), None)]
    else:
        executors = _executors_per_host(context)
        here = max(executors.values())
        heap = bytes_of(conf.get("spark.executor.memory") or "1g")
        host = _Host(here * heap, max(1, here * slots // sum(executors.values())))
        # Twice the slots, so that each executor is likely to answer.
        answers = context.parallelize(range(2 * slots), 2 * slots).mapPartitions(_answer).collect()
    return ClusterMemory(_worker_bytes(answers, host), result_limit(spark))


def result_limit(spark: SparkSession) -> int | None:
    """Return how many bytes the driver may collect at once, or None for no limit."""
    return bytes_of(spark.sparkContext.getConf().get("spark.driver.maxResultSize") or "1g") or None


def _worker_bytes(answers: Iterable[_Answer], host: _Host) -> int:
    """Return the room of the worker that has the least."""
    rooms = []
    for machine, limit in answers:
        # Where heaps were promised more than there is, a tenth is what one may hope for.
        share = max(machine - host.heaps, machine // 10) // host.workers
        rooms.append(share if limit is None else min(share, limit))
    return min(rooms)


def _executors_per_host(context: SparkContext) -> Counter[str]:
    java = context._jsc.sc()  # noqa: SLF001 - PySpark has no list of executors
    found = Counter(str(info.host()) for info in java.statusTracker().getExecutorInfos())
    found[str(context.getConf().get("spark.driver.host"))] -= 1  # the driver is in the list
    if found.total() < 1:
        raise SearchError("no executor is there", where="Spark cluster", fix="start the cluster's workers, or wait")
    return found


def _answer(tasks: Iterable[int]) -> Iterator[_Answer]:
    for _ in tasks:  # to the end: a worker that leaves input unread is not used again
        pass
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]  # spark.executor.pyspark.memory, as PySpark's worker sets it
    if limit == resource.RLIM_INFINITY:
        yield _machine_bytes(), None
        return
    # What a trial imports takes address space too, a quarter of a GiB; and the trial finds it imported.
    import mlops_assets.training.search.trial  # noqa: F401, PLC0415 - here only where it is asked for

    yield _machine_bytes(), max(1, limit - _address_space())


def _machine_bytes() -> int:
    """Return the memory of this machine, or of the container that this process is in."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:  # the other version of control groups, or none
            continue
        if text.isdecimal():
            sizes.append(int(text))
    return min(sizes)


def _address_space() -> int:
    used: int = psutil.Process().memory_info().vms
    return used


def bytes_of(size: str) -> int:
    """Return a size as Spark's settings have it, such as `512m`; without a unit it is in MiB.

    Raises:
        SearchError: It is not a size.
    """
    found = re.fullmatch(r"\s*(\d+)\s*(b|[kmgt]?)(?:ib|b)?\s*", size.lower())
    if found is None:
        raise SearchError(f"{size!r} is no size", where="Spark configuration", fix="write it like 512m or 4g")
    return int(found[1]) * _UNITS[found[2]]


def _gib(size: float) -> str:
    return f"{size / _GIB:.3g} GiB"
