"""A trial that was kept and read back is the document TPE had of it; one of another space is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hyperopt import Trials, fmin, tpe
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import SearchError
from mlops_assets.training.records import TrialRecord, TrialState
from mlops_assets.training.search.proposals import decode, raw_values, to_document, to_hyperopt, to_record
from mlops_assets.training.space import Point, Range, SearchSpace

SPACE = SearchSpace(reg_alpha=Range(0.05, 0.05))
POINTS = st.builds(
    Point,
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
    point = dataclasses.replace(Point(5, 20, 0.1, 0.05, 0.05), **wrong)

    with pytest.raises(SearchError, match="is not in the space"):
        to_document(TrialRecord(0, point, "failed", None, None, 0.0), SPACE)


def test_decode_gives_values_not_indices():
    """`fmin` returns indices for choices; a fixed parameter is not in its result at all."""
    fixed = SearchSpace(max_depth=Range(5, 5), n_estimators=Range(10, 99))

    point = decode(fixed, {"n_estimators": 12.0, "learning_rate": 0.2, "reg_alpha": 0.05, "base_score": 0.01})

    assert point == Point(5, 12, 0.2, 0.05, 0.01)
    assert isinstance(point.n_estimators, int)
