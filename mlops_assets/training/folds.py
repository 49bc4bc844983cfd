"""Forward folds: earlier blocks to validate on, each with the training rows that were known before it.

What belongs here: cutting them out of rows that the search has anyway. What does not: fitting and judging on them
(`search/trial`), the three sets (`data/splits`).

One validation block of a week or two has few frauds, so its best trial is partly luck. Folds repeat today's question on
earlier blocks (Gama et al. 2013, "On evaluating stream learning algorithms": prequential evaluation, with blocks in
place of single rows): fit on what was known then, judge on the days after. The newest fold is the validation set
itself. Each earlier one ends where the next begins, covers as many days, and leaves the same gap before it. It may lie
in the gap between the sets: what could not be known when the newest fold begins could be known by its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.training.matrix import joined

if TYPE_CHECKING:
    from mlops_assets.training.matrix import Matrix


@dataclass(frozen=True)
class Fold:
    """An earlier fold.

    Attributes:
        train_rows: It is fitted on that many of the training set's rows, from the first.
        validation: It is judged on these rows.
    """

    train_rows: int
    validation: Matrix


def earlier_folds(
    train: Matrix, gap: Sequence[Matrix], validation: Matrix, *, folds: int, gap_days: float
) -> tuple[Fold, ...]:
    """Return the folds before the validation set, newest first: one less than `folds`, or fewer.

    There are fewer where the table is too short. A fold counts if it is judged on at least half as many rows as the
    validation set has and fitted on at least as many as it is judged on, both with frauds and genuine rows. Sets that
    overlap in time, as after a stratified split, have no earlier folds.

    Args:
        train: The training set.
        gap: Rows between training and validation set, as one matrix or none.
        validation: The validation set.
        folds: Number of folds, that of the validation set included.
        gap_days: Days between the last row that a fold is fitted on and the first that it is judged on.
    """
    start = int(validation.days.min())
    if folds == 1 or int(train.days.max()) > start:
        return ()
    length = int(validation.days.max()) - start + 1
    before = joined([train, *gap])
    found: list[Fold] = []
    for first in range(start - length, start - folds * length, -length):
        inside = (before.days >= first) & (before.days < first + length)
        # The day before the gap must be over: a gap of half a day leaves out a whole one.
        known = int(np.searchsorted(train.days + 1, first - gap_days, side="right"))
        fold = Fold(known, before.where(inside))
        if not _counts(fold, train, validation.rows):
            break
        found.append(fold)
    return tuple(found)


def _counts(fold: Fold, train: Matrix, rows: int) -> bool:
    judged, fitted = fold.validation, train.y[: fold.train_rows]
    return (
        2 * judged.rows >= rows
        and len(fitted) >= judged.rows
        and 0 < judged.frauds < judged.rows
        and 0 < fitted.sum() < len(fitted)
    )
