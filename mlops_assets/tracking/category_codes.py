"""Categories of a model: its levels, kept in the booster, and a scorer of frames that hold text, or booleans with gaps.

What belongs here: what a scored frame needs. What does not: how levels are found and fitted on (`training/categories`).

A copy of this file goes with each model that has categories or booleans that may be missing, and MLflow loads the model
through it: it imports nothing of this package. The booster stays in XGBoost's own format; its attribute
`category_levels` says what its codes mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow.xgboost
import numpy as np
import numpy.typing as npt
import pandas as pd

LEVELS = "category_levels"


def levels_of(booster: Any) -> dict[str, list[str]]:
    """Return the levels of a booster by feature, in the order of their codes; empty where it has no categories."""
    levels: dict[str, list[str]] = json.loads(booster.attr(LEVELS) or "{}")
    return levels


def codes(values: Sequence[Any], levels: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the place of each value among the levels [rows]; NaN, which is missing, for any other and for none."""
    place = {level: float(number) for number, level in enumerate(levels)}
    return np.array([place.get(value, np.nan) for value in values], dtype=np.float64)


def flags(name: str, values: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Return booleans as 1 and 0 [rows], NaN where there is none; raises ValueError for anything else."""
    missing = pd.isna(pd.Series(values, dtype=object)).to_numpy()
    if any(not isinstance(value, bool | np.bool_) for value, gone in zip(values, missing, strict=True) if not gone):
        raise ValueError(f"column {name}: values must be True, False or missing")
    return np.array([np.nan if gone else value for value, gone in zip(values, missing, strict=True)], dtype=np.float64)


class Scorer:
    """MLflow's own scorer of a booster, given codes in place of text, and numbers in place of booleans with gaps."""

    def __init__(self, scorer: Any) -> None:
        self._scorer, self._levels = scorer, levels_of(scorer.get_raw_model())

    def get_raw_model(self) -> Any:
        """Return the booster."""
        return self._scorer.get_raw_model()

    def predict(self, dataframe: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Any:
        """Return the score of each row."""
        coded = {name: codes(list(dataframe[name]), levels) for name, levels in self._levels.items()}
        others = [name for name in dataframe.columns if name not in coded and dataframe[name].dtype == object]
        coded |= {name: flags(name, list(dataframe[name])) for name in others}
        return self._scorer.predict(dataframe.assign(**coded), params)


def _load_pyfunc(path: str) -> Scorer:
    """Load the model, as `mlflow.pyfunc` asks its loader to."""
    return Scorer(mlflow.xgboost._load_pyfunc(path))  # noqa: SLF001 - the loader that this one stands in for
