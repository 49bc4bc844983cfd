"""Where to cut a table into train, validation and test sets.

What belongs here: pure functions from an ordering key and its counts to cut points, and from keys to sets.
What does not: the same cuts as Spark column expressions (`split_frames`).

Both strategies cut along a key that equal rows share, so exact duplicates can't end on two sides:
- `time` (default; Fraud Detection Handbook, chapter 5 "Validation strategies"): the key is the day, so that no set
  begins or ends within one: an alert budget is for whole days. The days of the gap before each cut are left out, since
  their labels would not be known yet when the model is trained. The gaps are reserved first; the shares are those of
  the rows that are left.
- `stratified`: the key is a seeded hash of the whole row, per class. It is how the seed project splits; its figures
  flatter, because it trains on rows that happened after the ones it is tested on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mlops_assets.data.days import day_start
from mlops_assets.errors import SplitError

Strategy = Literal["time", "stratified"]
SET_NAMES = ("train", "validation", "test")
GAP = "gap"
_ROUNDING = 1e-9  # of a product of rows and a share


@dataclass(frozen=True)
class SplitSpec:
    """How to cut.

    Attributes:
        strategy: `time` or `stratified`.
        validation_fraction: Share of the validation set in the rows of the three sets.
        test_fraction: Share of the test set in them.
        gap_days: Days left out before each cut, rounded up to whole days (strategy `time` only).
        seed: Seed of the row hash (strategy `stratified` only).
    """

    strategy: Strategy = "time"
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    gap_days: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise SplitError(
                f"no such strategy: {self.strategy}", where="split configuration", fix=f"choose one of: {known}"
            )
        fix = "choose positive fractions that leave room for a training set, and a gap of 0 days or more"
        fractions = (self.validation_fraction, self.test_fraction)
        if not all(0 < fraction < 1 for fraction in fractions) or sum(fractions) >= 1:
            raise SplitError(f"fractions {fractions} are not usable", where="split configuration", fix=fix)
        if not (np.isfinite(self.gap_days) and self.gap_days >= 0):
            raise SplitError(f"gap of {self.gap_days} days is not usable", where="split configuration", fix=fix)
        if self.gap_days and self.strategy == "stratified":
            raise SplitError(
                "a gap in time means nothing to a stratified split",
                where="split configuration",
                fix="set gap_days to 0 or choose the strategy `time`",
            )

    @property
    def whole_gap_days(self) -> int:
        """The gap in whole days."""
        return math.ceil(self.gap_days)

    def as_dict(self) -> dict[str, str | int | float]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Block:
    """Half-open range of keys: a row belongs to the block when start <= key < end; None is unbounded."""

    start: float | int | None
    end: float | int | None

    def contains(self, keys: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return for each key whether it lies in the block."""
        inside = np.ones(len(keys), dtype=bool)
        if self.start is not None:
            inside &= keys >= self.start
        if self.end is not None:
            inside &= keys < self.end
        return inside


@dataclass(frozen=True)
class Cuts:
    """The three blocks of one ordering key, in the order of `SET_NAMES`."""

    blocks: tuple[Block, Block, Block]

    def assign(self, keys: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """Return for each key 0 (train), 1 (validation), 2 (test) or -1 (left out by the gap)."""
        sets = np.full(len(keys), -1, dtype=np.int8)
        for number, block in enumerate(self.blocks):
            sets[block.contains(keys)] = number
        return sets


def cut_days(days: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], spec: SplitSpec, *, where: str) -> Cuts:
    """Choose the days on which validation and test begin, so that the shares of rows are closest to the requested ones.

    Distance is the sum of squared differences of the three shares. Each set gets at least one day that has rows.

    Args:
        days: Distinct days that have rows, ascending (`days.day_numbers`).
        counts: Rows per day, same length.
        spec: How to cut.
        where: The table, for the error.

    Returns:
        Blocks of day numbers.

    Raises:
        SplitError: No choice leaves each set a day.
    """
    gap, rows = spec.whole_gap_days, np.asarray(counts, dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(rows)))
    total = int(before[-1])
    # For a block that begins on each day: rows that lie before it and before its gap.
    before_gap = before[np.searchsorted(days, days - gap)]
    wanted = np.array([[1 - spec.validation_fraction - spec.test_fraction], [spec.validation_fraction]])
    best: tuple[float, int, int] | None = None
    for second in range(2, len(days)):
        test = total - before[second]
        train, validation = before_gap[1:second], before_gap[second] - before[1:second]
        possible = (train > 0) & (validation > 0)
        if not possible.any():
            continue
        left = train + np.maximum(validation, 0) + test
        shares = np.stack([train, validation]) / left
        distance = ((shares - wanted) ** 2).sum(axis=0) + (test / left - spec.test_fraction) ** 2
        # Rounded, so that of equal choices the first is taken, which has the largest test set.
        distance = np.where(possible, np.round(distance, 12), np.inf)
        first = int(np.argmin(distance))
        if best is None or distance[first] < best[0]:
            best = (float(distance[first]), first + 1, second)
    if best is None:
        raise _too_short(days, gap, total, where)
    validation_begins, test_begins = int(days[best[1]]), int(days[best[2]])
    train_block, validation_block = Block(None, validation_begins - gap), Block(validation_begins, test_begins - gap)
    return Cuts((train_block, validation_block, Block(test_begins, None)))


def _too_short(days: npt.NDArray[np.int64], gap: int, total: int, where: str) -> SplitError:
    span = int(days[-1] - days[0]) + 1 if len(days) else 0
    shortest = len(SET_NAMES) + (len(SET_NAMES) - 1) * gap
    gaps = f"two gaps of {gap} days and a day for each set" if gap else "a day for each set"
    return SplitError(
        f"{total:,} rows on {len(days):,} days of a span of {span:,} can't fill three sets: "
        f"the shortest span that can be cut is {shortest:,} days, {gaps}",
        where=where,
        fix="load a longer period, or shorten the gap (gap_days, or label_delay_days of the contract)"
        if gap
        else "load a longer period",
    )


def in_seconds(cuts: Cuts, zone: str) -> Cuts:
    """Return blocks of day numbers as blocks of event time in seconds.

    Args:
        cuts: Blocks of day numbers.
        zone: IANA name of the zone whose days they are.
    """

    def begin(day: float | None) -> float | None:
        return None if day is None else day_start(int(day), zone)

    train, validation, test = (Block(begin(block.start), begin(block.end)) for block in cuts.blocks)
    return Cuts((train, validation, test))


def rows_before_cuts(total: int, spec: SplitSpec) -> tuple[float, float]:
    """Return how many rows must lie before the validation set, and before the test set, at least.

    Args:
        total: Rows of all three sets.
        spec: How to cut.
    """
    train = total * (1 - spec.validation_fraction - spec.test_fraction)
    return train - _ROUNDING, total * (1 - spec.test_fraction) - _ROUNDING


def cut_points(
    keys: npt.NDArray[np.float64] | npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    spec: SplitSpec,
    *,
    where: str,
) -> Cuts:
    """Choose the cuts so that each block holds its share of rows and equal keys stay together; there is no gap.

    Args:
        keys: Distinct keys, ascending: row hashes of one class, or event times of a table that is too short for days.
            A key may stand for itself and the keys up to the next one, if no cut lies between them.
        counts: Rows per key, same length.
        spec: How to cut.
        where: The table, for the error.

    Raises:
        SplitError: A block would be empty: too few distinct keys.
    """
    total = int(counts.sum())
    before = np.concatenate(([0], np.cumsum(counts)))[:-1]  # rows before each key
    cut_at = [int(np.searchsorted(before, rows)) for rows in rows_before_cuts(total, spec)]
    if len(keys) < len(SET_NAMES) or cut_at[0] == 0 or cut_at[1] <= cut_at[0] or cut_at[1] >= len(keys):
        raise SplitError(
            f"{total:,} rows can't fill three sets",
            where=where,
            fix="load more rows of different times, or choose fractions that leave each set some",
        )
    first, second = keys[cut_at[0]].item(), keys[cut_at[1]].item()
    return Cuts((Block(None, first), Block(first, second), Block(second, None)))
