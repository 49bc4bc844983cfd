"""The memory that a cluster offers, as Spark's configuration and its machines say.

What belongs here: reading it. What does not: what it must suffice for (`choice`).
"""

from __future__ import annotations

import os
import re
import resource
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mlops_assets.errors import SearchError
from mlops_assets.training.search.slots import count_slots

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

_UNITS = {"": 2**20, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class ClusterMemory:
    """The memory that a cluster offers.

    Attributes:
        worker_bytes: Memory of one Python worker: a task slot's share of its machine outside the JVM's heap, or
            Spark's own limit, whichever is smaller.
        result_bytes: Most bytes that the driver may collect at once (`spark.driver.maxResultSize`); None for no limit.
        driver_bytes: Memory of the driver's Python process: its machine without the JVM's heap; None if not known.
    """

    worker_bytes: int
    result_bytes: int | None = None
    driver_bytes: int | None = None


@dataclass(frozen=True)
class _Host:
    """The load of the cluster's fullest machine: bytes of JVM heaps, and concurrent Python workers."""

    heaps: int
    workers: int


# Memory of a machine or container, and how many bytes Spark lets a Python process there grow by (None: no limit).
_Answer = tuple[int, int | None]


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
    return ClusterMemory(_worker_bytes(answers, host), result_limit(spark), driver_bytes(spark))


def driver_bytes(spark: SparkSession) -> int:
    """Return the memory of the driver's machine beside its JVM's heap, at least a tenth of it."""
    machine = _machine_bytes()
    heap = bytes_of(spark.sparkContext.getConf().get("spark.driver.memory") or "1g")
    return max(machine - heap, machine // 10)


def result_limit(spark: SparkSession) -> int | None:
    """Return how many bytes the driver may collect at once, or None for no limit."""
    return bytes_of(spark.sparkContext.getConf().get("spark.driver.maxResultSize") or "1g") or None


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
