"""The search: hyperopt's TPE proposes points, SparkTrials tries each as a Spark task.

What belongs here: running one search and recording its trials. What does not: what a trial does (`trial`), the space
(`space`), where results are kept (`runs`), Dagster.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import JOB_STATE_DONE, JOB_STATE_ERROR, SparkTrials, fmin, tpe

from mlops_assets.errors import SearchError
from mlops_assets.training.proposals import decode, to_hyperopt
from mlops_assets.training.trial import TrialTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.space import Point

# With as many trials in flight as there are trials, TPE has nothing to learn from and is random search.
_TRIALS_PER_SLOT = 4
_LARGEST_RANDOM_START = 20


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: Its number, in the order of proposal.
        point: What was tried.
        value: The objective on the validation rows; None when the trial failed.
        seconds: Time in the worker.
        error: Why it failed, empty otherwise.
    """

    number: int
    point: Point
    value: float | None
    loss: float | None
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class SearchResult:
    """A finished search: all trials in the order in which they finished, and the best of them."""

    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    parallelism: int
    seconds: float


def run_search(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    plan: SearchPlan,
    on_trial: Callable[[TrialRecord], None],
) -> SearchResult:
    """Search for the best point.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to judge on; the test rows are never seen here.
        plan: What to search.
        on_trial: Called once per finished trial while the search goes on; what it raises ends the search.

    Raises:
        SearchError: No trial succeeded.
    """
    if validation.frauds in (0, validation.rows):
        raise SearchError(
            f"{validation.frauds} frauds in {validation.rows} rows", where="validation set", mend="load a longer period"
        )
    for name in ("hyperopt-spark", "hyperopt.tpe", "hyperopt.fmin"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a line per poll; `on_trial` reports instead
    started = time.perf_counter()
    broadcast = spark.sparkContext.broadcast((train, validation))
    task = TrialTask(uuid.uuid4().hex, broadcast, plan.objective, plan.seed, plan.threads)
    parallelism = _parallelism(spark, plan)
    trials = SparkTrials(parallelism=parallelism, spark_session=spark)
    listener = _Listener(trials, plan, on_trial)
    startup = max(1, min(_LARGEST_RANDOM_START, plan.trials // 4))
    try:
        fmin(
            task,
            to_hyperopt(plan.space),
            algo=partial(tpe.suggest, n_startup_jobs=startup),
            max_evals=plan.trials,
            trials=trials,
            rstate=np.random.default_rng(plan.seed),
            early_stop_fn=listener.look,
            return_argmin=False,
            show_progressbar=False,
            verbose=False,
        )
    finally:
        broadcast.unpersist()
    listener.report_finished()
    listener.raise_failure()
    return SearchResult(
        tuple(listener.records), _best(listener.records), parallelism, seconds=time.perf_counter() - started
    )


def _parallelism(spark: SparkSession, plan: SearchPlan) -> int:
    slots = spark.sparkContext.defaultParallelism
    return plan.parallelism or max(1, min(slots, plan.trials // _TRIALS_PER_SLOT))


def _best(records: list[TrialRecord]) -> TrialRecord:
    good = [record for record in records if record.loss is not None]
    if not good:
        first = records[0].error.strip().splitlines()[0] if records else "none was started"
        raise SearchError(
            f"none of {len(records)} trials succeeded; the first one: {first}",
            where="search",
            mend="read the failed child runs in MLflow; a range of the space or the data is not usable",
        )
    return min(good, key=lambda record: (record.loss, record.number))


class _Listener:
    """Turns hyperopt's trial documents into records as they finish."""

    def __init__(self, trials: Any, plan: SearchPlan, on_trial: Callable[[TrialRecord], None]) -> None:
        self.records: list[TrialRecord] = []
        self._trials, self._plan, self._on_trial = trials, plan, on_trial
        self._seen: set[int] = set()
        self._failure: BaseException | None = None

    def look(self, _trials: Any, *_state: Any) -> tuple[bool, list[Any]]:
        """Report what finished; called by the dispatcher thread, which must not die of what the callback raises."""
        try:
            self.report_finished()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread by `raise_failure`
            self._failure = error
        return self._failure is not None, []

    def report_finished(self) -> None:
        """Report the trials that finished since the last look."""
        for document in list(self._trials._dynamic_trials):  # noqa: SLF001 - `trials` is refreshed too late
            if document["tid"] not in self._seen and document["state"] in (JOB_STATE_DONE, JOB_STATE_ERROR):
                self._seen.add(document["tid"])
                record = self._record(document)
                self.records.append(record)
                self._on_trial(record)

    def raise_failure(self) -> None:
        """Raise what the callback raised."""
        if self._failure is not None:
            raise self._failure

    def _record(self, document: dict[str, Any]) -> TrialRecord:
        values = {name: found[0] for name, found in document["misc"]["vals"].items() if found}
        result = document["result"]
        lost = str(document["misc"].get("error", "")) if "loss" not in result else ""
        return TrialRecord(
            number=document["tid"],
            point=decode(self._plan.space, values),
            value=result.get("value"),
            loss=result.get("loss"),
            seconds=float(result.get("seconds", 0.0)),
            error=result.get("error", lost),
        )
