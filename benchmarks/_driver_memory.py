"""The memory of a Spark driver: its Python and its JVM, and nothing of the executors that a `local-cluster` has.

What belongs here: watching a driver from another process. What does not: what the driver does (`_scale_stages`).

A page that several processes share counts in parts (PSS). In a `local-cluster` the workers of Spark's standalone mode
run in the driver's JVM and count; executors are processes below it, and Python workers are below executors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psutil

_EXECUTOR: Final = "CoarseGrainedExecutorBackend"
_INTERVAL: Final = 0.1  # seconds
_LOOKS_PER_SEARCH: Final = 10


@dataclass
class Peak:
    """Highest memory so far, in bytes; the three were not reached at the same moment."""

    total: int = 0
    python: int = 0
    jvm: int = 0


class DriverMemory:
    """Watches a driver while a block runs.

    Args:
        process: The driver's Python.
    """

    def __init__(self, process: int) -> None:
        self.peak = Peak()
        self._driver = psutil.Process(process)
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watching.join()

    def _watch(self) -> None:
        looks, known = 0, [self._driver]
        while not self._over.wait(_INTERVAL):
            # Finding processes costs more than asking those that are known.
            if looks % _LOOKS_PER_SEARCH == 0:
                known = driver_processes(self._driver)
            looks += 1
            python, jvm = memory_of(known)
            self.peak.total = max(self.peak.total, python + jvm)
            self.peak.python = max(self.peak.python, python)
            self.peak.jvm = max(self.peak.jvm, jvm)


def driver_processes(driver: psutil.Process) -> list[psutil.Process]:
    """Return a driver and the processes below it, without executors and what is below them."""
    found, elsewhere = [], set()
    try:
        for process in (driver, *driver.children(recursive=True)):  # parents come before their children
            if process.ppid() in elsewhere or any(_EXECUTOR in word for word in process.cmdline()):
                elsewhere.add(process.pid)
            else:
                found.append(process)
    except psutil.NoSuchProcess:  # the next look will not have it
        pass
    return found


def memory_of(processes: Iterable[psutil.Process]) -> tuple[int, int]:
    """Return the bytes that Python, and everything else that is no JVM, holds now, and those of the JVM."""
    python = jvm = 0
    for process in processes:
        try:
            held = process.memory_full_info().pss
            if process.name() == "java":
                jvm += held
            else:
                python += held
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended since
            continue
    return python, jvm
