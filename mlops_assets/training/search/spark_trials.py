"""hyperopt's SparkTrials with an event-driven dispatcher: a trial is a Spark task, the driver proposes with TPE.

What belongs here: keeping the cluster's slots busy and writing trial documents as hyperopt expects them. What does not:
the work of a trial (`trial`), the use of the results (`search`).

Differences from the stock dispatcher (hyperopt 0.3.0, `hyperopt/spark.py`):
- It sleeps a second between polls, and `fmin` polls once a second on top. Here a finished trial wakes the driver.
- Its task function never reads its input. PySpark's worker then finds unread data after the task and exits instead of
  being reused (`pyspark/worker.py`, "check end of stream"), so each trial pays for a new interpreter, all imports and
  all data preparation. Here the trial is the task's input, and reading it keeps the worker alive.
- After an interrupt or a timeout it waits for the cancelled trials. Here only the cancelling itself takes time.
- It runs a trial again if the worker process dies, usually three times, and then hides it from TPE. Here the trial
  fails once, and TPE knows: a point that kills its worker is a bad point.
- It can't continue from existing trials. Here `fmin` can.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hyperopt import SparkTrials
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_RUNNING, Domain
from hyperopt.spark import FMIN_CANCELLED_REASON_TIMEOUT
from hyperopt.utils import coarse_utcnow
from pyspark import TaskContext, inheritable_thread_target

from mlops_assets.training.search.proposals import Document, is_extra
from mlops_assets.training.search.trial import failure

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Task = Callable[[Any], dict[str, Any]]
_CANCEL_SECONDS = 10.0
_CANCEL_AGAIN_SECONDS = 0.5
_REASON = "most recent failure:"
DIED = "the worker process or the executor of this trial died; it is not run again"


class EventDrivenSparkTrials(SparkTrials):
    """Trials that run as Spark tasks and are dispatched as soon as a slot is free.

    Args:
        spark: The session whose executors run the trials.
        parallelism: Trials in flight.
        assign: Turns a trial's document into the task's input; called in `fmin`'s thread when the trial starts, so it
            can pass results of earlier trials to the task.
        use_idle_slots: Whether slots that are free while the last trials run try further points (`is_extra`). The
            search does not wait for them.
        on_finish: Called in `fmin`'s thread with each finished document, after the free slot was refilled; an error
            that it raises ends the search.
    """

    def __init__(
        self,
        spark: SparkSession,
        parallelism: int,
        assign: Callable[[Document], Any],
        on_finish: Callable[[Document], None],
        *,
        use_idle_slots: bool = False,
    ) -> None:
        super().__init__(parallelism=parallelism, spark_session=spark)
        self._assign, self._on_finish = assign, on_finish
        self._use_idle_slots = use_idle_slots

    def fmin(
        self,
        fn: Task,
        space: Any,
        algo: Callable[..., list[Document]],
        max_evals: int,
        *,
        rstate: Any,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Run the search; `hyperopt.fmin` calls this.

        Existing trials (`insert_trial_docs`) count, and the search continues as if it had proposed them: with one trial
        in flight it proposes the same points as an uninterrupted search.

        Args:
            fn: Evaluates what `assign` returned on an executor, and returns hyperopt's result document.
            space: hyperopt's search space.
            algo: Proposes points, such as `tpe.suggest`. It may return nothing, and is asked again when the next
                trial has ended; the search ends if none is running.
            max_evals: Most trials.
            rstate: NumPy generator behind the proposals, fresh from its seed.
            timeout: Seconds after which it stops proposing and cancels running trials; `fmin_cancelled_reason` is set
                then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.refresh()
        # Numbering continues after the largest number. Missing numbers below it were in flight when the earlier search
        # ended; each proposal took one draw, including theirs.
        proposed_before = max(self.tids, default=-1) + 1
        self._ids.update(range(proposed_before))
        for _number in range(proposed_before):
            _draw(rstate)
        open_trials = max_evals - len(self)
        domain = Domain(fn, space)
        slots = _Slots(self._spark, self.parallelism, fn)
        finished: Document | None = None
        proposing = True
        try:
            while True:
                proposing = True
                while proposing and self._wants_one(slots, open_trials) and not _is_past(deadline):
                    document = self._propose(domain, algo, rstate, extra=not open_trials)
                    proposing = document is not None
                    if document is not None:
                        slots.start(document, self._assign(document))
                        open_trials = max(0, open_trials - 1)
                if finished is not None:
                    self._on_finish(finished)
                if not slots.awaited:
                    break
                finished = slots.wait(deadline)
                if finished is None:
                    break
            if (proposing and open_trials > 0) or slots.awaited:
                self._fmin_cancelled, self._fmin_cancelled_reason = True, FMIN_CANCELLED_REASON_TIMEOUT
        finally:
            slots.close()
            self.refresh()

    def _wants_one(self, slots: _Slots, open_trials: int) -> bool:
        """Return whether a slot is free for a trial of the budget, or for one more beside the last of them."""
        if slots.running == self.parallelism:
            return False
        return open_trials > 0 or (self._use_idle_slots and slots.awaited > 0)

    def _propose(
        self, domain: Any, algo: Callable[..., list[Document]], rstate: Any, *, extra: bool
    ) -> Document | None:
        self.refresh()
        new_ids = self.new_trial_ids(1)
        documents = algo(new_ids, domain, self, _draw(rstate))
        if not documents:
            self._ids.difference_update(new_ids)
            return None
        if extra:
            documents[0]["misc"]["extra"] = True
        self.insert_trial_docs(documents)
        self.refresh()
        number = documents[0]["tid"]
        return next(document for document in self._dynamic_trials if document["tid"] == number)


def _draw(rstate: Any) -> int:
    """Return the seed of the next proposal, drawn as hyperopt's own `fmin` draws it."""
    return int(rstate.integers(2**31 - 1))


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


class _Slots:
    """Threads that each submit one Spark job at a time; all jobs share a group, so that they can be cancelled together.

    Only the caller's thread writes documents.
    """

    def __init__(self, spark: SparkSession, count: int, task: Task) -> None:
        self._context, self._task = spark.sparkContext, task
        self._group = f"search-{uuid.uuid4().hex[:8]}"
        self._waiting: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        self._in_flight: dict[int, Document] = {}
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(
                target=inheritable_thread_target(spark)(self._work), daemon=True, name=f"trial-slot-{number}"
            )
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        """Trials in flight."""
        return len(self._in_flight)

    @property
    def awaited(self) -> int:
        """Trials in flight that are not in addition to the budget."""
        return sum(not is_extra(document) for document in self._in_flight.values())

    def start(self, document: Document, assignment: Any) -> None:
        """Run a trial in a free slot."""
        document["state"] = JOB_STATE_RUNNING
        document["book_time"] = document["refresh_time"] = coarse_utcnow()
        self._in_flight[document["tid"]] = document
        self._waiting.put((document["tid"], assignment))

    def wait(self, deadline: float | None) -> Document | None:
        """Return the next trial that finishes, or None after the deadline."""
        try:
            tid, result = self._finished.get(
                timeout=None if deadline is None else max(0.0, deadline - time.monotonic())
            )
        except queue.Empty:
            return None
        document = self._in_flight.pop(tid)
        document["state"] = JOB_STATE_DONE
        document["result"] = result
        document["refresh_time"] = coarse_utcnow()
        return document

    def close(self) -> None:
        """Cancel the running trials and end the threads."""
        self._closing.set()
        for document in self._in_flight.values():
            document["state"] = JOB_STATE_CANCEL
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + _CANCEL_SECONDS
        while alive := [thread for thread in self._threads if thread.is_alive()]:
            if self._in_flight:  # repeatedly: a job submitted after the last call escaped it
                self._context.cancelJobGroup(self._group)
            alive[0].join(_CANCEL_AGAIN_SECONDS)
            if time.monotonic() > until:
                break

    def _work(self) -> None:
        self._context.setJobGroup(self._group, "trials of a hyperparameter search", interruptOnCancel=True)
        while (item := self._waiting.get()) is not None and not self._closing.is_set():
            tid, assignment = item
            try:
                result = self._context.parallelize([assignment], 1).mapPartitions(_evaluator(self._task)).collect()[0]
            except Exception as error:  # noqa: BLE001 - a lost executor or a cancelled job ends only this trial
                result = failure(_cause(error))
            self._finished.put((tid, result))


def _cause(error: Exception) -> str:
    """Return why Spark gave up on a task, with the reason first: py4j and Spark put it last."""
    text = f"{type(error).__name__}: {error}"
    reason = next((line for line in text.splitlines() if _REASON in line), text).rpartition(_REASON)[2].strip()
    return f"lost with its Spark task: {reason}\n{text}"


def _evaluator(task: Task) -> Callable[[Iterable[Any]], Iterable[dict[str, Any]]]:
    def evaluate(assignments: Iterable[Any]) -> Iterator[dict[str, Any]]:
        context = TaskContext.get()
        # A cluster retries a task whose process died. It can't be speculation: by default Spark does not speculate on
        # the only task of a stage (spark.speculation.task.duration.threshold).
        repeated = context is not None and context.attemptNumber() > 0
        for assignment in assignments:  # read to the end: Spark does not reuse a worker that leaves input unread
            yield {"status": "fail", "error": DIED} if repeated else task(assignment)

    return evaluate
