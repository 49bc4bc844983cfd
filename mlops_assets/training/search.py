"""The search: hyperopt's TPE proposes points, SparkTrials tries each as a Spark task.

What belongs here: running one search and recording its trials. What does not: what a trial does (`trial`), the space
(`space`), where results are kept (`runs`), Dagster.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import fmin, tpe

from mlops_assets.errors import SearchError
from mlops_assets.training.proposals import decode, to_hyperopt
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.trial import TrialTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan

# With as many trials in flight as there are trials, TPE has nothing to learn from and is random search.
_TRIALS_PER_SLOT = 4
_LARGEST_RANDOM_START = 20


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
    started = time.perf_counter()
    parallelism = _parallelism(spark, plan)
    records: list[TrialRecord] = []

    def report(document: dict[str, Any]) -> None:
        records.append(_record(document, plan))
        on_trial(records[-1])

    trials = EventDrivenSparkTrials(spark, parallelism, partial(decode, plan.space), report)
    broadcast = spark.sparkContext.broadcast((train, validation))
    try:
        fmin(
            TrialTask(uuid.uuid4().hex, broadcast, plan.objective, plan.seed, plan.threads or 1),
            to_hyperopt(plan.space),
            algo=partial(tpe.suggest, n_startup_jobs=max(1, min(_LARGEST_RANDOM_START, plan.trials // 4))),
            max_evals=plan.trials,
            trials=trials,
            rstate=np.random.default_rng(plan.seed),
            show_progressbar=False,
            return_argmin=False,
        )
    finally:
        broadcast.unpersist()
    seconds = time.perf_counter() - started
    return SearchResult(
        tuple(records), _best(records), parallelism, seconds=seconds, end_reason="all trials were tried"
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


def _record(document: dict[str, Any], plan: SearchPlan) -> TrialRecord:
    values = {name: found[0] for name, found in document["misc"]["vals"].items() if found}
    result = document["result"]
    lost = "" if "loss" in result else ": ".join(document["misc"].get("error", ()))
    return TrialRecord(
        number=document["tid"],
        point=decode(plan.space, values),
        state="finished" if "loss" in result else "failed",
        value=result.get("value"),
        loss=result.get("loss"),
        seconds=float(result.get("seconds", 0.0)),
        error=result.get("error", lost),
    )
