"""The search space: the hyperparameters to tune, and their bounds.

What belongs here: the presets, the ranges that a user adds, and their validation, as plain numbers. What does not: the
values that XGBoost accepts (`parameters`), the space in hyperopt's terms (`search/proposals`), trials (`search`).

To search one more parameter, add a line to a preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from mlops_assets.errors import SearchError
from mlops_assets.training.parameters import known

Scale = Literal["uniform", "log_uniform", "whole"]
# One choice of hyperparameters: name to value, an int where the parameter takes integers.
Point = Mapping[str, float]

TREES: Final = "n_estimators"


@dataclass(frozen=True)
class Range:
    """Closed interval of a hyperparameter and the scale for drawing values; `low == high` fixes the value."""

    low: float
    high: float
    scale: Scale


def uniform(low: float, high: float) -> Range:
    """Return a range in which every value is equally likely."""
    return Range(low, high, "uniform")


def log_uniform(low: float, high: float) -> Range:
    """Return a range in which every order of magnitude is equally likely."""
    return Range(low, high, "log_uniform")


def whole(low: float, high: float) -> Range:
    """Return a range of integers, all equally likely."""
    return Range(low, high, "whole")


_OF_STARTS: Final = (
    "max_depth",
    "learning_rate",
    "min_child_weight",
    "max_delta_step",
    "subsample",
    "colsample_bytree",
    "reg_lambda",
)
PRESETS: Final[Mapping[str, Mapping[str, Range]]] = {
    # The bounds of the project that the benchmarks compare this one with.
    "seed": {
        "max_depth": whole(3, 9),
        "n_estimators": whole(10, 99),
        "learning_rate": uniform(0.001, 0.5),
        "reg_alpha": uniform(0.01, 0.1),
        "base_score": uniform(0.001, 0.1),
    },
    # Row and column shares and depth are those of Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular
    # Data", of Grinsztajn et al. 2022, "Why do tree-based models still outperform deep learning on tabular data?", or
    # both (depth 3-10 and 1-11; shares 0.5-1). As in the latter, early stopping and not the search chooses the number
    # of trees, below a fixed limit, and min_child_weight ends at 100. It is a sum of p (1 - p), to which a fraud that
    # the model is sure of adds little, so its lower end is a tenth of theirs. The L2 term spans three orders of
    # magnitude around XGBoost's default of 1; Gorishniy et al. go up to 100, too. XGBoost's documentation advises a
    # max_delta_step of 1 to 10 for very unbalanced classes. The largest learning rate is XGBoost's default, the
    # smallest the one at which the 20 trees that early stopping waits come to one full step: below, it would mistake
    # slow for finished.
    #
    # Not searched on purpose: base_score and scale_pos_weight (docs/how-to/search.md has the reasons), and reg_alpha,
    # which does the work of reg_lambda and min_child_weight a third time.
    "wide": {
        "max_depth": whole(3, 10),
        "n_estimators": whole(500, 500),
        "learning_rate": log_uniform(0.05, 0.3),
        "min_child_weight": log_uniform(0.1, 100),
        "max_delta_step": log_uniform(1, 10),
        "subsample": uniform(0.5, 1),
        "colsample_bytree": uniform(0.5, 1),
        "reg_lambda": log_uniform(0.1, 100),
    },
}

# What a search tries first: settings that people write down without one. So it is at least as good as they are on the
# validation rows, however small its budget. The last is XGBoost's own default, as far as the ranges go. The first one,
# with the trees that go with its small steps, is the anchor (`members`).
STARTS: Final[Mapping[str, tuple[Mapping[str, float], ...]]] = {
    "wide": tuple(
        dict(zip(_OF_STARTS, values, strict=True))
        for values in ((5, 0.05, 5, 10, 0.8, 0.8, 1), (6, 0.1, 1, 10, 0.8, 0.8, 1), (6, 0.3, 1, 10, 1, 1, 1))
    )
}
# Learning rate times trees of the anchor: 300 trees of 0.05, or fewer that take larger steps.
ANCHOR_STEPS: Final = 15


@dataclass(frozen=True)
class SearchSpace:
    """A range for each hyperparameter of a search.

    Attributes:
        ranges: Range by name of the parameter in XGBoost's scikit-learn interface; includes the number of trees.
        starts: Points that a search tries first.
        anchor: Point that the final model partly consists of, with the number of trees that it is fitted with
            (`members`); None for none.

    Raises:
        SearchError: A name is unknown, or a range is invalid for its parameter.
    """

    ranges: Mapping[str, Range]
    starts: tuple[Point, ...] = ()
    anchor: Point | None = None

    def __post_init__(self) -> None:
        for name, item in self.ranges.items():
            _require_usable(name, item)
        if TREES not in self.ranges:
            raise SearchError("the number of trees is missing", where="search space", fix=f"give a range for {TREES}")

    @property
    def is_one_point(self) -> bool:
        """Whether every parameter is fixed."""
        return not self.free

    @property
    def free(self) -> dict[str, Range]:
        """The ranges of the parameters that are not fixed."""
        return {name: item for name, item in self.ranges.items() if item.low != item.high}

    def to_point(self, values: Mapping[str, Any]) -> Point:
        """Return the values of all parameters as a point: each in its parameter's type, in the order of `ranges`."""
        return {name: known(name).parse(values[name]) for name in self.ranges}

    def as_dict(self) -> dict[str, list[float | str]]:
        """Return the bounds as plain lists, for params and keys; a logarithmic scale is appended."""
        return {
            name: [item.low, item.high, *([item.scale] if item.scale == "log_uniform" else [])]
            for name, item in self.ranges.items()
        }


def search_space(preset: str, *changes: Mapping[str, Any]) -> SearchSpace:
    """Return a preset with ranges replaced or added.

    Starts of the preset that are outside the ranges, or lack a parameter that was added, are left out; so is the anchor
    if the first start is.

    Args:
        preset: Name of the preset.
        changes: Range by name of the parameter, each a mapping with `low`, `high` and, to override the preset's,
            `scale` (`uniform`, `log_uniform` or `whole`); the later mapping wins.

    Raises:
        SearchError: The preset does not exist, a name is unknown, or a range is invalid.
    """
    if preset not in PRESETS:
        raise SearchError(f"unknown preset {preset!r}", where="search space", fix=f"choose one of {', '.join(PRESETS)}")
    ranges = dict(PRESETS[preset])
    for change in changes:
        ranges |= {str(name): _parse(str(name), given, ranges.get(str(name))) for name, given in change.items()}
    space, given = SearchSpace(ranges), STARTS.get(preset, ())
    first = _fitting(space, given[:1])
    return SearchSpace(ranges, _fitting(space, given), _anchor(space, first[0]) if first else None)


def read_ranges(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file of ranges, for `search_space`.

    ```yaml
    max_depth: {low: 3, high: 8}
    min_child_weight: {low: 0.1, high: 100, scale: log_uniform}
    ```

    Raises:
        SearchError: The file can't be read, or is not a mapping of names to ranges.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise SearchError(
            f"the ranges can't be read: {reason}", where=str(path), fix="name a YAML file that this machine can read"
        ) from error
    if not isinstance(content, dict):
        raise SearchError(
            "the file does not map names to ranges",
            where=str(path),
            fix="write lines like `max_depth: {low: 3, high: 8}`",
        )
    return content


def _fitting(space: SearchSpace, starts: Iterable[Mapping[str, float]]) -> tuple[Point, ...]:
    """Return the starts that lie in a space as points of it; what the space fixes is taken from it."""
    fixed = {name: item.low for name, item in space.ranges.items() if name not in space.free}
    return tuple(
        space.to_point(start | fixed)
        for start in map(dict, starts)
        if all(name in start and item.low <= start[name] <= item.high for name, item in space.free.items())
    )


def _anchor(space: SearchSpace, start: Point) -> Point:
    """Return a start with a number of trees of its own, at most that of the space."""
    trees = min(round(ANCHOR_STEPS / start["learning_rate"]), int(space.ranges[TREES].high))
    return {**start, TREES: max(1, trees)}


def _parse(name: str, given: Any, preset: Range | None) -> Range:
    """Return a range from its plain form; a missing scale is the preset's, otherwise the type's default."""
    parameter = known(name)
    usual: Scale = preset.scale if preset is not None else "whole" if parameter.type is int else "uniform"
    try:
        unknown = set(given) - {"low", "high", "scale"}
        low, high, scale = float(given["low"]), float(given["high"]), given.get("scale") or usual
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        unknown, low, high, scale = {"form"}, 0.0, 0.0, usual
    if unknown or scale not in get_args(Scale):
        raise SearchError(
            f"the range of {name} is invalid: {given!r:.100}",
            where="search space",
            fix=f"write it as low, high and optionally scale, one of {', '.join(get_args(Scale))}",
        )
    return Range(low, high, scale)


def _require_usable(name: str, item: Range) -> None:
    parameter = known(name)
    if not parameter.low <= item.low <= item.high <= parameter.high:  # this also rejects NaN
        raise SearchError(
            f"the range of {name} is invalid: {item.low:g} to {item.high:g}",
            where="search space",
            fix=f"choose low <= high, both {parameter.words}",
        )
    if parameter.type is int and item.scale != "whole":
        raise SearchError(
            f"{name} takes integers, but its scale is {item.scale}", where="search space", fix="make its scale whole"
        )
    if item.scale == "whole" and (item.low % 1 or item.high % 1):
        raise SearchError(f"the bounds of {name} must be integers", where="search space", fix="round its bounds")
    if item.scale == "log_uniform" and item.low <= 0:
        raise SearchError(
            f"{name} from {item.low:g} can't be drawn on a logarithmic scale",
            where="search space",
            fix="choose a low above 0, or the scale uniform",
        )
