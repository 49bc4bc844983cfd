"""The bounds of a search: what XGBoost can do with passes, the rest is refused by name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import SearchError
from mlops_assets.training.space import Point, Range, SearchSpace

HYPERPARAMETERS = ["max_depth", "n_estimators", "learning_rate", "reg_alpha", "base_score"]


def test_the_defaults_are_the_bounds_of_the_seed_project():
    assert SearchSpace().as_dict() == {
        "max_depth": [3, 9],
        "n_estimators": [10, 99],
        "learning_rate": [0.001, 0.5],
        "reg_alpha": [0.01, 0.1],
        "base_score": [0.001, 0.1],
    }


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_depth", 1, 30),
        ("max_depth", 6, 6),
        ("n_estimators", 1, 100_000),
        ("learning_rate", 1e-9, 1),
        ("reg_alpha", 0, 1e9),
        ("base_score", 1e-9, 1 - 1e-9),
        ("base_score", 0.5, 0.5),
    ],
)
def test_bounds_at_the_edge_are_usable(name: str, low: float, high: float):
    assert SearchSpace(**{name: Range(low, high)}).as_dict()[name] == [low, high]


@pytest.mark.parametrize(
    ("name", "low", "high", "said"),
    [
        ("max_depth", 0, 5, "max_depth from 0 to 5 is not usable .* between 1 and 30"),
        ("max_depth", 3, 31, "between 1 and 30"),
        ("max_depth", 6, 5, "max_depth from 6 to 5 is not usable .* low <= high"),
        ("max_depth", 2.5, 6, "max_depth wants whole numbers .* round its bounds"),
        ("n_estimators", 0, 9, "between 1 and 100,000"),
        ("n_estimators", 10, 99.5, "n_estimators wants whole numbers"),
        ("n_estimators", 10, math.inf, "n_estimators from 10 to inf is not usable"),
        ("learning_rate", 0, 0.5, "above 0 and at most 1"),
        ("learning_rate", 0.1, 1.1, "above 0 and at most 1"),
        ("learning_rate", math.nan, 0.5, "learning_rate from nan to 0.5 is not usable"),
        ("learning_rate", 0.1, math.nan, "learning_rate from 0.1 to nan is not usable"),
        ("reg_alpha", -0.1, 1, "0 or more"),
        ("reg_alpha", 0, math.inf, "0 or more, and finite"),
        ("base_score", 0, 0.5, "above 0 and below 1"),
        ("base_score", 0.5, 1, "above 0 and below 1"),
    ],
)
def test_bounds_that_cannot_be_searched_are_refused(name: str, low: float, high: float, said: str):
    with pytest.raises(SearchError, match=said) as caught:
        SearchSpace(**{name: Range(low, high)})
    assert caught.value.where == "search space"


@given(st.sampled_from(HYPERPARAMETERS), st.floats(), st.floats())
def test_whatever_is_accepted_is_an_interval_of_finite_numbers(name: str, low: float, high: float):
    try:
        space = SearchSpace(**{name: Range(low, high)})
    except SearchError as error:
        assert name in error.what  # noqa: PT017 - either end is fine, but nothing else may be raised
        return
    bounds = space.as_dict()[name]
    assert bounds == [low, high]
    assert -math.inf < low <= high < math.inf


def test_a_point_is_named_as_xgboost_names_it():
    point = Point(max_depth=4, n_estimators=50, learning_rate=0.1, reg_alpha=0.02, base_score=0.01)

    assert list(point.as_dict()) == list(SearchSpace().as_dict()) == HYPERPARAMETERS
    assert point.as_dict()["n_estimators"] == 50
