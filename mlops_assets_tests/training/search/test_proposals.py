"""A trial that was kept and read back is the document TPE had of it; one of another space is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperopt import Trials, fmin, rand, tpe
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import SearchError
from mlops_assets.training.parameters import PARAMETERS
from mlops_assets.training.records import TrialRecord, TrialState
from mlops_assets.training.search.proposals import decode, proposing, raw_values, to_document, to_hyperopt, to_record
from mlops_assets.training.space import PRESETS, Point, SearchSpace, search_space
from mlops_assets_tests.training.spaces import seed_point, seed_space

SPACE = seed_space(reg_alpha=(0.05, 0.05))
POINTS = st.builds(
    seed_point,
    max_depth=st.integers(3, 9),
    n_estimators=st.integers(10, 99),
    learning_rate=st.floats(0.001, 0.5),
    reg_alpha=st.just(0.05),
    base_score=st.floats(0.001, 0.1),
)


@st.composite
def records(draw: st.DrawFn) -> TrialRecord:
    state: TrialState = draw(st.sampled_from(["finished", "pruned", "failed"]))
    number, point = draw(st.integers(0, 10_000)), draw(POINTS)
    seconds = draw(st.floats(0, 1e5))
    if state == "failed":
        return TrialRecord(number, point, state, None, None, seconds, error=draw(st.text("ab: \n", max_size=20)))
    value = draw(st.floats(-10, 10))
    curve = tuple(draw(st.lists(st.tuples(st.integers(1, 99), st.floats(-10, 10)), max_size=5)))
    return TrialRecord(number, point, state, value, -value, seconds, rounds=draw(st.integers(1, 99)), curve=curve)


@given(records())
def test_a_record_becomes_a_document_and_the_same_record_again(record: TrialRecord):
    assert to_record(to_document(record, SPACE), SPACE) == record


def test_the_document_of_a_trial_has_the_raw_values_that_hyperopt_drew():
    trials = Trials()
    fmin(
        lambda _: 1.0,
        to_hyperopt(SPACE),
        algo=tpe.suggest,
        max_evals=5,
        trials=trials,
        rstate=np.random.default_rng(3),
        show_progressbar=False,
    )
    for drawn in trials.trials:
        point = decode(SPACE, raw_values(drawn))
        rebuilt = to_document(TrialRecord(drawn["tid"], point, "failed", None, None, 0.0), SPACE)
        assert rebuilt["misc"]["vals"] == drawn["misc"]["vals"]
        assert rebuilt["misc"]["idxs"] == drawn["misc"]["idxs"]
        assert set(rebuilt) == set(drawn)


@pytest.mark.parametrize("wrong", [{"max_depth": 10}, {"learning_rate": 0.6}, {"reg_alpha": 0.06}])
def test_a_point_outside_the_space_is_refused(wrong: dict[str, Any]):
    point = {**seed_point(5, 20, 0.1, 0.05, 0.05), **wrong}

    with pytest.raises(SearchError, match="is not in the space"):
        to_document(TrialRecord(0, point, "failed", None, None, 0.0), SPACE)


def test_decode_gives_values_not_indices():
    """`fmin` returns indices for choices; a fixed parameter is not in its result at all."""
    fixed = seed_space(max_depth=(5, 5), n_estimators=(10, 99))

    point = decode(fixed, {"n_estimators": 12.0, "learning_rate": 0.2, "reg_alpha": 0.05, "base_score": 0.01})

    assert point == seed_point(5, 12, 0.2, 0.05, 0.01)
    assert isinstance(point["n_estimators"], int)


def drawn(space: SearchSpace, count: int, seed: int = 3) -> list[Point]:
    trials = Trials()
    fmin(
        lambda _: 1.0,
        to_hyperopt(space),
        algo=rand.suggest,
        max_evals=count,
        trials=trials,
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
    )
    points = [decode(space, raw_values(document)) for document in trials.trials]
    for document, point in zip(trials.trials, points, strict=True):
        record = TrialRecord(document["tid"], point, "failed", None, None, 0.0)
        assert to_document(record, space)["misc"]["vals"] == document["misc"]["vals"], "every proposal can be resumed"
    return points


@pytest.mark.parametrize("preset", PRESETS)
def test_points_of_each_preset_are_inside_and_have_their_types(preset: str):
    space = search_space(preset)
    for point in drawn(space, 50):
        assert list(point) == list(space.ranges)
        for name, item in space.ranges.items():
            assert item.low <= point[name] <= item.high
            assert isinstance(point[name], PARAMETERS[name].type)


def test_a_logarithmic_range_is_drawn_by_orders_of_magnitude_and_a_whole_one_reaches_both_ends():
    space = search_space("seed", {"reg_lambda": {"low": 0.01, "high": 100, "scale": "log_uniform"}})
    points = drawn(space, 400)

    below_1 = sum(point["reg_lambda"] < 1 for point in points)
    assert 160 < below_1 < 240, "half of the orders of magnitude; a uniform range would have 4 of 400"
    assert {point["max_depth"] for point in points} == set(range(3, 10))


def test_the_seed_space_is_proposed_as_it_always_was():
    """What TPE proposes at seed 42, three points at random and then five by what it has learnt, to the last bit.

    The values were recorded before spaces became mappings: unfinished searches of older homes go on, and benchmarks
    compare the same points.
    """
    trials, space = Trials(), search_space("seed")
    fmin(
        lambda values: -float(values["learning_rate"]),
        to_hyperopt(space),
        algo=proposing(space, 3),
        max_evals=8,
        trials=trials,
        rstate=np.random.default_rng(42),
        show_progressbar=False,
    )
    points = [decode(space, raw_values(document)) for document in trials.trials]

    assert points[:2] == [
        seed_point(8, 65, 0.32621945747469805, 0.0832289866876259, 0.07701778337877223),
        seed_point(8, 64, 0.030908158351618864, 0.03703792193114575, 0.056844764529684615),
    ]
    assert points[6:] == [
        seed_point(5, 22, 0.26578355371775186, 0.09913230315137952, 0.00482700834037514),
        seed_point(5, 40, 0.37943007546754015, 0.05582005659918403, 0.023505108365672944),
    ]


def proposed(space: SearchSpace, count: int, random_trials: int) -> list[Point]:
    trials = Trials()
    fmin(
        lambda values: -float(values["learning_rate"]),
        to_hyperopt(space),
        algo=proposing(space, random_trials),
        max_evals=count,
        trials=trials,
        rstate=np.random.default_rng(7),
        show_progressbar=False,
    )
    for document in trials.trials:
        again = to_document(to_record(document | {"result": FAILED}, space), space)
        assert again["misc"]["vals"] == document["misc"]["vals"], "a start can be resumed, too"
    return [decode(space, raw_values(document)) for document in trials.trials]


FAILED = {"status": "fail", "error": "not tried"}


def test_known_settings_are_tried_first_and_the_rest_is_proposed_as_ever():
    space = search_space("wide")
    starts = len(space.starts)

    points = proposed(space, starts + 6, random_trials=4)

    assert starts >= 3
    assert points[:starts] == list(space.starts)
    assert len({tuple(point.items()) for point in points}) == len(points)
    # TPE has learned from the starts: at equal seeds it does not propose what it would without them.
    alone = proposed(SearchSpace(space.ranges), starts + 6, random_trials=starts + 4)
    assert points[starts : starts + 4] == alone[starts : starts + 4], "random points depend on their number only"
    assert points[-1] != alone[-1]


def test_a_budget_below_the_number_of_starts_is_kept():
    space = search_space("wide")
    assert proposed(space, 2, random_trials=1) == list(space.starts[:2])
