"""A search that was cut, anywhere, and resumed is the uninterrupted one, whatever ends its trials came to."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from mlops_assets.errors import SearchError
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search.proposals import Document, to_document, to_record
from mlops_assets.training.search.search import run_search
from mlops_assets_tests.training.conftest import without_time
from mlops_assets_tests.training.searching import SPACE, meeting_every_end, telling_its_process, trials_of
from mlops_assets_tests.training.spaces import seed_point, seed_space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest.mark.structures import ParameterSet
    from pyspark.sql import SparkSession

WATCHED = SearchPlan(
    space=seed_space(max_depth=(2, 4), n_estimators=(5, 40)),
    trials=20,
    parallelism=1,
    early_stopping_rounds=8,
    checkpoint_rounds=2,
)


def cuts(after: Iterable[int], *, soon: set[int]) -> list[ParameterSet]:
    """Return after how many trials a search is cut; those that aren't in `soon` are long proofs."""
    return [pytest.param(cut, marks=() if cut in soon else pytest.mark.proof) for cut in after]


@pytest.fixture(scope="module")
def lost_too(spark: SparkSession) -> list[Document]:
    """The trials of a search that meets every end a trial can come to."""
    trials: list[Document] = trials_of(spark, meeting_every_end(), evaluations=12, parallelism=1).trials
    return trials


@pytest.fixture(scope="module")
def everything(spark: SparkSession, halves: tuple[Matrix, Matrix]) -> tuple[TrialRecord, ...]:
    return run_search(spark, *halves, WATCHED, lambda record: None).trials


@pytest.mark.proof  # many trials
def test_trials_end_early_and_are_pruned_and_their_records_say_how(everything: tuple[TrialRecord, ...]):
    """So does the search that the tests below cut and resume."""
    assert {record.state for record in everything} == {"finished", "pruned"}
    finished = [record for record in everything if record.state == "finished"]
    assert any(record.curve[-1][0] < record.point["n_estimators"] for record in finished)
    assert all((record.rounds, record.value) in record.curve for record in finished)
    assert all(record.value == max(value for _, value in record.curve) for record in everything if record.curve)
    assert all(record.curve[-1][0] < record.point["n_estimators"] for record in everything if record.state == "pruned")


@pytest.mark.parametrize("cut", cuts([0, 1, 5, 6, 7, 13, 19, 20], soon={6, 19, 20}))
def test_a_search_that_was_cut_and_resumed_is_the_uninterrupted_one(
    spark: SparkSession, halves: tuple[Matrix, Matrix], everything: tuple[TrialRecord, ...], cut: int
):
    before = [dataclasses.replace(record, resumed_from="earlier") for record in everything[:cut]]
    seen: list[TrialRecord] = []

    found = run_search(spark, *halves, WATCHED, seen.append, list(reversed(before)))

    assert found.trials == (*before, *seen)
    assert without_time(found.trials) == without_time(everything)
    finished = [record for record in everything if record.state == "finished"]
    assert found.best.number == min(finished, key=lambda record: (record.loss, record.number)).number
    if cut == WATCHED.trials:
        assert found.end_reason == "all of its 20 trials were resumed: nothing was left to try"
    else:
        assert found.end_reason == "all 20 trials were tried" + (f", {cut} of them resumed" if cut else "")


@pytest.mark.parametrize("cut", cuts(range(13), soon={7, 12}))
def test_lost_trials_too_are_resumed_as_tried(spark: SparkSession, lost_too: list[Document], cut: int):
    ends = [to_record(document, SPACE) for document in lost_too]
    assert {record.state for record in ends} == {"finished", "pruned", "failed"}
    assert any("Python worker exited" in record.error for record in ends)

    before = [to_document(record, SPACE) for record in ends[:cut]]
    resumed = trials_of(spark, meeting_every_end(), evaluations=12, parallelism=1, before=before).trials

    assert [t["misc"]["vals"] for t in resumed] == [t["misc"]["vals"] for t in lost_too]
    assert [t["result"].get("loss") for t in resumed] == [t["result"].get("loss") for t in lost_too]


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
    outside = TrialRecord(
        0, seed_point(9, 5, 0.1, 0.05, 0.05), "finished", 0.5, -0.5, 1.0, rounds=5, resumed_from="run 7"
    )
    inside = dataclasses.replace(outside, point=seed_point(3, 5, 0.1))

    with pytest.raises(SearchError, match=r"not in the space of this search \[run 7\]"):
        run_search(spark, *halves, SearchPlan(space=SPACE), lambda record: None, [outside])
    with pytest.raises(SearchError, match="two resumed trials have the same number"):
        run_search(spark, *halves, SearchPlan(space=SPACE), lambda record: None, [inside, inside])
