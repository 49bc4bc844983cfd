"""Parallelism and threads from the slots there are; a choice that does not fit is kept and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.slots import choose_slots, count_slots, fit_slots
from mlops_assets_tests.training.spaces import fixed_space, seed_point

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@given(st.integers(1, 1_000), st.integers(1, 1_000), st.integers(1, 64))
def test_left_to_itself_it_fills_the_slots_and_leaves_tpe_something_to_learn_from(trials: int, slots: int, cpus: int):
    chosen = fit_slots(SearchPlan(trials=trials), slots, cpus)

    assert chosen.parallelism == max(1, min(slots, trials // 4, 128))
    assert chosen.threads == cpus
    assert not any("above" in note for note in chosen.notes)


@pytest.mark.parametrize(
    ("plan", "note"),
    [
        (SearchPlan(trials=100, parallelism=9), "above the cluster's 8 task slots"),
        (SearchPlan(trials=20, parallelism=6), "above a quarter of the 20 trials"),
        (SearchPlan(trials=4_000, parallelism=500), "is capped at 128"),
        (SearchPlan(trials=8), "6 of the cluster's 8 task slots stay idle"),
        (SearchPlan(trials=100, threads=8), "fits compete for cores"),
        (SearchPlan(trials=100, threads=1), "cores stay idle"),
    ],
)
def test_what_does_not_fit_is_said(plan: SearchPlan, note: str):
    chosen = fit_slots(plan, slots=8, cpus=4)

    assert any(note in said for said in chosen.notes)
    assert chosen.parallelism == min(plan.parallelism, 128) or not plan.parallelism


def test_what_fits_needs_no_words():
    assert fit_slots(SearchPlan(trials=100, parallelism=8), slots=8, cpus=4).notes == ()


def test_one_point_needs_one_slot():
    one = fixed_space(seed_point(3, 12, 0.3))

    assert fit_slots(SearchPlan(space=one, trials=100), slots=8, cpus=1).parallelism == 1


def test_slots_are_tasks_and_not_cores(spark: SparkSession):
    assert count_slots(spark.sparkContext, cpus=1) == 2
    assert choose_slots(spark, SearchPlan(trials=8)).parallelism == 2
