"""Where to cut a table into train, validation and test sets.

What belongs here: pure functions from an ordering key and its counts to cut points, and from keys to sets.
What does not: the same cuts as Spark column expressions (`split_frames`).

Both strategies cut along a key that equal rows share, so exact duplicates can't end on two sides:
- `time` (default; Fraud Detection Handbook, chapter 5 "Validation strategies"): the key is event time. Rows of the
  last `gap_days` before a cut are left out of the block before it, since their labels would not be known yet when
  the model is trained.
- `stratified`: the key is a seeded hash of the whole row, per class. It is how the seed project splits; its figures
  flatter, because it trains on rows that happened after the ones it is tested on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import SplitError

Strategy = Literal["time", "stratified"]
SET_NAMES = ("train", "validation", "test")
GAP = "gap"
SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class SplitSpec:
    """How to cut.

    Attributes:
        strategy: `time` or `stratified`.
        validation_fraction: Share of rows in the validation block, gap included.
        test_fraction: Share of rows in the test block.
        gap_days: Days left out before each cut (strategy `time` only).
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


def cut_points(
    keys: npt.NDArray[np.float64] | npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    spec: SplitSpec,
    *,
    where: str,
) -> Cuts:
    """Choose the cuts so that each block holds its share of rows and equal keys stay together.

    Args:
        keys: Distinct keys, ascending; event time in seconds, or row hashes of one class.
        counts: Rows per key, same length.
        spec: How to cut; `gap_days` is taken off the end of the train and validation blocks.
        where: The table, for the error.

    Raises:
        SplitError: A block would be empty: too few distinct keys, or a gap longer than a block.
    """
    total = int(counts.sum())
    before = np.concatenate(([0], np.cumsum(counts)))[:-1]  # rows before each key
    wanted = (total * (1 - spec.validation_fraction - spec.test_fraction), total * (1 - spec.test_fraction))
    cut_at = [int(np.searchsorted(before, rows - 1e-9)) for rows in wanted]
    if len(keys) < len(SET_NAMES) or cut_at[0] == 0 or cut_at[1] <= cut_at[0] or cut_at[1] >= len(keys):
        raise SplitError(
            f"{total:,} rows with {len(keys):,} distinct keys can't fill three sets",
            where=where,
            fix="load more rows, or choose fractions that leave each set some",
        )
    first, second = keys[cut_at[0]].item(), keys[cut_at[1]].item()
    gap = spec.gap_days * SECONDS_PER_DAY
    ends = (first - gap, second - gap) if gap else (first, second)  # a hash minus 0.0 would be rounded to a double
    cuts = Cuts((Block(None, ends[0]), Block(first, ends[1]), Block(second, None)))
    sets = cuts.assign(keys)
    empty = [name for number, name in enumerate(SET_NAMES) if not (sets == number).any()]
    if empty:
        raise SplitError(
            f"a gap of {spec.gap_days:g} days leaves nothing of: {', '.join(empty)}",
            where=where,
            fix="shorten the gap (gap_days, or label_delay_days of the contract) or load a longer period",
        )
    return cuts
