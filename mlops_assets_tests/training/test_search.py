"""The search on real Spark: failures count as failures, workers are kept, points are decoded, cuts are clean."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperopt import Trials, fmin, tpe
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE

from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.proposals import Document, decode, to_document, to_hyperopt, to_record
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search import run_search
from mlops_assets.training.space import Point, Range, SearchSpace
from mlops_assets.training.spark_trials import EventDrivenSparkTrials
from mlops_assets_tests.training.conftest import without_time

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPACE = SearchSpace(max_depth=Range(2, 4), n_estimators=Range(3, 9))
# XGBoost keeps reg_alpha in a float32, whose largest value is 3.4e38, and refuses what is beyond.
HALF_USABLE = dataclasses.replace(SPACE, n_estimators=Range(5, 40), reg_alpha=Range(0, 6.8e38))
EVERYTHING = SearchPlan(
    space=HALF_USABLE, trials=20, parallelism=1, early_stopping_rounds=8, checkpoint_rounds=2, pruning=True
)


# What executors run must be importable there or be pickled by value; cloudpickle pickles functions of a test module by
# reference, so these are made by functions.
def failing_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point.max_depth == 4:
            return {"status": "fail", "error": "ValueError: too deep", "seconds": 0.0}
        return {"status": "ok", "loss": float(point.max_depth), "value": -float(point.max_depth), "seconds": 0.0}

    return task


def dying_for_deep_trees() -> Any:
    def task(point: Point) -> dict[str, Any]:
        if point.max_depth == 4:
            os._exit(9)
        return {"status": "ok", "loss": float(point.max_depth), "seconds": 0.0}

    return task


def telling_its_process() -> Any:
    def task(point: Point) -> dict[str, Any]:
        return {"status": "ok", "loss": point.learning_rate, "pid": os.getpid(), "seconds": 0.0}

    return task


def sleeping(pids: Path) -> Any:
    def task(point: Point) -> dict[str, Any]:
        (pids / str(os.getpid())).touch()
        time.sleep(120)
        return {"status": "ok", "loss": 1.0, "seconds": 120.0}

    return task


def looping_in_c(pids: Path) -> Any:
    def task(point: Point) -> dict[str, Any]:
        (pids / str(os.getpid())).touch()
        sum(itertools.repeat(0))  # holds the interpreter: neither a signal handler nor a thread gets a turn
        return {"status": "ok", "loss": 1.0, "seconds": 120.0}

    return task


def meeting_every_end() -> Any:
    """Trials that finish, are pruned, fail, and kill their worker, as their point has it."""

    def task(point: Point) -> dict[str, Any]:
        if point.learning_rate > 0.45:
            os._exit(9)
        if point.max_depth == 4:
            return {"status": "fail", "error": "ValueError: too deep", "seconds": 0.0}
        loss = point.learning_rate * point.n_estimators
        return {
            "status": "ok",
            "loss": loss,
            "value": -loss,
            "rounds": point.n_estimators,
            "curve": [[point.n_estimators, -loss]],
            "pruned": point.max_depth == 2,
            "seconds": 0.0,
        }

    return task


def trials_of(
    spark: SparkSession,
    task: Any,
    evaluations: int,
    parallelism: int,
    timeout: float | None = None,
    before: Sequence[Document] = (),
) -> EventDrivenSparkTrials:
    trials = EventDrivenSparkTrials(spark, parallelism, lambda values: decode(SPACE, values), lambda document: None)
    trials.insert_trial_docs(before)
    fmin(
        task,
        to_hyperopt(SPACE),
        algo=lambda *proposal: tpe.suggest(*proposal, n_startup_jobs=4),
        max_evals=evaluations,
        timeout=timeout,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    return trials


def are_gone(pids: Path, within: float) -> bool:
    """Return whether the processes that left their number in a folder have ended, or do so within seconds."""
    until = time.monotonic() + within
    numbers = [int(file.name) for file in pids.iterdir()]
    assert numbers
    while any(is_alive(number) for number in numbers):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_best_trial_is_the_one_with_the_best_validation_value(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    seen: list[TrialRecord] = []

    found = run_search(spark, *halves, SearchPlan(space=SPACE, trials=6), seen.append)

    assert list(found.trials) == seen
    assert sorted(record.number for record in seen) == list(range(6))
    assert found.best.value == max(record.value or 0 for record in seen)
    assert all(2 <= record.point.max_depth <= 4 and 3 <= record.point.n_estimators <= 9 for record in seen)


def test_at_parallelism_one_a_seed_repeats_the_search_bit_for_bit(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, trials=5, parallelism=1)

    first, second = (run_search(spark, *halves, plan, lambda record: None) for _ in range(2))

    assert [(r.point, r.value) for r in first.trials] == [(r.point, r.value) for r in second.trials]


def test_another_seed_is_another_search(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    one, two = (
        run_search(spark, *halves, SearchPlan(space=SPACE, trials=2, parallelism=1, seed=seed), lambda record: None)
        for seed in (1, 2)
    )

    assert one.trials[0].point != two.trials[0].point


def test_proposals_at_parallelism_one_are_those_of_plain_hyperopt(spark: SparkSession):
    """The dispatcher is ours, the search is hyperopt's: the same seed gives the same points as its serial `fmin`."""
    ours = trials_of(spark, telling_its_process(), evaluations=8, parallelism=1)
    plain = Trials()
    fmin(
        lambda values: values["learning_rate"],
        to_hyperopt(SPACE),
        algo=lambda *proposal: tpe.suggest(*proposal, n_startup_jobs=4),
        max_evals=8,
        trials=plain,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
    )

    assert [t["misc"]["vals"] for t in ours.trials] == [t["misc"]["vals"] for t in plain.trials]


def test_failed_trials_are_recorded_and_the_others_count(spark: SparkSession):
    trials = trials_of(spark, failing_for_deep_trees(), evaluations=10, parallelism=2)

    states = {t["result"]["status"] for t in trials.trials}
    assert states == {"ok", "fail"}
    assert all(t["state"] == JOB_STATE_DONE for t in trials.trials)


def test_a_worker_that_dies_costs_its_trial_only(spark: SparkSession):
    trials = trials_of(spark, dying_for_deep_trees(), evaluations=8, parallelism=2)

    died = [t for t in trials.trials if t["result"]["status"] == "fail"]
    assert 0 < len(died) < 8
    assert [t["state"] for t in trials.trials] == [JOB_STATE_DONE] * 8
    assert all(t["result"]["error"].startswith("lost with its Spark task: Lost task") for t in died)
    assert all("Python worker exited unexpectedly" in t["result"]["error"].splitlines()[0] for t in died)


def test_workers_are_kept_between_trials(spark: SparkSession):
    """Stock SparkTrials starts an interpreter for each trial: its task function leaves its input unread."""
    trials = trials_of(spark, telling_its_process(), evaluations=8, parallelism=1)

    assert len({t["result"]["pid"] for t in trials.trials}) <= 2


def test_when_all_trials_fail_there_is_one_clear_error(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    train, validation = halves
    broken = Matrix(train.features[:3], train.X, train.y, train.days, None)  # names that do not fit the columns

    with pytest.raises(SearchError, match=r"none of 2 trials succeeded .*; the first one: ValueError"):
        run_search(spark, broken, validation, SearchPlan(space=SPACE, trials=2), lambda record: None)


def test_a_validation_set_of_one_class_is_refused_before_any_trial(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    train, validation = halves
    genuine = Matrix(
        validation.features, validation.X, np.zeros_like(validation.y), validation.days, validation.amounts
    )

    with pytest.raises(SearchError, match="0 frauds in 1000 rows"):
        run_search(spark, train, genuine, SearchPlan(space=SPACE), lambda record: pytest.fail(f"{record}"))


def test_what_the_callback_raises_ends_the_search(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    def full(record: TrialRecord) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_search(spark, *halves, SearchPlan(space=SPACE, trials=50), full)


@pytest.mark.parametrize("stuck", [sleeping, looping_in_c])
def test_an_interrupt_ends_running_trials_and_their_processes_within_seconds(
    spark: SparkSession, tmp_path: Path, stuck: Callable[[Path], Any]
):
    threading.Timer(4.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        trials_of(spark, stuck(tmp_path), evaluations=10, parallelism=2)

    assert time.monotonic() - started < 20
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []
    assert are_gone(tmp_path, within=6)


@pytest.mark.parametrize("stuck", [sleeping, looping_in_c])
def test_a_hanging_objective_ends_with_the_time_budget_and_does_not_outlive_it(
    spark: SparkSession, tmp_path: Path, stuck: Callable[[Path], Any]
):
    started = time.monotonic()

    trials = trials_of(spark, stuck(tmp_path), evaluations=10, parallelism=2, timeout=4.0)

    assert 4 <= time.monotonic() - started < 14
    assert trials.fmin_cancelled_reason == "fmin run timeout"
    assert [t["state"] for t in trials._dynamic_trials] == [JOB_STATE_CANCEL] * 2
    assert trials.trials == []
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []
    assert are_gone(tmp_path, within=6)


def test_parallelism_leaves_tpe_something_to_learn_from(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    few = run_search(spark, *halves, SearchPlan(space=SPACE, trials=4), lambda record: None)
    many = run_search(spark, *halves, SearchPlan(space=SPACE, trials=8), lambda record: None)

    assert few.parallelism == 1
    assert many.parallelism == 2


def test_decode_gives_values_not_indices():
    """`fmin` returns indices for choices; a fixed parameter is not in its result at all."""
    fixed = SearchSpace(max_depth=Range(5, 5), n_estimators=Range(10, 99))

    point = decode(fixed, {"n_estimators": 12.0, "learning_rate": 0.2, "reg_alpha": 0.05, "base_score": 0.01})

    assert point == Point(5, 12, 0.2, 0.05, 0.01)
    assert isinstance(point.n_estimators, int)


def test_a_time_budget_keeps_what_has_finished_and_says_so(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, trials=100_000, parallelism=2, max_seconds=3)

    found = run_search(spark, *halves, plan, lambda record: None)

    assert 0 < len(found.trials) < 100_000
    assert found.end_reason == f"the time budget of 3 s was used up after {len(found.trials)} of 100000 trials"
    assert 3 <= found.seconds < 13


def test_a_time_budget_in_which_nothing_finishes_is_an_error(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = SearchPlan(space=SPACE, max_seconds=0.001)

    with pytest.raises(SearchError, match=r"none of 0 trials succeeded \(the time budget of 0.001 s .* raise the time"):
        run_search(spark, *halves, plan, lambda record: None)


def test_a_space_with_one_point_is_one_trial(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    one = SearchSpace(Range(3, 3), Range(12, 12), Range(0.3, 0.3), Range(0.05, 0.05), Range(0.03, 0.03))

    found = run_search(spark, *halves, SearchPlan(space=one, trials=30), lambda record: None)

    assert [record.point for record in found.trials] == [Point(3, 12, 0.3, 0.05, 0.03)]
    assert found.end_reason == "the space has one point, and it was tried"


def test_a_parallelism_that_does_not_fit_is_kept_and_noted(
    spark: SparkSession, halves: tuple[Matrix, Matrix], caplog: pytest.LogCaptureFixture
):
    found = run_search(spark, *halves, SearchPlan(space=SPACE, trials=4, parallelism=3), lambda record: None)

    assert found.parallelism == 3
    above, learning = found.notes
    assert "above the cluster's 2 task slots" in above
    assert "above a quarter of the 4 trials" in learning
    assert above in caplog.text


def test_trials_end_early_are_pruned_and_fail_and_the_best_has_finished(everything: tuple[TrialRecord, ...]):
    """The search that the tests below cut and resume meets every kind of trial."""
    assert {record.state for record in everything} == {"finished", "pruned", "failed"}
    finished = [record for record in everything if record.state == "finished"]
    assert any(record.curve[-1][0] < record.point.n_estimators for record in finished)
    assert all((record.rounds, record.value) in record.curve for record in finished)
    assert all(record.value == max(value for _, value in record.curve) for record in everything if record.curve)
    assert all(record.curve[-1][0] < record.point.n_estimators for record in everything if record.state == "pruned")


@pytest.fixture(scope="module")
def everything(spark: SparkSession, halves: tuple[Matrix, Matrix]) -> tuple[TrialRecord, ...]:
    return run_search(spark, *halves, EVERYTHING, lambda record: None).trials


@pytest.mark.parametrize("cut", range(0, 21, 4))
def test_a_search_that_was_cut_and_resumed_is_the_uninterrupted_one(
    spark: SparkSession, halves: tuple[Matrix, Matrix], everything: tuple[TrialRecord, ...], cut: int
):
    before = [dataclasses.replace(record, resumed_from="earlier") for record in everything[:cut]]
    seen: list[TrialRecord] = []

    found = run_search(spark, *halves, EVERYTHING, seen.append, list(reversed(before)))

    assert found.trials == (*before, *seen)
    assert without_time(found.trials) == without_time(everything)
    finished = [record for record in everything if record.state == "finished"]
    assert found.best.number == min(finished, key=lambda record: (record.loss, record.number)).number
    if cut == EVERYTHING.trials:
        assert found.end_reason == "all of its 20 trials were resumed: nothing was left to try"
    else:
        assert found.end_reason == "all 20 trials were tried" + (f", {cut} of them resumed" if cut else "")


def test_lost_trials_too_are_resumed_as_tried(spark: SparkSession):
    whole = trials_of(spark, meeting_every_end(), evaluations=14, parallelism=1).trials
    ends = [to_record(document, SPACE) for document in whole]
    assert {record.state for record in ends} == {"finished", "pruned", "failed"}
    assert any("Python worker exited" in record.error for record in ends)

    for cut in range(15):
        before = [to_document(record, SPACE) for record in ends[:cut]]
        resumed = trials_of(spark, meeting_every_end(), evaluations=14, parallelism=1, before=before).trials
        assert [t["misc"]["vals"] for t in resumed] == [t["misc"]["vals"] for t in whole], cut
        assert [t["result"].get("loss") for t in resumed] == [t["result"].get("loss") for t in whole], cut


def test_numbers_go_on_behind_trials_that_were_in_flight(spark: SparkSession):
    """With two in flight, a search may end after trials 0, 1 and 3: number 2 is lost, its draw is not given twice."""
    whole = trials_of(spark, telling_its_process(), evaluations=4, parallelism=1).trials
    ends = [
        to_record({**document, "result": {"status": "fail", "error": "no"}}, SPACE)
        for document in whole
        if document["tid"] != 2
    ]

    resumed = trials_of(
        spark, telling_its_process(), evaluations=5, parallelism=1, before=[to_document(end, SPACE) for end in ends]
    )

    assert resumed.tids == [0, 1, 3, 4, 5]


def test_trials_of_another_space_or_of_two_searches_are_refused(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    outside = TrialRecord(0, Point(9, 5, 0.1, 0.05, 0.05), "finished", 0.5, -0.5, 1.0, rounds=5, resumed_from="run 7")
    inside = dataclasses.replace(outside, point=Point(3, 5, 0.1, 0.05, 0.05))

    with pytest.raises(SearchError, match=r"not in the space of this search \[run 7\]"):
        run_search(spark, *halves, SearchPlan(space=SPACE), lambda record: None, [outside])
    with pytest.raises(SearchError, match="two resumed trials have one number"):
        run_search(spark, *halves, SearchPlan(space=SPACE), lambda record: None, [inside, inside])


def test_two_searches_that_take_turns_on_one_session_never_mix_their_data(
    spark: SparkSession, halves: tuple[Matrix, Matrix]
):
    train, validation = halves
    flipped = dataclasses.replace(train, y=(1 - train.y).astype(np.uint8))
    plan = SearchPlan(space=SPACE, trials=8, parallelism=1)
    alone = [run_search(spark, rows, validation, plan, lambda record: None) for rows in (train, flipped)]
    found: dict[int, Any] = {}

    def search(number: int, rows: Matrix) -> None:
        found[number] = run_search(spark, rows, validation, plan, lambda record: None)

    threads = [threading.Thread(target=search, args=item) for item in enumerate((train, flipped))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [without_time(found[number].trials) for number in (0, 1)] == [without_time(one.trials) for one in alone]
    assert alone[0].best.value != alone[1].best.value
