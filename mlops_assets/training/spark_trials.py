"""hyperopt's SparkTrials with an event-driven dispatcher: a trial is a Spark task, the driver proposes by TPE.

What belongs here: keeping the cluster's slots busy and writing trial documents as hyperopt wants them. What does not:
what a trial computes (`trial`), what is made of the results (`search`).

Three things of the stock dispatcher (hyperopt 0.3.0, `hyperopt/spark.py`) cost more than small trials do, and are
different here:
- It sleeps a second between looks, and `fmin` polls once a second on top. Here finished trials wake the driver.
- Its task function never reads its input, so PySpark's worker finds unread data behind the task, gives up on being
  reused and exits (`pyspark/worker.py`, "check end of stream"): each trial pays for a new interpreter, all imports and
  all data preparation. Here the point is the task's input, and reading it keeps the worker.
- On an interrupt it waits for the running trials to end. Here they are cancelled.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hyperopt import SparkTrials
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_RUNNING, Domain
from hyperopt.utils import coarse_utcnow
from pyspark import inheritable_thread_target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.space import Point

Task = Callable[["Point"], dict[str, Any]]
Document = dict[str, Any]
_CANCEL_SECONDS = 10.0


class EventDrivenSparkTrials(SparkTrials):
    """Trials that run as Spark tasks and are dispatched the moment a slot is free.

    Args:
        spark: The session whose executors run the trials.
        parallelism: Trials in flight.
        decode: Turns hyperopt's raw values of a trial into the point that the task receives.
        on_finish: Called in `fmin`'s thread with each finished document, after the free slot was filled again; what
            it raises ends the search.
    """

    def __init__(
        self,
        spark: SparkSession,
        parallelism: int,
        decode: Callable[[dict[str, Any]], Point],
        on_finish: Callable[[Document], None],
    ) -> None:
        super().__init__(parallelism=parallelism, spark_session=spark)
        self._decode, self._on_finish = decode, on_finish

    def fmin(
        self, fn: Task, space: Any, algo: Callable[..., list[Document]], max_evals: int, *, rstate: Any, **_: Any
    ) -> None:
        """Run the search; `hyperopt.fmin` calls this.

        Args:
            fn: Evaluates a point on an executor and returns hyperopt's result document.
            space: hyperopt's search space.
            algo: Proposes points, such as `tpe.suggest`.
            max_evals: Number of trials.
            rstate: NumPy generator behind the proposals.
        """
        domain = Domain(fn, space)
        slots = _Slots(self._spark, self.parallelism, fn)
        proposed = 0
        finished: Document | None = None
        try:
            while True:
                while proposed < max_evals and slots.running < self.parallelism:
                    document = self._propose(domain, algo, rstate)
                    slots.start(document, self._decode(_raw_values(document)))
                    proposed += 1
                if finished is not None:
                    self._on_finish(finished)
                if not slots.running:
                    break
                finished = slots.wait()
                self.refresh()
        finally:
            slots.close()

    def _propose(self, domain: Any, algo: Callable[..., list[Document]], rstate: Any) -> Document:
        self.refresh()
        documents = algo(self.new_trial_ids(1), domain, self, int(rstate.integers(2**31 - 1)))
        self.insert_trial_docs(documents)
        self.refresh()
        number = documents[0]["tid"]
        return next(document for document in self._dynamic_trials if document["tid"] == number)


def _raw_values(document: Document) -> dict[str, Any]:
    return {name: found[0] for name, found in document["misc"]["vals"].items() if found}


class _Slots:
    """Threads that each submit one Spark job at a time; all jobs are one group, so that they end together."""

    def __init__(self, spark: SparkSession, count: int, task: Task) -> None:
        self.running = 0
        self._context, self._task = spark.sparkContext, task
        self._group = f"search-{uuid.uuid4().hex[:8]}"
        self._waiting: queue.SimpleQueue[tuple[Document, Point] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Document] = queue.SimpleQueue()
        self._in_flight: dict[int, Document] = {}
        self._threads = [
            threading.Thread(
                target=inheritable_thread_target(spark)(self._work), daemon=True, name=f"trial-slot-{number}"
            )
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, document: Document, point: Point) -> None:
        """Run a trial in a free slot."""
        document["state"] = JOB_STATE_RUNNING
        document["book_time"] = document["refresh_time"] = coarse_utcnow()
        self._in_flight[document["tid"]] = document
        self.running += 1
        self._waiting.put((document, point))

    def wait(self) -> Document:
        """Return the next trial that finishes."""
        document = self._finished.get()
        self.running -= 1
        del self._in_flight[document["tid"]]
        return document

    def close(self) -> None:
        """Cancel what still runs and end the threads."""
        for document in self._in_flight.values():
            document["state"] = JOB_STATE_CANCEL
        if self._in_flight:
            self._context.cancelJobGroup(self._group)
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + _CANCEL_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        self._context.setJobGroup(self._group, "trials of a hyperparameter search", interruptOnCancel=True)
        while (item := self._waiting.get()) is not None:
            document, point = item
            try:
                result = self._context.parallelize([point], 1).mapPartitions(_evaluator(self._task)).collect()[0]
            except Exception as error:  # noqa: BLE001 - a lost executor or a cancelled job is this trial's end only
                document["state"] = JOB_STATE_ERROR
                document["misc"]["error"] = (type(error).__name__, str(error))
            else:
                document["state"] = JOB_STATE_DONE
                document["result"] = result
            document["refresh_time"] = coarse_utcnow()
            self._finished.put(document)


def _evaluator(task: Task) -> Callable[[Iterable[Point]], Iterable[dict[str, Any]]]:
    def evaluate(points: Iterable[Point]) -> Iterator[dict[str, Any]]:
        for point in points:  # to the end: an input that is not read through costs the worker its reuse
            yield task(point)

    return evaluate
