"""Writing finished trials to MLflow beside the search, which never waits for it.

What belongs here: the queue, its threads, and a trial's form as a child run. What does not: the parent run (`store`),
the record that a resumed search reads (`resume`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from mlflow.entities import Metric, Param, RunTag

from mlops_assets.lineage import (
    ERROR_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    RESUMED_FROM_TAG,
    RUN_NAME_TAG,
    SEARCH_KEY_TAG,
    STAGE_TAG,
    STATE_TAG,
)
from mlops_assets.tracking.runs import cut, now
from mlops_assets.tracking.store import TRIAL, this_process
from mlops_assets.tracking.throttling import patiently
from mlops_assets.training.search.resume import record_tags

if TYPE_CHECKING:
    from mlops_assets.tracking.runs import ParentRun
    from mlops_assets.training.records import TrialRecord

logger = logging.getLogger(__name__)

# FINISHED is kept for trials whose value counts, so that MLflow's own filter tells them apart.
STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
# While one request waits as the server has asked it to, others go on. An embedded store writes one at a time anyway.
_THREADS_TO_A_SERVER = 8
# What is left to write after an error, and after an interrupt, which must not keep a person or a scheduler waiting.
_SECONDS_AFTER_ERROR, _SECONDS_AFTER_INTERRUPT = 60.0, 5.0
# MLflow takes 1,000 metrics in a request; few more points can be told apart in a picture.
_CURVE_POINTS = 500


class TrialWriter:
    """Writes trials as children of a run, in threads of its own, for the length of a block.

    The block's end waits until all is written; after an error or an interrupt in the block for a bounded time only,
    and what is not written by then is lost with a word in the log. What MLflow refuses is raised by the next `write`,
    or at the block's end.

    Args:
        run: The search's run.
        objective: What the values are.
        search_key: Key of the search, for those that go on with it.
    """

    def __init__(self, run: ParentRun, objective: str, search_key: str) -> None:
        self._run, self._objective, self._search_key = run, objective, search_key
        self._waiting: queue.SimpleQueue[tuple[TrialRecord, int] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._failures: list[Exception] = []
        self._lock = threading.Lock()
        self._unwritten = 0
        count = _THREADS_TO_A_SERVER if urlsplit(run.store.uri).scheme in ("http", "https", "databricks") else 1
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"trial-writer-{number}") for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def write(self, record: TrialRecord) -> None:
        """Take a trial that has just ended; returns at once.

        Raises:
            TrackingError: An earlier trial could not be written.
        """
        self._raise_failure()
        with self._lock:
            self._unwritten += 1
        self._waiting.put((record, now()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        try:
            if error is None:
                self._join(None)
            elif isinstance(error, Exception) and not self._failures:
                self._join(_SECONDS_AFTER_ERROR)
            else:  # nobody waits for an interrupt, and a store that has failed once will hardly take the rest
                self._join(_SECONDS_AFTER_INTERRUPT)
        finally:  # an interrupt may come while this waits
            self._stop.set()
            if self._unwritten:
                logger.warning("%d finished trials were not written to MLflow", self._unwritten)
        if error is None:
            self._raise_failure()

    def _join(self, seconds: float | None) -> None:
        until = time.monotonic() + (seconds or 0)
        for thread in self._threads:
            thread.join(None if seconds is None else max(0.0, until - time.monotonic()))

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stop.is_set():
            try:
                with self._run.store.answering():
                    self._write(*item)
            except Exception as error:  # noqa: BLE001 - raised by the next `write`, in the search's own thread
                self._failures.append(error)
                self._stop.set()
            else:
                with self._lock:
                    self._unwritten -= 1

    def _write(self, record: TrialRecord, ended: int) -> None:
        """Write one trial in three requests; the record comes with the second, so that it is whole or not there."""
        client = self._run.store.client
        child = self._request(
            client.create_run,
            self._run.store.experiment_id,
            start_time=ended if record.resumed_from else ended - int(record.seconds * 1000),
            tags=cut(
                {
                    PARENT_TAG: self._run.run_id,
                    RUN_NAME_TAG: f"trial {record.number:03d}",
                    STAGE_TAG: TRIAL,
                    PROCESS_TAG: this_process(),
                    **({ERROR_TAG: record.error} if record.error else {}),
                    **({RESUMED_FROM_TAG: record.resumed_from} if record.resumed_from else {}),
                }
            ),
        )
        kept = {SEARCH_KEY_TAG: self._search_key, STATE_TAG: record.state, **record_tags(record, self._search_key)}
        self._request(
            client.log_batch,
            child.info.run_id,
            metrics=_metrics(record, self._objective, ended),
            params=[Param(name, str(value)) for name, value in record.point.items()],
            tags=[RunTag(name, value) for name, value in kept.items()],
        )
        self._request(client.set_terminated, child.info.run_id, STATUS[record.state], end_time=ended)

    def _request(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return patiently(lambda: method(*arguments, **named), stop=self._stop)


def _metrics(record: TrialRecord, objective: str, ended: int) -> list[Metric]:
    """Return the value, the time, and the curve with trees as its steps."""
    metrics = [Metric("trial_seconds", record.seconds, ended, 0)]
    if record.value is not None:
        metrics.append(Metric(f"validation_{objective}", record.value, ended, 0))
    if record.rounds:
        metrics.append(Metric("rounds", record.rounds, ended, 0))
    every = 1 + len(record.curve) // _CURVE_POINTS
    last = len(record.curve) - 1
    metrics += [
        Metric(f"validation_{objective}_by_trees", value, ended, trees)
        for number, (trees, value) in enumerate(record.curve)
        if number % every == 0 or number == last
    ]
    return metrics
