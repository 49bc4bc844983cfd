"""Writing finished trials to MLflow in the background, so that the search never waits for MLflow.

What belongs here: the queue, its threads, and the content of a trial's child run. What does not: the parent run
(`store`), the record that a resumed search reads (`resume`).
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
from mlops_assets.processes import this_process
from mlops_assets.tracking.runs import cut, now
from mlops_assets.tracking.store import TRIAL
from mlops_assets.tracking.throttling import patiently
from mlops_assets.training.search.resume import record_tags

if TYPE_CHECKING:
    from mlops_assets.tracking.runs import ParentRun
    from mlops_assets.training.records import TrialRecord

logger = logging.getLogger(__name__)

# Only trials whose value counts are FINISHED, so that MLflow's own filter can select them.
STATUS = {"finished": "FINISHED", "screened": "KILLED", "pruned": "KILLED", "failed": "FAILED"}
# While the server makes one request wait, other requests continue. An embedded store writes one at a time anyway.
_THREADS_TO_A_SERVER = 8
# How long to keep writing after an error, and after an interrupt, when a person or a scheduler is waiting.
_SECONDS_AFTER_ERROR, _SECONDS_AFTER_INTERRUPT = 60.0, 5.0
# MLflow allows 1,000 metrics in a request; a plot does not need more points than this.
_CURVE_POINTS = 500


class TrialWriter:
    """Writes trials as child runs, in its own threads, for the length of a block.

    The end of the block waits until all trials are written. After an error or an interrupt in the block it waits only a
    limited time; trials that are not written by then are lost, with a warning. If MLflow rejects a request, the next
    `write` or the end of the block raises the error.

    Args:
        run: The search's run.
        objective: The metric of the values.
        search_key: Key of the search, by which a later search resumes it.
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
        """Queue a trial that has just ended; returns immediately.

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
            else:  # an interrupt must end soon, and a store that failed once will hardly accept the rest
                self._join(_SECONDS_AFTER_INTERRUPT)
        finally:  # an interrupt may arrive while this waits
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
            except Exception as error:  # noqa: BLE001 - the next `write` raises it in the search's own thread
                self._failures.append(error)
                self._stop.set()
            else:
                with self._lock:
                    self._unwritten -= 1

    def _write(self, record: TrialRecord, ended: int) -> None:
        """Write one trial in three requests; the second one carries the whole record, so it is complete or absent."""
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
    """Return the value, the time, and the curve with the number of trees as step.

    Values on a sample of the training rows have a name of their own, so that nobody sorts them among the others.
    """
    metrics = [Metric("trial_seconds", record.seconds, ended, 0)]
    judged = f"validation_{objective}"
    if record.share < 1:
        judged = f"screening_{objective}"
        metrics.append(Metric("share_of_genuine_rows", record.share, ended, 0))
    if record.value is not None:
        metrics.append(Metric(judged, record.value, ended, 0))
    if record.rounds:
        metrics.append(Metric("rounds", record.rounds, ended, 0))
    every = 1 + len(record.curve) // _CURVE_POINTS
    last = len(record.curve) - 1
    metrics += [
        Metric(f"{judged}_by_trees", value, ended, trees)
        for number, (trees, value) in enumerate(record.curve)
        if number % every == 0 or number == last
    ]
    return metrics
