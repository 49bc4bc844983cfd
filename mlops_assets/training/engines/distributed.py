"""The search for tables that do not fit into one worker's memory: the whole cluster trains each trial.

What belongs here: fitting one model over the cluster, and the search over such fits. What does not: placing the rows
(`placed_rows`), metrics of scores on the cluster (`distributed_metrics`), the search in memory (`search`), the final
model (`distributed_model`), Dagster.

Trials run one after another, each with `xgboost.spark`: one XGBoost worker per task slot, histograms summed over the
network. No row reaches the driver. The proposals are the same as in the search in memory at parallelism 1: hyperopt's
TPE with the same space and seed.

With the same number of workers a search is reproducible to the last bit, because each trial sees the same rows in the
same order on the same worker. Compared with the model in memory the bins differ a little (XGBoost merges the quantiles
from the workers' sketches), so models and values differ too, by much less than an evaluation's interval.

Early stopping is XGBoost's own and evaluates after every tree: the log loss, which is exact, when that is the
objective, otherwise the area under the precision-recall curve, which XGBoost averages over the workers. It only decides
how many trees are kept; the value of a trial is exact. There is no pruning: nothing outside a trial can stop it.
"""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin
from hyperopt.exceptions import AllTrialsFailed
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses
from xgboost.spark import SparkXGBClassifier

from mlops_assets.errors import SearchError
from mlops_assets.training.engines.distributed_metrics import LABEL, judge_on_cluster, packed
from mlops_assets.training.engines.placed_rows import VALIDATION, PlacedRows, task_cpus
from mlops_assets.training.objective import to_loss, tree_parameters, trees_of
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.search.proposals import proposing, to_hyperopt
from mlops_assets.training.search.search import best_trial, startup_trials

if TYPE_CHECKING:
    import xgboost as xgb
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.training.members import Member
    from mlops_assets.training.plan import Objective, SearchPlan
    from mlops_assets.training.space import Point

logger = logging.getLogger(__name__)

_ERROR_LENGTH = 2_000
_LEAST_SECONDS = 0.001  # hyperopt refuses a timeout of 0
_NO_PRUNING = "trials over the whole cluster are not pruned"
_NO_FOLDS = "trials over the whole cluster are judged on the validation set only"


def fit_on_cluster(data: PlacedRows, point: Point, *, seed: int, rounds: int) -> xgb.Booster:
    """Train one model over the cluster; fewer `rounds` give the same first trees."""
    return _classifier(data, point, seed=seed, rounds=rounds).fit(_renamed(data, data.train_rows)).get_booster()


def fit_all_on_cluster(data: PlacedRows, members: Sequence[Member]) -> list[xgb.Booster]:
    """Train every member of a bag over the cluster, one after another."""
    return [fit_on_cluster(data, member.point, seed=member.seed, rounds=member.rounds) for member in members]


def run_distributed_search(
    spark: SparkSession,
    data: PlacedRows,
    plan: SearchPlan,
    on_trial: Callable[[TrialRecord], None],
    resumed: Sequence[TrialRecord] = (),
) -> SearchResult:
    """Search for the best point, one trial after another, each over the whole cluster.

    Args:
        spark: The session.
        data: The rows, see `placed`.
        plan: What to search; parallelism, threads and pruning do not apply. The time budget is checked between trials.
        on_trial: Called once for each finished trial of this run; an error that it raises ends the search.
        resumed: Trials of an earlier, unfinished search of the same key, engine and number of workers. They are not
            run again: the search proposes their points a second time and reuses the values.

    Raises:
        SearchError: No trial finished, or `resumed` is from another search.
    """
    started = time.perf_counter()
    run = _Run(spark, data, plan, on_trial, resumed)
    reason = run.to_the_end(started)
    return SearchResult(
        trials=tuple(run.records),
        best=best_trial(run.records, reason),
        parallelism=1,
        seconds=time.perf_counter() - started,
        end_reason=reason,
        threads=task_cpus(spark),
        notes=search_notes(data, plan),
    )


def search_notes(data: PlacedRows, plan: SearchPlan) -> tuple[str, ...]:
    """Return notes for the user on a search over the cluster."""
    trained = f"each trial is trained over the cluster, by {data.workers} workers"
    missing = [_NO_PRUNING] * plan.pruning + [_NO_FOLDS] * (plan.folds > 1)
    return (trained, *missing)


class _Run:
    """One search while it runs."""

    def __init__(
        self,
        spark: SparkSession,
        data: PlacedRows,
        plan: SearchPlan,
        on_trial: Callable[[TrialRecord], None],
        resumed: Sequence[TrialRecord],
    ) -> None:
        self._spark, self._data, self._plan, self._on_trial = spark, data, plan, on_trial
        self._known = {record.number: record for record in resumed}
        self._budget = 1 if plan.space.is_one_point else plan.trials
        self.records: list[TrialRecord] = []

    def to_the_end(self, started: float) -> str:
        """Run the remaining trials, and return why the search ended."""
        plan, trials = self._plan, Trials()
        seconds = max(_LEAST_SECONDS, plan.max_seconds - (time.perf_counter() - started)) if plan.max_seconds else None
        with suppress(AllTrialsFailed):  # `best_trial` raises its own error for this
            fmin(
                self._evaluate,
                to_hyperopt(plan.space),
                algo=proposing(plan.space, startup_trials(plan)),
                max_evals=self._budget,
                timeout=seconds,
                trials=trials,
                rstate=np.random.default_rng(plan.seed),
                show_progressbar=False,
                return_argmin=False,
            )
        tried, before = len(self.records), sum(record.number in self._known for record in self.records)
        if tried < self._budget:
            return f"the time budget of {plan.max_seconds:g} s was used up after {tried} of {self._budget} trials"
        if plan.space.is_one_point:
            return "the space has one point, and it was tried"
        return f"all {tried} trials were tried" + (f", {before} of them resumed" if before else "")

    def _evaluate(self, values: dict[str, Any]) -> dict[str, Any]:
        number, point = len(self.records), self._plan.space.to_point(values)
        if known := self._known.get(number):
            if known.point != point:
                raise SearchError(
                    f"trial {number} tried {known.point}, and this search proposes {point}",
                    where=known.resumed_from or "earlier search",
                    fix="resume searches of the same key only",
                )
            self.records.append(known)
        else:
            self.records.append(self._try(number, point))
            self._on_trial(self.records[-1])
        record = self.records[-1]
        if record.loss is None:
            return {"status": STATUS_FAIL, "error": record.error}
        return {"status": STATUS_OK, "loss": record.loss}

    def _try(self, number: int, point: Point) -> TrialRecord:
        started = time.perf_counter()
        record = TrialRecord(number, point, "failed", value=None, loss=None, seconds=0.0)
        try:
            with _one_group(self._spark):
                booster, curve = self._fit(point)
                with broadcast_model(self._spark, booster) as model:
                    value = judge_on_cluster(
                        self._plan.objective,
                        self._data.validation_rows,
                        self._data.features,
                        model,
                        self._data.validation,
                    )
            loss = to_loss(self._plan.objective, value)
        except Exception as error:  # noqa: BLE001 - the result records any error of a trial
            text = f"{type(error).__name__}: {_reason(error)}\n{traceback.format_exc()}"
            return replace(record, error=text[:_ERROR_LENGTH], seconds=time.perf_counter() - started)
        return replace(
            record,
            state="finished",
            value=value,
            loss=loss,
            rounds=booster.num_boosted_rounds(),
            curve=curve,
            seconds=time.perf_counter() - started,
        )

    def _fit(self, point: Point) -> tuple[xgb.Booster, tuple[tuple[int, float], ...]]:
        plan, data = self._plan, self._data
        if not plan.early_stopping_rounds:
            return fit_on_cluster(data, point, seed=plan.seed, rounds=trees_of(point)), ()
        metric = _stopping_metric(plan.objective)
        estimator = _classifier(
            data, point, seed=plan.seed, rounds=trees_of(point), stopping=(metric, plan.early_stopping_rounds)
        )
        model = estimator.fit(_renamed(data, data.rows))
        booster = model.get_booster()
        curve: tuple[tuple[int, float], ...] = ()
        if plan.objective == "log_loss":  # the other metric is not the objective
            history = model.training_summary.validation_objective_history[metric]
            curve = tuple((trees, float(value)) for trees, value in enumerate(history, 1))
        return booster[: booster.best_iteration + 1], curve


def _stopping_metric(objective: Objective) -> str:
    return "logloss" if objective == "log_loss" else "aucpr"


def _columns(data: PlacedRows) -> list[str]:
    """Return names for the features while XGBoost trains; the model gets their own.

    XGBoost looks for weights, labels and more by the names of columns (`xgboost/spark/data.py`), so a feature called
    `weight` would weigh the rows. It also looks for `values`, and without a column of that name it fails on a batch of
    rows that are all from the training set, or all from the validation set.
    """
    return ["values", *(f"feature_{number}" for number in range(1, len(data.features)))]


def _renamed(data: PlacedRows, rows: DataFrame) -> DataFrame:
    names = zip(data.features, _columns(data), strict=True)
    return rows.select(*(F.col(name).alias(column) for name, column in names), LABEL, VALIDATION)


def _classifier(
    data: PlacedRows, point: Point, *, seed: int, rounds: int, stopping: tuple[str, int] | None = None
) -> SparkXGBClassifier:
    """Return the estimator for a point; its parameters are those of `objective.booster_parameters`."""
    watched: dict[str, Any] = {"monotone_constraints": dict(data.monotone)} if data.monotone else {}
    if stopping is not None:
        metric, patience = stopping
        watched |= {
            "validation_indicator_col": VALIDATION,
            "eval_metric": metric,
            "early_stopping_rounds": patience,
        }
    return SparkXGBClassifier(
        features_col=_columns(data),
        feature_names=list(data.features),
        label_col=LABEL,
        num_workers=data.workers,
        # Run on an executor: workers need no route to the driver, and a stage that Spark retries gets a new tracker.
        launch_tracker_on_driver=False,
        tree_method="hist",
        missing=float("nan"),
        n_estimators=rounds,
        **tree_parameters(point),
        random_state=seed,
        verbosity=0,
        **watched,
    )


def _reason(error: Exception) -> str:
    """Return an error's text; of one in a worker's Python, which comes with Java's stacks around it, its first line."""
    in_worker = str(error).partition("Traceback (most recent call last):")[2]
    said = next((line for line in in_worker.splitlines() if line[:1].strip()), "")  # what calls what is indented
    return f"on a worker: {said}" if said else str(error)


@contextmanager
def broadcast_model(spark: SparkSession, booster: xgb.Booster) -> Iterator[Broadcast[bytes]]:
    """Lend a model to the executors for the length of a block."""
    model = spark.sparkContext.broadcast(packed(booster))
    try:
        yield model
    finally:
        model.destroy()


@contextmanager
def _one_group(spark: SparkSession) -> Iterator[None]:
    """Put the block's Spark jobs into their own group, and cancel the group when the block is interrupted."""
    context, group = spark.sparkContext, f"trial-{uuid.uuid4().hex[:8]}"
    context.setJobGroup(group, "a trial over the whole cluster", interruptOnCancel=True)
    try:
        yield
    except BaseException:
        context.cancelJobGroup(group)
        raise
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]  # None removes it
