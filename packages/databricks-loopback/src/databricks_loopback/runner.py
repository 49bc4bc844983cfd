"""The threads of tasks.

What belongs here: starting them and waiting for them. What does not: what a task does (`attempt`).
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable

from databricks_loopback.attempt import Attempt, Platform
from databricks_loopback.runs import Run, TaskRun


class Runner:
    """Runs tasks, each in a thread that watches its process.

    Args:
        platform: The services that tasks use.
        bugs: Receives the traceback of a thread that died of a bug in the emulator.
    """

    def __init__(self, platform: Platform, bugs: list[str]) -> None:
        self._platform, self._bugs = platform, bugs
        self._threads: list[threading.Thread] = []

    def submit(self, run: Run) -> None:
        """Start a run's tasks, each as soon as its upstream tasks have succeeded."""
        for task in run.tasks:
            thread = threading.Thread(target=self._live, args=(run, task), name=f"task-{task.id}")
            self._threads.append(thread)
            thread.start()

    def stop(self, runs: Iterable[Run]) -> None:
        """Cancel active tasks and wait until every process is gone."""
        for run in runs:
            for task in run.tasks:
                task.cancel.set()
        for thread in self._threads:
            thread.join()

    def _live(self, run: Run, task: TaskRun) -> None:
        try:
            Attempt(self._platform, run, task).live()
        except Exception:  # noqa: BLE001 - a bug in the emulator must reach the test, which runs in another thread
            self._bugs.append(f"task {task.key}\n{traceback.format_exc()}")
