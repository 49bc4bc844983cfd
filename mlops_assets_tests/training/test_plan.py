"""The plan refuses what makes no sense; the key tells searches apart that can't share trials, and no others."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from mlops_assets.errors import SearchError
from mlops_assets.training.engines.choice import choose_engine
from mlops_assets.training.engines.cluster_memory import ClusterMemory
from mlops_assets.training.plan import SearchPlan, search_key
from mlops_assets.training.space import search_space
from mlops_assets_tests.training.spaces import fixed_space, seed_point, seed_space

DATA = {"train": "file:/lake/train@3", "xgboost": "3.2.0"}
KEY = search_key(SearchPlan(), DATA)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("trials", 0),
        ("parallelism", -1),
        ("threads", -1),
        ("early_stopping_rounds", -5),
        ("checkpoint_rounds", 0),
        ("max_seconds", -1.0),
        ("max_seconds", math.nan),
        ("max_seconds", math.inf),
        ("screening", 0),
        ("screening", 1.1),
        ("screening", math.nan),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(option: str, wrong: Any):
    with pytest.raises(SearchError, match=f"{option} is"):
        dataclasses.replace(SearchPlan(), **{option: wrong})


@pytest.mark.parametrize(
    "changed",
    [
        {"space": seed_space(max_depth=(3, 8))},
        {"objective": "log_loss"},
        {"trials": 21},
        {"threads": 2},
        {"seed": 43},
        {"early_stopping_rounds": 0},
        {"pruning": False},
        {"checkpoint_rounds": 10},
        {"folds": 3},
        {"screening": 0.1},
    ],
)
def test_what_shapes_proposals_or_values_changes_the_key(changed: dict[str, Any]):
    assert search_key(dataclasses.replace(SearchPlan(), **changed), DATA) != KEY


def test_each_option_is_either_in_the_key_or_known_not_to_be():
    """A new option has to be put into one of the two lists of this file."""
    assert {item.name for item in dataclasses.fields(SearchPlan)} == {
        *("space", "objective", "trials", "threads", "seed", "early_stopping_rounds", "pruning", "checkpoint_rounds"),
        *("folds", "screening", "parallelism", "use_idle_slots", "max_seconds", "bagging"),
    }


@pytest.mark.parametrize(
    "changed", [{"parallelism": 8}, {"use_idle_slots": True}, {"max_seconds": 60.0}, {"bagging": 3}]
)
def test_how_fast_how_far_and_what_is_made_of_it_does_not_change_the_key(changed: dict[str, Any]):
    assert search_key(dataclasses.replace(SearchPlan(), **changed), DATA) == KEY


def test_screening_adds_a_trial_for_each_third_point_that_is_not_a_start():
    narrow, wide = (SearchPlan(space=space, trials=10, screening=0.1) for space in (seed_space(), search_space("wide")))

    assert (narrow.screened_points, narrow.most_trials) == (10, 14)
    assert (wide.screened_points, wide.most_trials) == (7, 13)
    assert dataclasses.replace(wide, trials=2).most_trials == 2  # starts only
    assert dataclasses.replace(wide, screening=1).most_trials == 10
    assert SearchPlan(space=fixed_space(seed_point(3, 10, 0.1)), screening=0.1).most_trials == 1


def test_screening_and_further_points_at_the_end_do_not_go_together():
    with pytest.raises(SearchError, match="free slots can't try further points"):
        SearchPlan(screening=0.1, use_idle_slots=True)


def test_screening_needs_the_engine_in_memory():
    memory = ClusterMemory(10**6)
    plan = SearchPlan(screening=0.1)

    assert choose_engine(1_000_000, 30, memory, only_in_memory=SearchPlan().only_in_memory).engine == "distributed"
    with pytest.raises(SearchError, match="the engine distributed can't use screening"):
        choose_engine(1_000_000, 30, memory, only_in_memory=plan.only_in_memory)


def test_data_and_versions_change_the_key_and_their_order_does_not():
    assert search_key(SearchPlan(), {**DATA, "train": "file:/lake/train@4"}) != KEY
    assert search_key(SearchPlan(), {**DATA, "xgboost": "3.2.1"}) != KEY
    assert search_key(SearchPlan(), dict(reversed(DATA.items()))) == KEY
    whole, real = (SearchPlan(space=seed_space(max_depth=bounds)) for bounds in ((3, 9), (3.0, 9.0)))
    assert search_key(real, DATA) == search_key(whole, DATA)


@pytest.mark.parametrize(
    ("early_stopping", "pruning", "watched"), [(0, False, False), (0, True, True), (20, False, True), (20, True, True)]
)
def test_a_plan_without_early_stopping_and_pruning_is_not_watched(early_stopping: int, pruning: bool, watched: bool):
    assert SearchPlan(early_stopping_rounds=early_stopping, pruning=pruning).watched == watched
