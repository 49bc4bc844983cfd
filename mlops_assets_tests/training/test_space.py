"""Ranges of a search: what XGBoost can do with passes, the rest is refused by name; presets; a file of ranges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import SearchError
from mlops_assets.training.objective import booster_parameters
from mlops_assets.training.parameters import PARAMETERS
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.space import (
    PRESETS,
    TREES,
    SearchSpace,
    log_uniform,
    read_ranges,
    search_space,
    uniform,
    whole,
)
from mlops_assets_tests.training.spaces import fixed_space, seed_point, seed_space

HYPERPARAMETERS = ["max_depth", "n_estimators", "learning_rate", "reg_alpha", "base_score"]


def test_the_defaults_are_the_bounds_of_the_seed_project():
    assert search_space("seed").as_dict() == {
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
    assert seed_space(**{name: (low, high)}).as_dict()[name] == [low, high]


@pytest.mark.parametrize(
    ("name", "low", "high", "said"),
    [
        ("max_depth", 0, 5, "the range of max_depth is invalid: 0 to 5 .* between 1 and 30"),
        ("max_depth", 3, 31, "between 1 and 30"),
        ("max_depth", 6, 5, "the range of max_depth is invalid: 6 to 5 .* low <= high"),
        ("max_depth", 2.5, 6, "the bounds of max_depth must be integers .* round its bounds"),
        ("n_estimators", 0, 9, "between 1 and 100,000"),
        ("n_estimators", 10, 99.5, "the bounds of n_estimators must be integers"),
        ("n_estimators", 10, math.inf, "the range of n_estimators is invalid: 10 to inf"),
        ("learning_rate", 0, 0.5, "above 0 and at most 1"),
        ("learning_rate", 0.1, 1.1, "above 0 and at most 1"),
        ("learning_rate", math.nan, 0.5, "the range of learning_rate is invalid: nan to 0.5"),
        ("learning_rate", 0.1, math.nan, "the range of learning_rate is invalid: 0.1 to nan"),
        ("reg_alpha", -0.1, 1, "0 or more"),
        ("reg_alpha", 0, math.inf, "0 or more, and finite"),
        ("base_score", 0, 0.5, "above 0 and below 1"),
        ("base_score", 0.5, 1, "above 0 and below 1"),
    ],
)
def test_bounds_that_cannot_be_searched_are_refused(name: str, low: float, high: float, said: str):
    with pytest.raises(SearchError, match=said) as caught:
        seed_space(**{name: (low, high)})
    assert caught.value.where == "search space"


@given(st.sampled_from(HYPERPARAMETERS), st.floats(), st.floats())
def test_whatever_is_accepted_is_an_interval_of_finite_numbers(name: str, low: float, high: float):
    try:
        space = seed_space(**{name: (low, high)})
    except SearchError as error:
        assert name in error.what  # noqa: PT017 - either end is fine, but nothing else may be raised
        return
    bounds = space.as_dict()[name]
    assert bounds == [low, high]
    assert -math.inf < low <= high < math.inf


def test_a_point_is_named_as_xgboost_names_it():
    point = seed_point(4, 50, 0.1, reg_alpha=0.02, base_score=0.01)

    assert list(search_space("seed").to_point(point)) == list(search_space("seed").as_dict()) == HYPERPARAMETERS
    assert search_space("seed").to_point(point)["n_estimators"] == 50


def test_every_known_parameter_is_one_that_xgboost_has_and_takes_its_bounds():
    """The list is closed, and XGBoost itself is the witness: it warns of a parameter that it does not use."""
    assert set(PARAMETERS) <= set(xgb.XGBClassifier().get_params())
    X, y = np.random.default_rng(1).random((60, 2), dtype=np.float32), np.arange(60) % 2
    for name, known in PARAMETERS.items():
        for value in (max(known.low, 1e-6), min(known.high, 8 if known.type is int else 0.9)):
            point = {**seed_point(2, 3, 0.3), name: known.parse(value)}
            xgb.train(
                {**booster_parameters(point, seed=1, threads=1), "validate_parameters": True},
                xgb.QuantileDMatrix(X, label=y),
                num_boost_round=2,
            )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("subsamle", "did you mean subsample"),
        ("eta", "did you mean learning_rate"),
        ("Max_Depth", "did you mean max_depth"),
        ("max_bin", "'max_bin' is not a parameter that can be searched"),
        ("", "The names are n_estimators, max_depth"),
    ],
)
def test_an_unknown_name_is_refused_and_the_close_one_is_named(name: str, said: str):
    with pytest.raises(SearchError, match=said):
        search_space("seed", {name: {"low": 0.5, "high": 1}})


def test_any_xgboost_parameter_can_be_added_to_a_preset():
    space = search_space("seed", {"subsample": {"low": 0.5, "high": 1}, "max_leaves": {"low": 0, "high": 64}})

    assert space.ranges == {**PRESETS["seed"], "subsample": uniform(0.5, 1), "max_leaves": whole(0, 64)}


def test_a_scale_that_is_not_given_is_the_presets_and_a_later_mapping_wins():
    given = {"learning_rate": {"low": 0.05, "high": 0.2}}

    assert search_space("wide", given).ranges["learning_rate"] == log_uniform(0.05, 0.2)
    assert search_space("seed", given).ranges["learning_rate"] == uniform(0.05, 0.2)
    scaled = {"learning_rate": {"low": 0.1, "high": 0.2, "scale": "log_uniform"}}
    assert search_space("seed", given, scaled).ranges["learning_rate"] == log_uniform(0.1, 0.2)


def test_the_wide_preset_regularizes_and_leaves_calibration_and_the_number_of_trees_alone():
    wide = search_space("wide")

    assert {"min_child_weight", "reg_lambda", "max_delta_step", "subsample", "colsample_bytree"} <= set(wide.free)
    assert wide.ranges["learning_rate"].scale == wide.ranges["min_child_weight"].scale == "log_uniform"
    # Early stopping ends trials, below a limit that no point of the seed's reaches.
    assert "n_estimators" not in wide.free
    assert wide.ranges["n_estimators"].low > PRESETS["seed"]["n_estimators"].high
    assert not {"base_score", "scale_pos_weight"} & set(wide.ranges)
    # While early stopping waits, the slowest learner comes to a full step.
    assert wide.ranges["learning_rate"].low * SearchPlan().early_stopping_rounds >= 1


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"max_depth": {"low": 3}}, "the range of max_depth is invalid"),
        ({"max_depth": [3, 9]}, "the range of max_depth is invalid"),
        ({"max_depth": {"low": "three", "high": 9}}, "write it as low, high"),
        ({"max_depth": {"low": 3, "high": 9, "step": 2}}, "the range of max_depth is invalid"),
        ({"max_depth": {"low": 3, "high": 9, "scale": "log"}}, "one of uniform, log_uniform, whole"),
        ({"max_depth": {"low": 3, "high": 9, "scale": "uniform"}}, "make its scale whole"),
        ({"reg_lambda": {"low": 0, "high": 9, "scale": "log_uniform"}}, "choose a low above 0"),
        ({"gamma": {"low": 0.5, "high": 9, "scale": "whole"}}, "the bounds of gamma must be integers"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(ranges: dict[str, Any], said: str):
    with pytest.raises(SearchError, match=said):
        search_space("seed", ranges)


def test_an_unknown_preset_and_a_space_without_trees_are_refused():
    with pytest.raises(SearchError, match="choose one of seed, wide"):
        search_space("narrow")
    with pytest.raises(SearchError, match="give a range for n_estimators"):
        SearchSpace({"max_depth": whole(3, 4)})


def test_a_space_of_one_point_has_nothing_to_choose():
    assert fixed_space(seed_point(3, 5, 0.1)).is_one_point
    assert not seed_space(max_depth=(3, 3)).is_one_point


def test_ranges_can_be_read_from_a_yaml_file(tmp_path: Path):
    file = tmp_path / "ranges.yaml"
    file.write_text("max_depth: {low: 3, high: 5}\nreg_lambda: {low: 1, high: 9, scale: log_uniform}\n")

    space = search_space("seed", read_ranges(file))

    assert (space.ranges["max_depth"], space.ranges["reg_lambda"]) == (whole(3, 5), log_uniform(1, 9))


@pytest.mark.parametrize("content", ["- max_depth", "max_depth", "{", "a: !!python/object/apply:os.getcwd []", None])
def test_a_file_that_holds_no_ranges_is_one_clear_error(tmp_path: Path, content: str | None):
    file = tmp_path / "ranges.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SearchError, match=r"ranges\.yaml\] Fix: "):
        read_ranges(file)


def test_starts_lie_in_their_space_and_narrower_or_other_ranges_leave_them_out():
    wide = search_space("wide")
    assert all(item.low <= start[name] <= item.high for start in wide.starts for name, item in wide.ranges.items())
    assert all(start[TREES] == 500 for start in wide.starts), "what is fixed is the space's"
    assert search_space("seed").starts == (), "the seed's search stays what it was"

    slow = search_space("wide", {"learning_rate": {"low": 0.01, "high": 0.1}})
    assert {start["learning_rate"] for start in slow.starts} == {0.05, 0.1}
    assert search_space("wide", {"gamma": {"low": 0.1, "high": 1}}).starts == ()
    fixed = search_space("wide", {"max_depth": {"low": 4, "high": 4}})
    assert len(fixed.starts) == len(wide.starts)
    assert {start["max_depth"] for start in fixed.starts} == {4}


def test_one_start_is_xgboost_s_own_default_as_far_as_the_ranges_go():
    """The witness is what the library reports of a model that was given no setting; max_delta_step ends at 10 here."""
    data = xgb.DMatrix(np.array([[0.0], [1.0]]), label=[0, 1])
    tree = json.loads(xgb.train({}, data, 1).save_config())["learner"]["gradient_booster"]["tree_train_param"]
    defaults = {name: float(tree[name]) for name in ("max_depth", "learning_rate", "min_child_weight", "subsample")}
    defaults |= {"colsample_bytree": float(tree["colsample_bytree"]), "reg_lambda": float(tree["reg_lambda"])}

    found = [{name: start[name] for name in defaults} for start in search_space("wide").starts]
    assert any(start == pytest.approx(defaults) for start in found)  # XGBoost keeps floats of 32 bits


def test_the_anchor_is_the_first_start_with_trees_that_go_with_its_steps():
    wide = search_space("wide")
    assert wide.anchor == {**wide.starts[0], TREES: 300}
    assert search_space("seed").anchor is None, "the seed's model stays what it was"
    assert search_space("wide", {"gamma": {"low": 0.1, "high": 1}}).anchor is None
    assert search_space("wide", {"learning_rate": {"low": 0.1, "high": 0.3}}).anchor is None, "its steps are smaller"
    fast = search_space("wide", {"learning_rate": {"low": 0.3, "high": 0.3}}).anchor
    assert fast is not None
    assert (fast["learning_rate"], fast[TREES]) == (0.3, 50)
    few = search_space("wide", {TREES: {"low": 20, "high": 20}}).anchor
    assert few is not None
    assert few[TREES] == 20
