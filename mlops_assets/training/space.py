"""The search space: which hyperparameters are tuned, between which bounds.

What belongs here: the space as plain numbers. What does not: its hyperopt form (`proposals`), how points are tried
(`search`) or judged (`objective`).
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, fields
from math import nextafter

from mlops_assets.errors import SearchError

WHOLE_NUMBERS = ("max_depth", "n_estimators")
_ABOVE_0, _BELOW_1 = nextafter(0.0, 1.0), nextafter(1.0, 0.0)
# What XGBoost can do with: lowest, highest, and the same in words.
_USABLE: dict[str, tuple[float, float, str]] = {
    "max_depth": (1, 30, "between 1 and 30"),
    "n_estimators": (1, 100_000, "between 1 and 100,000"),
    "learning_rate": (_ABOVE_0, 1, "above 0 and at most 1"),
    "reg_alpha": (0, sys.float_info.max, "0 or more, and finite"),
    "base_score": (_ABOVE_0, _BELOW_1, "above 0 and below 1"),
}


@dataclass(frozen=True)
class Range:
    """Closed interval of a hyperparameter; `low == high` fixes it."""

    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One choice of hyperparameters, named as XGBoost's scikit-learn interface names them."""

    max_depth: int
    n_estimators: int
    learning_rate: float
    reg_alpha: float
    base_score: float

    def as_dict(self) -> dict[str, int | float]:
        """Return the values by name."""
        return asdict(self)


@dataclass(frozen=True)
class SearchSpace:
    """Bounds of the search; the defaults are the seed project's.

    Attributes:
        max_depth: Depth of a tree, whole numbers.
        n_estimators: Number of trees, whole numbers.
        learning_rate: Shrinkage per tree.
        reg_alpha: L1 regularization.
        base_score: Prediction before the first tree, a probability.
    """

    max_depth: Range = Range(3, 9)
    n_estimators: Range = Range(10, 99)
    learning_rate: Range = Range(0.001, 0.5)
    reg_alpha: Range = Range(0.01, 0.1)
    base_score: Range = Range(0.001, 0.1)

    def __post_init__(self) -> None:
        for name, (lowest, highest, words) in _USABLE.items():
            bounds: Range = getattr(self, name)
            if not lowest <= bounds.low <= bounds.high <= highest:  # so is NaN refused
                raise SearchError(
                    f"{name} from {bounds.low:g} to {bounds.high:g} is not usable",
                    where="search space",
                    fix=f"choose low <= high, both {words}",
                )
            if name in WHOLE_NUMBERS and (bounds.low % 1 or bounds.high % 1):
                raise SearchError(f"{name} wants whole numbers", where="search space", fix="round its bounds")

    @property
    def is_one_point(self) -> bool:
        """Whether nothing is left to search."""
        return all(low == high for low, high in self.as_dict().values())

    def as_dict(self) -> dict[str, list[float]]:
        """Return the bounds as plain lists, for metadata and tags."""
        return {item.name: [getattr(self, item.name).low, getattr(self, item.name).high] for item in fields(self)}
