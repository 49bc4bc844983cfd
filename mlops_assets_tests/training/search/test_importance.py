"""Functional ANOVA: exact on trees whose decomposition is known, and right on functions whose shares are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search.importance import FEWEST_TRIALS, _shares, parameter_importance
from mlops_assets.training.space import Point, Range, SearchSpace

SPACE = SearchSpace()
NAMES = tuple(SPACE.as_dict())


def trials(count: int, value: Callable[[dict[str, float]], float], seed: int = 1) -> list[TrialRecord]:
    """Return finished trials at random points; `value` gets the point's place in the space, each in [0, 1]."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        place = dict(zip(NAMES, random.random(len(NAMES)).tolist(), strict=True))
        raw = {name: low + place[name] * (high - low) for name, (low, high) in SPACE.as_dict().items()}
        point = Point(
            round(raw["max_depth"]),
            round(raw["n_estimators"]),
            raw["learning_rate"],
            raw["reg_alpha"],
            raw["base_score"],
        )
        result = value(place)
        found.append(TrialRecord(number, point, "finished", result, -result, 1.0))
    return found


def test_a_trees_shares_are_those_of_brute_force():
    """Compared with the mean over a fine grid, which is what the exact sums stand for."""
    random = np.random.default_rng(4)
    X = random.random((80, 3))
    y = np.sin(5 * X[:, 0]) + X[:, 1] * X[:, 2]
    tree = DecisionTreeRegressor(min_samples_leaf=3, random_state=0).fit(X, y)
    side = 60
    axis = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    predicted = tree.predict(grid).reshape(side, side, side)
    brute = [np.var(predicted.mean(axis=tuple({0, 1, 2} - {dimension}))) / np.var(predicted) for dimension in range(3)]

    found = _shares(tree.tree_, 3)

    assert found is not None
    assert found == pytest.approx(brute, abs=0.02)
    assert 0 < found.sum() <= 1


def test_a_parameter_that_decides_alone_has_all_the_importance():
    found = parameter_importance(trials(200, lambda place: place["learning_rate"]), SPACE, seed=3)

    assert found is not None
    assert found.trials == 200
    assert found.share["learning_rate"] > 0.9
    assert sum(found.share.values()) + found.together == pytest.approx(1)


def test_known_shares_of_a_sum_are_found():
    """Of 2a + b with independent uniform a and b, a has 4/5 of the variance."""
    found = parameter_importance(
        trials(600, lambda place: 2 * place["learning_rate"] + place["reg_alpha"]), SPACE, seed=3
    )

    assert found is not None
    assert found.share["learning_rate"] == pytest.approx(0.8, abs=0.08)
    assert found.share["reg_alpha"] == pytest.approx(0.2, abs=0.08)


def test_what_only_two_explain_together_is_not_given_to_either():
    def checkerboard(place: dict[str, float]) -> float:
        return float((place["learning_rate"] > 0.5) == (place["reg_alpha"] > 0.5))

    found = parameter_importance(trials(600, checkerboard), SPACE, seed=3)

    assert found is not None
    assert found.together > 0.6


def test_the_same_trials_and_seed_give_the_same_shares():
    searched = trials(50, lambda place: place["max_depth"])

    assert parameter_importance(searched, SPACE, seed=3) == parameter_importance(searched, SPACE, seed=3)
    assert parameter_importance(searched, SPACE, seed=3) != parameter_importance(searched, SPACE, seed=4)


def test_only_finished_trials_count():
    searched = trials(FEWEST_TRIALS, lambda place: place["max_depth"])
    pruned = [replace(one, state="pruned", value=-1e6) for one in trials(50, lambda place: place["reg_alpha"])]

    assert parameter_importance([*searched, *pruned], SPACE, seed=3) == parameter_importance(searched, SPACE, seed=3)
    assert parameter_importance([*searched[1:], *pruned], SPACE, seed=3) is None


def test_a_fixed_parameter_has_no_importance():
    space = replace(SPACE, reg_alpha=Range(0.05, 0.05))

    found = parameter_importance(trials(50, lambda place: place["max_depth"]), space, seed=3)

    assert found is not None
    assert set(found.share) == set(NAMES) - {"reg_alpha"}


def test_trials_that_are_all_the_same_say_nothing():
    assert parameter_importance(trials(50, lambda place: 0.5), SPACE, seed=3) is None


def test_a_space_of_one_point_has_nothing_to_be_important():
    space = SearchSpace(*(Range(high, high) for _, high in SPACE.as_dict().values()))

    assert parameter_importance(trials(50, lambda place: place["max_depth"]), space, seed=3) is None
