"""Measures, in the worker, what a trial costs; kept small because each Python worker imports it.

What belongs here: tasks that wrap the platform's task and meter it. What does not: anything that runs on the driver.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.training.objective import quantized
from mlops_assets.training.search.trial import TrialTask

if TYPE_CHECKING:
    from mlops_assets.training.search.shared_data import SharedData
    from mlops_assets.training.search.trial import Assignment

# Resident size of this worker process before its first trial, by process id: a fork must not inherit its parent's.
_base_bytes: dict[int, int] = {}


@dataclass(frozen=True)
class Metered:
    """A task that also reports what its worker spent on it."""

    task: TrialTask

    def __call__(self, assignment: Assignment) -> dict[str, Any]:
        """Run the task and add the meters to its result."""
        worker = os.getpid()
        base = _base_bytes.setdefault(worker, _resident_bytes())
        before = time.process_time()
        result = self.task(assignment)
        return {
            **result,
            "cpu_seconds": time.process_time() - before,
            "worker": worker,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "base_bytes": base,
        }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


@dataclass(frozen=True)
class Probe:
    """A task that prepares a search's data as a worker does before its first trial, and reports how long that takes.

    Attributes:
        data: Training and validation rows.
    """

    data: SharedData

    def __call__(self, _: int) -> float:
        """Return the seconds spent on binning; the caller measures starting the worker and fetching the data."""
        train, validation = self.data.load()
        started = time.perf_counter()
        quantized(validation, threads=1, ref=quantized(train, threads=1))
        return time.perf_counter() - started
