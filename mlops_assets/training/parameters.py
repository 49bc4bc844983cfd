"""What can be searched: the numeric parameters, whether they take integers, and the values that are accepted.

What belongs here: facts about XGBoost's parameters and about those of the training rows, as plain values. What does
not: which parameters are searched, and their bounds (`space`), what those of the rows do (`recency`).

XGBoost's names are those of its scikit-learn interface. Left out on purpose: `max_bin` (all trials share one binning
of the rows), the parameters of the `dart` and `gblinear` boosters and of categorical features (the model is a `gbtree`
on numbers), and options whose values are text.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import nextafter
from typing import Final

from mlops_assets.errors import SearchError

_ABOVE_0, _BELOW_1, _FINITE = nextafter(0.0, 1.0), nextafter(1.0, 0.0), sys.float_info.max


@dataclass(frozen=True)
class Parameter:
    """The values that a parameter accepts.

    Attributes:
        type: `int` or `float`.
        low: Smallest accepted value.
        high: Largest accepted value.
        words: The range as text for messages.
    """

    type: type[int | float]
    low: float
    high: float
    words: str

    def parse(self, value: float) -> float:
        """Return a value in the parameter's type."""
        return self.type(value)


_SHARE = Parameter(float, _ABOVE_0, 1, "above 0 and at most 1")
_NOT_NEGATIVE = Parameter(float, 0, _FINITE, "0 or more, and finite")

PARAMETERS: Final[Mapping[str, Parameter]] = {
    "n_estimators": Parameter(int, 1, 100_000, "between 1 and 100,000"),
    "max_depth": Parameter(int, 1, 30, "between 1 and 30"),
    "max_leaves": Parameter(int, 0, 1_000_000, "between 0 (no limit) and 1,000,000"),
    "learning_rate": _SHARE,
    "gamma": _NOT_NEGATIVE,
    "min_child_weight": _NOT_NEGATIVE,
    "max_delta_step": _NOT_NEGATIVE,
    "subsample": _SHARE,
    "colsample_bytree": _SHARE,
    "colsample_bylevel": _SHARE,
    "colsample_bynode": _SHARE,
    "reg_alpha": _NOT_NEGATIVE,
    "reg_lambda": _NOT_NEGATIVE,
    "scale_pos_weight": Parameter(float, _ABOVE_0, _FINITE, "above 0, and finite"),
    "base_score": Parameter(float, _ABOVE_0, _BELOW_1, "above 0 and below 1"),
    "num_parallel_tree": Parameter(int, 1, 1_000, "between 1 and 1,000"),
}
WINDOW, HALF_LIFE = "train_window_days", "half_life_days"
# How much a training row counts by its age: parameters of the fit that are not XGBoost's.
RECENCY: Final[Mapping[str, Parameter]] = {
    WINDOW: Parameter(int, 1, 100_000, "between 1 and 100,000"),
    HALF_LIFE: Parameter(float, _ABOVE_0, _FINITE, "above 0, and finite"),
}
SEARCHABLE: Final[Mapping[str, Parameter]] = {**PARAMETERS, **RECENCY}
# Names of the native interface for some of these.
_NATIVE: Final = {
    "eta": "learning_rate",
    "alpha": "reg_alpha",
    "lambda": "reg_lambda",
    "min_split_loss": "gamma",
    "num_boost_round": "n_estimators",
}


def known(name: str) -> Parameter:
    """Return the type and the range of a parameter.

    Raises:
        SearchError: The parameter does not exist or can't be searched; the error names the closest one.
    """
    parameter = SEARCHABLE.get(name)
    if parameter is not None:
        return parameter
    close = difflib.get_close_matches(name.lower(), [*SEARCHABLE, *_NATIVE], n=1)
    guess = f"did you mean {_NATIVE.get(close[0], close[0])}? " if close else ""
    raise SearchError(
        f"{name!r} is not a parameter that can be searched",
        where="search space",
        fix=f"{guess}The names are {', '.join(SEARCHABLE)}",
    )
