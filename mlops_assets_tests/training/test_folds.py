"""Earlier folds never learn from what came later, and are left out where a table is too short for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.training.folds import Fold, earlier_folds
from mlops_assets.training.matrix import Matrix


def rows(first: int, last: int, per_day: int = 20) -> Matrix:
    """Return rows of the days from first to last, a fraud in ten; the only feature is the day."""
    days = np.repeat(np.arange(first, last + 1), per_day)
    X = days[:, None].astype(np.float32)
    y = (np.arange(len(days)) % 10 == 0).astype(np.uint8)
    return Matrix(("day",), X, y, days, np.ones(len(days)))


def spans(folds: tuple[Fold, ...], train: Matrix) -> list[tuple[int, int, int]]:
    """Return, by fold, the last day it is fitted on and the first and last it is judged on."""
    return [
        (int(train.days[fold.train_rows - 1]), int(fold.validation.days.min()), int(fold.validation.days.max()))
        for fold in folds
    ]


def test_each_fold_ends_where_the_next_begins_and_keeps_the_gap():
    train, gap, validation = rows(0, 59), rows(60, 66), rows(67, 73)

    folds = earlier_folds(train, [gap], validation, folds=4, gap_days=7)

    assert spans(folds, train) == [(52, 60, 66), (45, 53, 59), (38, 46, 52)]


def test_without_a_gap_folds_follow_each_other():
    train = rows(0, 59)

    folds = earlier_folds(train, [], rows(60, 69), folds=3, gap_days=0)

    assert spans(folds, train) == [(49, 50, 59), (39, 40, 49)]


def test_a_gap_of_half_a_day_leaves_out_a_whole_one():
    train = rows(0, 59)

    assert spans(earlier_folds(train, [], rows(60, 69), folds=2, gap_days=0.5), train) == [(48, 50, 59)]


@given(length=st.integers(20, 90), gap=st.integers(0, 9), judged=st.integers(1, 20), folds=st.integers(1, 6))
def test_no_fold_knows_its_own_days_or_later_ones(length: int, gap: int, judged: int, folds: int):
    train, validation = rows(0, length - 1), rows(length + gap, length + gap + judged - 1)
    between = [rows(length, length + gap - 1)] if gap else []

    found = earlier_folds(train, between, validation, folds=folds, gap_days=gap)

    assert len(found) < folds
    before = int(validation.days.min())
    for known, first, last in spans(found, train):
        assert known + gap < first <= last == before - 1
        before = first


def test_one_fold_is_the_validation_set_alone():
    assert earlier_folds(rows(0, 59), [], rows(60, 69), folds=1, gap_days=0) == ()


@pytest.mark.parametrize(
    ("train", "gap", "validation"),
    [
        (rows(0, 18), [rows(19, 25)], rows(26, 35)),  # it would be fitted on fewer rows than it is judged on
        (rows(0, 59), [], rows(67, 73)),  # the gap's rows are not at hand: nothing to judge on
        (rows(0, 69), [], rows(30, 69)),  # stratified: the sets overlap in time
        (dataclasses.replace(rows(0, 59), y=np.zeros(1_200, np.uint8)), [], rows(60, 69)),  # no fraud to learn from
    ],
    ids=["too short", "gap unknown", "stratified", "one class"],
)
def test_a_fold_that_could_not_be_trusted_is_left_out(train: Matrix, gap: list[Matrix], validation: Matrix):
    assert earlier_folds(train, gap, validation, folds=3, gap_days=7) == ()
