"""Text features as categories: their codes in a matrix, and the levels that a model was fitted on.

What belongs here: codes of levels, and their translation between sets and models. What does not: a frame with text that
is scored (`tracking/category_codes`, which goes with the model), splits on categories (XGBoost's own).

Each matrix numbers the levels that its rows have, in alphabetical order. A model keeps those of the rows it was fitted
on; rows that it scores are translated to its numbers, and a level that it has not seen is missing, for which XGBoost
has learned a direction. So a new level never keeps a row from being scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import xgboost as xgb

from mlops_assets.tracking.category_codes import LEVELS, codes, levels_of

Levels = Mapping[str, tuple[str, ...]]


def encoded(values: pa.ChunkedArray) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the codes of a text column [rows], NaN for null, and its levels in alphabetical order."""
    kept = values.combine_chunks().dictionary_encode()
    known = kept.dictionary.to_pylist()
    levels = tuple(sorted(known))
    place = np.append(codes(known, levels), np.nan)  # the last is that of a missing value
    return place[kept.indices.fill_null(len(known)).to_numpy()], levels


def recoded(
    X: npt.NDArray[np.float32], features: Sequence[str], levels: Levels, wanted: Levels
) -> npt.NDArray[np.float32]:
    """Return rows with the codes of other levels [rows, features]; a level that these lack is NaN.

    Args:
        X: Feature values [rows, features].
        features: Names of the columns.
        levels: What the codes in `X` mean.
        wanted: What the returned codes mean, for the same features.
    """
    if not levels or dict(levels) == dict(wanted):
        return X
    X = X.copy()
    for name, known in levels.items():
        column = X[:, list(features).index(name)]
        place = np.append(codes(known, wanted[name]), np.nan)  # the last is that of a missing value
        column[:] = place[np.where(np.isnan(column), len(known), column).astype(np.int64)]
    return X


def union(parts: Sequence[Levels]) -> Levels:
    """Return all levels of several sets of the same features."""
    return {name: tuple(sorted({level for part in parts for level in part[name]})) for name in parts[0]}


def frozen(booster: xgb.Booster, levels: Levels) -> xgb.Booster:
    """Write the levels that a booster was fitted on into it."""
    if levels:
        booster.set_attr(**{LEVELS: json.dumps({name: list(known) for name, known in levels.items()})})
    return booster


def for_model(
    booster: xgb.Booster, X: npt.NDArray[np.float32], features: Sequence[str], levels: Levels
) -> npt.NDArray[np.float32]:
    """Return rows with the codes that a booster was fitted on [rows, features]."""
    wanted = {name: tuple(known) for name, known in levels_of(booster).items()}
    return recoded(X, features, levels, wanted)


def to_frame(X: npt.NDArray[np.float32], features: Sequence[str], levels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return rows as a caller of the model sends them: float64, and text for categories, None where missing."""
    columns: dict[str, Any] = {name: X[:, at].astype(np.float64) for at, name in enumerate(features)}
    for name, known in levels.items():
        texts = np.array([*known, None], dtype=object)
        column = columns[name]
        columns[name] = texts[np.where(np.isnan(column), len(known), column).astype(np.int64)]
    return pd.DataFrame(columns, columns=list(features))
