"""When training is due, and when it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.automation.triggers import SetsFact, TrainedFact, TrainingPace, training_due

PACE = TrainingPace(new_rows=100, days=7)
DAY = 86_400.0


@pytest.mark.parametrize(
    ("sets", "trained", "days", "due", "reason"),
    [
        (None, None, 0, False, "no sets"),
        (SetsFact("0", 500), None, 0, True, "no model has been trained yet"),
        (SetsFact("1", 500), TrainedFact(None, 0), 0, True, "unknown"),
        (SetsFact("1", 600), TrainedFact(SetsFact("0", 500), 0), 0, True, "100 new rows"),
        (SetsFact("1", 599), TrainedFact(SetsFact("0", 500), 0), 6.9, False, "99 of 100 new rows, and 6.9 of 7 days"),
        (SetsFact("1", 501), TrainedFact(SetsFact("0", 500), 0), 7, True, "7.0 days since the last model"),
        (SetsFact("1", 500), TrainedFact(SetsFact("0", 500), 0), 99, False, "0 of 100 new rows"),
        (SetsFact("1", 500, 9), TrainedFact(SetsFact("0", 500, 2), 0), 7, True, "and 0 new rows, 7 late labels"),
        (SetsFact("1", 500, 9), TrainedFact(SetsFact("0", 500, 2), 0), 6, False, "0 of 100 new rows"),
        (SetsFact("1", 500, 9), TrainedFact(SetsFact("0", 500, 9), 0), 99, False, "0 of 100 new rows"),
        (SetsFact("1", 500, table="b"), TrainedFact(SetsFact("0", 500, table="a"), 0), 0, True, "another table"),
        (SetsFact("1", 500, table="b"), TrainedFact(SetsFact("0", 500), 0), 99, False, "0 of 100 new rows"),
        (SetsFact("0", 9_999), TrainedFact(SetsFact("0", 500), 0), 99, False, "already trained on split 0"),
    ],
)
def test_enough_rows_or_enough_time(
    sets: SetsFact | None, trained: TrainedFact | None, days: float, due: bool, reason: str
):
    decision = training_due(sets, trained, days * DAY, PACE)
    assert decision.is_due is due
    assert reason in decision.reason


@given(rows=st.integers(0, 10_000), then=st.integers(0, 10_000), days=st.floats(0, 1_000), version=st.integers(0, 9))
def test_never_twice_for_one_split(rows: int, then: int, days: float, version: int):
    trained = TrainedFact(SetsFact(str(version), then), 0)
    assert not training_due(SetsFact(str(version), rows), trained, days * DAY, PACE).is_due
