"""The search: hyperopt's TPE proposes points, SparkTrials runs each trial as a Spark task.

What belongs here: running one search and recording its trials. What does not: the work of a trial (`trial`), the space
(`space`), storing results (`tracking`), Dagster.

Reproducibility. With parallelism 1 a search is a function of its plan and its rows: the same points in the same order
with the same values, to the last bit, including early stopping and pruning, and even if the search was interrupted and
resumed (on the same kind of machine: other CPUs may round differently). With more trials in flight, a point and its
pruning thresholds depend on the trials that happen to have ended by then. So points, thresholds, pruned trials, the
order of the records and the best trial may all differ between two runs; the value of a point after a given number of
trees does not. A time budget ends the search whenever the clock says so.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import STATUS_OK, fmin
from hyperopt.base import JOB_STATE_DONE

from mlops_assets.errors import SearchError
from mlops_assets.training.objective import to_loss
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.search.proposals import (
    Document,
    is_extra,
    point_of,
    proposing,
    share_of,
    to_document,
    to_hyperopt,
    to_record,
)
from mlops_assets.training.search.screening import screening
from mlops_assets.training.search.shared_data import shared
from mlops_assets.training.search.slots import Slots, choose_slots
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.search.stopping import FoldLosses, mean_curves, median_thresholds, shifts
from mlops_assets.training.search.trial import Assignment, TrialTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.folds import Fold
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan

logger = logging.getLogger(__name__)

_LARGEST_RANDOM_START = 20
# Longest trial beyond the budget, in mean trials: what is still running when the search ends is lost. Simulated with 14
# slots (`benchmarks/_simulation`).
EXTRA_LENGTH = 1 / 3
_LEAST_SECONDS = 0.001  # hyperopt refuses a timeout of 0


def run_search(
    spark: SparkSession,
    train: Matrix,
    validation: Matrix,
    plan: SearchPlan,
    on_trial: Callable[[TrialRecord], None],
    resumed: Sequence[TrialRecord] = (),
    older: Sequence[Fold] = (),
) -> SearchResult:
    """Search for the best point.

    Args:
        spark: The session whose executors run the trials.
        train: Rows to fit on.
        validation: Rows to evaluate on; the search never sees the test rows.
        plan: What to search.
        on_trial: Called once for each finished trial of this run, while the search runs; an error that it raises ends
            the search. Cancelled and resumed trials are not reported.
        resumed: Trials of an earlier, unfinished search of the same `search_key`. They count as tried, including
            failed ones; they inform TPE and pruning, and one of them may be the best.
        older: Folds before the validation rows, newest first; a trial's value is the mean over all.

    Raises:
        SearchError: No trial finished, the validation rows have only one class, or `resumed` is from another search.
    """
    started = time.perf_counter()
    _refuse_one_class(validation)
    slots = choose_slots(spark, plan)
    for note in slots.notes:
        logger.warning(note)
    run = _Run(spark, plan, slots, on_trial, resumed, older)
    reason = run.to_the_end(train, validation, started)
    return SearchResult(
        trials=tuple(run.records),
        best=best_trial(run.records, reason),
        parallelism=slots.parallelism,
        seconds=time.perf_counter() - started,
        end_reason=reason,
        threads=slots.threads,
        older_rows=tuple(fold.train_rows for fold in older),
        notes=slots.notes,
    )


class _Run:
    """One search while it runs."""

    def __init__(
        self,
        spark: SparkSession,
        plan: SearchPlan,
        slots: Slots,
        on_trial: Callable[[TrialRecord], None],
        resumed: Sequence[TrialRecord],
        older: Sequence[Fold],
    ) -> None:
        self._spark, self._plan, self._slots, self._on_trial = spark, plan, slots, on_trial
        self._older = older
        self.records = sorted(resumed, key=lambda record: record.number)
        numbers = [record.number for record in self.records]
        if len(set(numbers)) < len(numbers):
            raise SearchError(
                "two resumed trials have the same number", where="search", fix="resume one search at a time"
            )
        self._budget = plan.most_trials
        self._trials = EventDrivenSparkTrials(
            spark,
            slots.parallelism,
            self._assign,
            self._finished,
            use_idle_slots=plan.use_idle_slots and not plan.space.is_one_point,
        )
        self._trials.insert_trial_docs([to_document(record, plan.space) for record in self.records])

    def to_the_end(self, train: Matrix, validation: Matrix, started: float) -> str:
        """Run the remaining trials, and return why the search ended."""
        plan, before, startup = self._plan, len(self.records), startup_trials(self._plan)
        if before >= self._budget:
            return f"all of its {before} trials were resumed: nothing was left to try"
        with shared(self._spark, train, validation, *(fold.validation for fold in self._older)) as data:
            fmin(
                TrialTask(
                    uuid.uuid4().hex,
                    data,
                    plan.objective,
                    plan.seed,
                    self._slots.threads,
                    checkpoint_rounds=plan.checkpoint_rounds if plan.watched else 0,
                    early_stopping_rounds=plan.early_stopping_rounds,
                    older_rows=tuple(fold.train_rows for fold in self._older),
                ),
                to_hyperopt(plan.space),
                algo=screening(plan, startup) if plan.screened_points else proposing(plan.space, startup),
                max_evals=self._budget,
                timeout=self._seconds_left(started),
                trials=self._trials,
                rstate=np.random.default_rng(plan.seed),
                show_progressbar=False,
                return_argmin=False,
            )
        tried = len(self.records)
        extra = f", {tried - self._budget} more in slots that were free" if tried > self._budget else ""
        if self._trials.fmin_cancelled_reason is not None:
            return f"the time budget of {plan.max_seconds:g} s was used up after {tried} of {self._budget} trials"
        if plan.space.is_one_point:
            return "the space has one point, and it was tried"
        resumed = f", {before} of them resumed" if before else ""
        whole = sum(record.share == 1 for record in self.records)
        on_all = f", {whole} on all rows" if whole < tried else ""
        return f"all {min(tried, self._budget)} trials were tried{resumed}{on_all}{extra}"

    def _seconds_left(self, started: float) -> float | None:
        if not self._plan.max_seconds:
            return None
        return max(_LEAST_SECONDS, self._plan.max_seconds - (time.perf_counter() - started))

    def _assign(self, document: Document) -> Assignment:
        point, share = point_of(self._plan.space, document), share_of(document)
        seconds = self._extra_seconds() if is_extra(document) else math.inf
        if not self._plan.pruning:
            return Assignment(point, share=share, seconds=seconds)
        finished = self._finished_folds(share)
        curves = [mean_curves(folds) for folds in finished]
        thresholds, *older = (
            median_thresholds([curve[number] for curve in curves]) for number in range(1 + len(self._older))
        )
        return Assignment(
            point,
            thresholds,
            tuple(older),
            shifts([[value for value, _ in folds] for folds in finished]),
            share,
            seconds,
        )

    def _extra_seconds(self) -> float:
        """Return how long a trial beyond the budget may take: short ones fill the time until the last trial ends."""
        seconds = [record.seconds for record in self.records if record.state != "failed"]
        return EXTRA_LENGTH * sum(seconds) / len(seconds) if seconds else math.inf

    def _finished_folds(self, share: float) -> list[list[FoldLosses]]:
        """Return, for each finished trial of this share so far that was not pruned, loss and curve of losses by fold.

        They come from the documents: these are complete when the next trial is assigned, the records are not.
        """

        def losses(value: float, curve: Sequence[tuple[int, float]]) -> FoldLosses:
            objective = self._plan.objective
            return to_loss(objective, value), [(rounds, to_loss(objective, reached)) for rounds, reached in curve]

        trials = [trial for trial in self._trials.trials if share_of(trial) == share]
        results = [trial["result"] for trial in trials if trial["state"] == JOB_STATE_DONE]
        return [
            [losses(value, curve) for value, _, curve in result.get("folds") or [(result["value"], 0, result["curve"])]]
            for result in results
            if result["status"] == STATUS_OK and not result["pruned"]
        ]

    def _finished(self, document: dict[str, Any]) -> None:
        self.records.append(to_record(document, self._plan.space))
        self._on_trial(self.records[-1])


def _refuse_one_class(validation: Matrix) -> None:
    if validation.frauds in (0, validation.rows):
        raise SearchError(
            f"{validation.frauds} frauds in {validation.rows} rows", where="validation set", fix="load a longer period"
        )


def startup_trials(plan: SearchPlan) -> int:
    """Return how many points are drawn at random before TPE has enough to learn from."""
    return max(1, min(_LARGEST_RANDOM_START, plan.trials // 4))


def best_trial(records: Sequence[TrialRecord], reason: str) -> TrialRecord:
    """Return the finished trial with the smallest loss; on a tie the one proposed first.

    Raises:
        SearchError: No trial finished; `reason` says why the search ended.
    """
    finished = [record for record in records if record.state == "finished"]
    if finished:
        return min(finished, key=lambda record: (record.loss, record.number))
    failed = [record.error.strip().splitlines()[0] for record in records if record.error.strip()]
    first = f"; the first one: {failed[0]}" if failed else ""
    raise SearchError(
        f"none of {len(records)} trials succeeded ({reason}){first}",
        where="search",
        fix="read the failed child runs in MLflow: a range of the space or the data is unusable"
        if failed
        else "raise the time budget: at least one trial must finish within it",
    )
