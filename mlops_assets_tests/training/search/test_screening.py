"""Screening: which points go on, what TPE is told, and a search on real Spark that is resumed bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperopt import Trials, fmin
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.search.proposals import Document, raw_values, share_of, to_hyperopt
from mlops_assets.training.search.screening import due, screening, told
from mlops_assets.training.search.search import run_search
from mlops_assets.training.space import search_space
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.spaces import seed_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PLAN = SearchPlan(
    space=seed_space(max_depth=(2, 6), n_estimators=(10, 30)),
    trials=20,
    parallelism=1,
    checkpoint_rounds=2,
    screening=0.3,
)


def trial(
    number: int, depth: float, loss: float | None, *, share: float = 0.1, pruned: bool = False, running: bool = False
) -> Document:
    """Return a trial of a point that one number describes; a loss of None is a failure."""
    ended: dict[str, Any] = (
        {"status": "fail"} if loss is None else {"status": "ok", "loss": loss, "value": -loss, "pruned": pruned}
    )
    return {
        "tid": number,
        "state": JOB_STATE_RUNNING if running else JOB_STATE_DONE,
        "misc": {"tid": number, "vals": {"depth": [depth]}, "idxs": {"depth": [number]}, "share": share},
        "result": {"status": "new"} if running else ended,
    }


def test_after_three_screened_points_the_best_one_goes_on():
    two = [trial(0, 1.0, -0.5), trial(1, 2.0, -0.7)]
    three = [*two, trial(2, 3.0, -0.6)]

    assert due(two, starts=0, points=9) is None
    assert due([*two, trial(2, 3.0, None, running=True)], starts=0, points=9) is None
    assert due(three, starts=0, points=9) is three[1]
    assert due([*three, trial(3, 2.0, -0.1, share=1, running=True)], starts=0, points=9) is None


def test_what_failed_was_pruned_or_was_tried_on_everything_does_not_go_on():
    known = [
        trial(0, 9.0, -0.2, share=1),  # a start
        trial(1, 9.0, -0.99),  # the same point again
        trial(2, 1.0, None),
        trial(3, 2.0, -0.9, pruned=True),
        trial(4, 3.0, -0.1),
    ]

    assert due(known, starts=1, points=9) is known[4]
    assert due(known[:4], starts=1, points=3) is None  # nothing is left that could


def test_the_last_points_get_a_chance_too():
    four = [trial(0, 1.0, -0.5), trial(1, 2.0, -0.4), trial(2, 3.0, -0.3), trial(3, 1.0, -0.6, share=1)]
    last = trial(4, 4.0, -0.9)

    assert due([*four, last], starts=0, points=5) is None
    assert due([*four, last], starts=0, points=4) is last


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 0), st.sampled_from(["ok", "ok", "ok", "pruned", "fail"])), min_size=1),
    st.integers(1, 14),
    st.randoms(),
)
def test_a_third_goes_on_whatever_ends_when_and_the_best_is_among_them(
    points: list[tuple[float, str]], parallelism: int, random: Any
):
    """A search of so many slots, in which trials end in any order."""
    known: list[Document] = []
    waiting = list(enumerate(points))
    while True:
        while sum(document["state"] == JOB_STATE_RUNNING for document in known) < parallelism:
            survivor = due(known, starts=0, points=len(points))
            if survivor is not None:
                [name] = survivor["misc"]["vals"]["depth"]
                known.append(trial(len(known), name, None, share=1, running=True))
            elif waiting:
                known.append(trial(len(known), float(waiting.pop(0)[0]), None, running=True))
            else:
                break
        running = [number for number, document in enumerate(known) if document["state"] == JOB_STATE_RUNNING]
        if not running:
            break
        number = random.choice(running)
        [name] = known[number]["misc"]["vals"]["depth"]
        loss, end = points[int(name)]
        share = share_of(known[number])
        known[number] = trial(number, name, None if end == "fail" else loss, share=share, pruned=end == "pruned")

    went_on = [int(raw_values(document)["depth"]) for document in known if share_of(document) == 1]
    good = [number for number, (_, end) in enumerate(points) if end == "ok"]
    assert len(set(went_on)) == len(went_on) == min(len(good), -(-len(points) // 3))
    assert not good or any(points[number][0] == min(points[other][0] for other in good) for number in went_on)


def test_tpe_never_compares_a_value_on_the_sample_with_one_on_everything():
    """The best value of all was screened only: it is not the best that TPE is told of."""
    known = [
        trial(0, 1.0, -0.5, share=1),
        trial(1, 2.0, -0.7, share=1),
        trial(2, 3.0, -0.99),
        trial(3, 2.0, -0.98),  # the screening of trial 1
        trial(4, 5.0, -0.6),
        trial(5, 6.0, None, running=True),
        trial(6, 7.0, None),
        trial(7, 8.0, None, share=1),
    ]

    heard = told(known)

    losses = {document["tid"]: document["result"].get("loss") for document in heard}
    assert losses == {0: -0.5, 1: -0.7, 7: None, 2: 0.5, 4: 1.5, 5: None, 6: None}
    assert known[2]["result"]["loss"] == -0.99, "the search's own documents stay as they are"


def test_before_anything_was_tried_on_everything_tpe_goes_by_the_order_of_the_screening():
    losses = {d["tid"]: d["result"]["loss"] for d in told([trial(0, 1.0, -0.5), trial(1, 2.0, -0.7)])}

    assert losses[1] < losses[0]


def test_the_settings_that_a_search_starts_with_are_tried_on_everything_at_once():
    plan = SearchPlan(space=search_space("wide"), trials=9, screening=0.1)
    trials = Trials()
    fmin(
        lambda values: {"status": "ok", "loss": values["learning_rate"], "pruned": False},
        to_hyperopt(plan.space),
        algo=screening(plan, 2),
        max_evals=plan.most_trials,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
    )

    shares = [share_of(document) for document in trials.trials]
    assert shares == [1, 1, 1, 0.1, 0.1, 0.1, 1, 0.1, 0.1, 0.1, 1]
    assert raw_values(trials.trials[0])["learning_rate"] == plan.space.starts[0]["learning_rate"]


@pytest.fixture(scope="module")
def found(spark: SparkSession, halves: tuple[Matrix, Matrix]) -> SearchResult:
    return run_search(spark, *halves, PLAN, lambda record: None)


def of(records: Sequence[TrialRecord], *, screened: bool) -> list[TrialRecord]:
    return [record for record in records if (record.share < 1) == screened]


@pytest.mark.proof  # a search of many points
def test_every_point_is_screened_and_the_best_trial_was_on_everything(found: SearchResult):
    first, second = (of(found.trials, screened=screened) for screened in (True, False))

    assert (len(first), len(second)) == (20, 7) == (20, PLAN.most_trials - 20)
    assert {record.share for record in first} == {0.3}
    assert {record.state for record in first} <= {"screened", "pruned"}
    assert found.best in second
    assert found.best.value == max(record.value or 0 for record in second if record.state == "finished")
    best_screened = max((record for record in first if record.state == "screened"), key=lambda r: r.value or 0)
    assert best_screened.point in [record.point for record in second]
    assert found.end_reason == "all 27 trials were tried, 7 on all rows"
    assert found.counts()["trials_screened"] == sum(record.state == "screened" for record in first)


@pytest.mark.proof  # two searches
def test_a_survivor_has_the_value_that_its_point_has_without_screening(
    spark: SparkSession, halves: tuple[Matrix, Matrix], found: SearchResult
):
    """Nothing of the sample stays in the worker's rows: bins, weights and labels are those of all rows again."""
    best = found.best
    space = search_space("seed", {}, {name: {"low": value, "high": value} for name, value in best.point.items()})
    alone = run_search(spark, *halves, SearchPlan(space=space, trials=1, checkpoint_rounds=2), lambda record: None)

    assert (alone.best.value, alone.best.rounds) == (best.value, best.rounds)


@pytest.mark.proof  # three searches
@pytest.mark.parametrize("cut", [3, 11, 26, 27])
def test_it_is_resumed_bit_for_bit(spark: SparkSession, halves: tuple[Matrix, Matrix], found: SearchResult, cut: int):
    before = [dataclasses.replace(record, resumed_from="earlier") for record in found.trials[:cut]]

    resumed = run_search(spark, *halves, PLAN, lambda record: None, before)

    assert without_time(resumed.trials) == without_time(found.trials)
    assert resumed.best.number == found.best.number


@pytest.mark.proof  # two searches
def test_slots_that_wait_for_a_screening_are_no_end_of_the_search(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    plan = dataclasses.replace(PLAN, trials=4, parallelism=2, pruning=False)

    found = run_search(spark, *halves, plan, lambda record: None)

    assert sorted(record.number for record in found.trials) == list(range(6))
    assert found.counts()["trials_finished"] == 2
    assert found.end_reason == "all 6 trials were tried, 2 on all rows"
