"""Which engine trains: every trial in one worker's memory, or each trial over the whole cluster.

What belongs here: the rule, and reading its inputs from the cluster. What does not: the engines themselves (`search` in
memory, `distributed`).

Training in memory is much faster wherever the data fit: trials run in parallel and each worker bins its data once. The
rule therefore picks `distributed` only when the data do not fit.
"""

from __future__ import annotations

import os
import re
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import matrix_columns
from mlops_assets.training.search.slots import count_slots

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.engines.engines import SplitTables
    from mlops_assets.training.plan import SearchPlan

Engine = Literal["memory", "distributed"]
AskedEngine = Literal["auto", "memory", "distributed"]

_BYTES_PER_VALUE = 4
# A worker's peak memory while it trains, in multiples of the float32 matrix (the matrix, its bins by row and by column,
# some buffers), plus a fixed cost per row (gradients, predictions, positions). Measured with xgboost 3.2.0: a peak of
# 2.3 matrices at 29 and at 100 features and of 3.4 at 8; the rule gives 3.1, 2.7 and 4.5.
MEMORY_FACTOR = 2.5
_BYTES_PER_ROW = 64
# Arrow sends each value to the driver as a double.
_BYTES_PER_COLLECTED_VALUE = 8
# The batch of a row as text, and the offset of it.
_BYTES_PER_NAME = 72
_UNITS = {"": 2**20, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_GIB = 2**30


@dataclass(frozen=True)
class ClusterMemory:
    """The memory that a cluster offers.

    Attributes:
        worker_bytes: Memory of one Python worker: a task slot's share of its machine outside the JVM's heap, or
            Spark's own limit, whichever is smaller.
        result_bytes: Most bytes that the driver may collect at once (`spark.driver.maxResultSize`); None for no limit.
    """

    worker_bytes: int
    result_bytes: int | None = None


@dataclass(frozen=True)
class EngineChoice:
    """An engine and the reason for choosing it, as text for the run's metadata."""

    engine: Engine
    reason: str


@dataclass(frozen=True)
class _Host:
    """The load of the cluster's fullest machine: bytes of JVM heaps, and concurrent Python workers."""

    heaps: int
    workers: int


# Memory of a machine or container, and how many bytes Spark lets a Python process there grow by (None: no limit).
_Answer = tuple[int, int | None]


def choose_engine(
    rows: int, features: int, memory: ClusterMemory, asked: AskedEngine = "auto", *, only_in_memory: Sequence[str] = ()
) -> EngineChoice:
    """Choose where trials run.

    Args:
        rows: Training plus validation rows: a worker holds both.
        features: Number of features.
        memory: The memory that the cluster offers.
        asked: `auto` decides by size; any other value is used as given, with a warning in the reason if the data do
            not fit.
        only_in_memory: What the search uses that only the engine in memory can.

    Raises:
        SearchError: The number of rows, features or bytes is below 1, or the engine can't use what the search does.
    """
    choice = _choose(rows, features, memory, asked)
    if choice.engine == "distributed" and only_in_memory:
        raise SearchError(
            f"the engine distributed can't use {' or '.join(only_in_memory)} ({choice.reason})",
            where="choice of the engine",
            fix="take workers with more memory and the engine memory, or leave it out",
        )
    return choice


def _choose(rows: int, features: int, memory: ClusterMemory, asked: AskedEngine) -> EngineChoice:
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


def engine_for(tables: SplitTables, plan: SearchPlan, asked: AskedEngine) -> EngineChoice:
    """Choose where a search on the sets runs; arguments and errors as in `choose_engine`."""
    contract = tables.contract
    return choose_engine(
        tables.searched_rows(),
        len(contract.features),
        cluster_memory(tables.spark),
        asked,
        only_in_memory=[*plan.only_in_memory, *(f"the category {name}" for name in contract.categories)],
    )


def cluster_memory(spark: SparkSession) -> ClusterMemory:
    """Return the memory of this cluster's workers; on a cluster, one small job asks the executors."""
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


def collects(rows: int, contract: Contract, spark: SparkSession) -> bool:
    """Return whether the driver can collect a set with all its features, and hold what `to_matrix` makes of it.

    Args:
        rows: Rows of the set.
        contract: Names and roles of the columns.
        spark: The session; one that does not tell its limits, such as a serverless one, is asked for the rows.
    """
    from pyspark.errors import PySparkException  # noqa: PLC0415 - this module is loaded without Spark

    columns = len(matrix_columns(contract))
    sent = rows * (columns * _BYTES_PER_COLLECTED_VALUE + _BYTES_PER_NAME)
    held = 2 * sent + rows * len(contract.features) * _BYTES_PER_VALUE  # as sent, sorted, and as float32
    try:
        limit = result_limit(spark)
    except PySparkException:
        return True
    return (limit is None or sent <= limit) and held <= _machine_bytes() // 2


def _worker_bytes(answers: Iterable[_Answer], host: _Host) -> int:
    """Return the memory of the smallest worker."""
    rooms = []
    for machine, limit in answers:
        # Where the heaps are configured larger than the machine, assume that a tenth of it is left.
        share = max(machine - host.heaps, machine // 10) // host.workers
        rooms.append(share if limit is None else min(share, limit))
    return min(rooms)


def _executors_per_host(context: SparkContext) -> Counter[str]:
    java = context._jsc.sc()  # noqa: SLF001 - PySpark has no list of executors
    executors = Counter(str(info.host()) for info in java.statusTracker().getExecutorInfos())
    executors[str(context.getConf().get("spark.driver.host"))] -= 1  # the driver is in the list
    if executors.total() < 1:
        raise SearchError("there are no executors", where="Spark cluster", fix="start the cluster's workers, or wait")
    return executors


def _answer(tasks: Iterable[int]) -> Iterator[_Answer]:
    for _ in tasks:  # read to the end: Spark does not reuse a worker that leaves input unread
        pass
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]  # spark.executor.pyspark.memory, as PySpark's worker sets it
    if limit == resource.RLIM_INFINITY:
        yield _machine_bytes(), None
        return
    # A trial's imports take a quarter of a GiB of address space too; importing them here also saves the trial the time.
    import mlops_assets.training.search.trial  # noqa: F401, PLC0415 - imported only where there is a limit

    yield _machine_bytes(), max(1, limit - _address_space())


def _machine_bytes() -> int:
    """Return the memory of this machine, or of the container that this process runs in."""
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
    """Return the bytes of a size in Spark's notation, such as `512m`; a size without a unit is in MiB.

    Raises:
        SearchError: The text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+)\s*(b|[kmgt]?)(?:ib|b)?\s*", size.lower())
    if match is None:
        raise SearchError(f"{size!r} is not a size", where="Spark configuration", fix="write it like 512m or 4g")
    return int(match[1]) * _UNITS[match[2]]


def _gib(size: float) -> str:
    return f"{size / _GIB:.3g} GiB"
