"""Parts of the rows in which a candidate must not collapse: bands of amounts, hours of the day, values of columns.

What belongs here: the parts, the comparison of two models in each, and lower ends that hold for all of them. What does
not: how much loss is tolerated (`registry/gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.bootstrap import Contender, Gain, compare
from mlops_assets.evaluation.intervals import Design, student
from mlops_assets.evaluation.scorer import Rows

Mask = npt.NDArray[np.bool_]
_RANKING: Final = "average_precision"
_HOURS: Final = 6
_BANDS: Final = 3
_MOST_LEVELS: Final = 8


@dataclass(frozen=True)
class SliceGain:
    """Two models on a part of the rows.

    Attributes:
        name: The part.
        frauds: Frauds in it.
        gain: Gain in average precision.
    """

    name: str
    frauds: int
    gain: Gain


def bands(name: str, values: npt.NDArray[np.float64]) -> dict[str, Mask]:
    """Return thirds of the rows by a number, each with its range as name; missing values are in none of them.

    Args:
        name: What the number is.
        values: The number of each row [n], NaN where missing.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    inner = np.unique(np.quantile(known, np.arange(1, _BANDS) / _BANDS))
    edges = [-np.inf, *inner.tolist(), np.inf]
    found = {}
    for low, high in pairwise(edges):
        mask = (values > low) & (values <= high)
        if mask.any():
            found[f"{name} {values[mask].min():.4g} to {values[mask].max():.4g}"] = mask
    return found


def hours_of_day(hours: npt.NDArray[np.int64]) -> dict[str, Mask]:
    """Return four parts of the day.

    Args:
        hours: Hour of each row in the contract's time zone [n], 0 to 23.
    """
    return {
        f"hours {first} to {first + _HOURS - 1}": (hours >= first) & (hours < first + _HOURS)
        for first in range(0, 24, _HOURS)
    }


def values_of(name: str, values: Sequence[Any] | npt.NDArray[Any]) -> dict[str, Mask]:
    """Return the parts of the rows by a column: its values if they are few, otherwise thirds.

    Args:
        name: The column.
        values: Its values [n]; None or NaN where missing.
    """
    column = np.asarray(values)
    if column.dtype.kind in "iufb":
        numbers = column.astype(np.float64)
        if len(np.unique(numbers[~np.isnan(numbers)])) > _MOST_LEVELS:
            return bands(name, numbers)
        return {f"{name} = {level:g}": numbers == level for level in np.unique(numbers[~np.isnan(numbers)]).tolist()}
    return {f"{name} = {level}": column == level for level in sorted({str(v) for v in column if v is not None})}


def slice_gains(
    rows: Rows,
    masks: Mapping[str, Mask],
    *,
    candidate: Contender,
    baseline: Contender,
    design: Design,
    min_frauds: int,
) -> list[SliceGain]:
    """Compare two models in each part of the rows that holds enough frauds, and a genuine row.

    Args:
        rows: The rows.
        masks: The parts [n], by name.
        candidate: The model in question.
        baseline: The model that it is compared with.
        design: Replicates, seed and level.
        min_frauds: Parts with fewer are left out.

    Raises:
        EvaluationError: An argument is invalid.
    """
    found = []
    for name, mask in masks.items():
        frauds = int(rows.y[mask].sum())
        if min_frauds <= frauds < int(mask.sum()):
            new, old = (Contender(model.scores[mask], model.threshold) for model in (candidate, baseline))
            part = rows.where(mask)
            compared = compare(part, candidate=new, baseline=old, design=design, wanted=(_RANKING,))
            found.append(SliceGain(name, frauds, compared.gains[_RANKING]))
    return found


def holm_lower_ends(slices: Sequence[SliceGain], margin: float, level: float = 0.95) -> dict[str, float]:
    """Return the lower end of each part's gain, by name, wide enough for all of them together.

    The parts are tested one after another, the clearest first, against a loss of `margin` (Holm 1979): the first of m
    at the error divided by m, the last at the whole error.

    Args:
        slices: The parts.
        margin: The loss that is tolerated.
        level: Level of a two-sided interval.
    """

    def clearness(part: SliceGain) -> float:
        room = part.gain.interval.estimate + margin
        return room / part.gain.error if part.gain.error > 0 else float(np.copysign(np.inf, room))

    ends = {}
    for place, part in enumerate(sorted(slices, key=clearness, reverse=True)):
        width = student(1 - (1 - level) / (len(slices) - place), part.gain.freedom) * part.gain.error
        ends[part.name] = part.gain.interval.estimate - width
    return ends
