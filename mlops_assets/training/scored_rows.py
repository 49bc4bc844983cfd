"""Rows of a set with a model's scores, whichever engine scored them.

What belongs here: their form, and what can be derived from several sets of them. What does not: scoring over a cluster
(`engines/distributed_model`), choosing a threshold and evaluating (`final_model`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.cards import PastFrauds
from mlops_assets.training.categories import for_model
from mlops_assets.training.objective import predict

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops_assets.training.matrix import Matrix


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a set with the model's scores, in the order of `Matrix`.

    Attributes:
        y: uint8 [rows], 1 = fraud.
        scores: Probability of fraud, float32 [rows].
        days: int64 [rows], day number of the event.
        amounts: float64 [rows], amount of money, or None when the contract has no amount.
        entities: int64 [rows], id of the row's card (`matrix.entity_ids`), or None when the contract has no entity.
        rows_at: Returns feature values, float32 [asked, features], of the rows at positions [asked], as the model that
            scored them knows categories.
        on_whole_day: bool [rows], as in `Matrix`.
    """

    y: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    days: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64] | None
    entities: npt.NDArray[np.int64] | None
    rows_at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
    on_whole_day: npt.NDArray[np.bool_] | None = None


def scored(booster: xgb.Booster, data: Matrix) -> ScoredRows:
    """Return the rows of a matrix, scored."""

    def rows_at(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return for_model(booster, data.X[positions], data.features, data.levels)

    return ScoredRows(
        data.y, predict(booster, data), data.days, data.amounts, data.entities, rows_at, data.on_whole_day
    )


def past_frauds(
    sets: Sequence[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]],
    label_delay_days: float,
) -> PastFrauds | None:
    """Return the frauds of sets, each given as labels, days and entities; None when the contract has no entity."""
    entities, days = [], []
    for y, day, entity in sets:
        if entity is None:
            return None
        frauds = (y == 1) & (entity >= 0)  # below 0: no entity
        entities.append(entity[frauds])
        days.append(day[frauds])
    return PastFrauds(np.concatenate(entities), np.concatenate(days), label_delay_days)


def pooled(parts: Sequence[ScoredRows]) -> ScoredRows:
    """Return scored rows of several folds as one; features can be asked for of the first one's rows only."""
    if len(parts) == 1:
        return parts[0]
    amounts = [part.amounts for part in parts if part.amounts is not None]
    entities = [part.entities for part in parts if part.entities is not None]
    whole = [np.ones(len(part.y), bool) if part.on_whole_day is None else part.on_whole_day for part in parts]
    return ScoredRows(
        y=np.concatenate([part.y for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        days=np.concatenate([part.days for part in parts]),
        amounts=np.concatenate(amounts) if amounts else None,
        entities=np.concatenate(entities) if entities else None,
        rows_at=parts[0].rows_at,
        on_whole_day=np.concatenate(whole),
    )
