"""What was known at the end of a past day: which version of a table, and how its rows are cut for training.

What belongs here: pure functions from commit times and event times to a version and to blocks. What does not: the
same blocks as Spark frames (`as_of_frames`), training and scoring (`training`).

Two clocks are at work. A version is known from the moment of its commit, by the wall clock; the rows in it carry event
times, which for historical data lie years before. So the day chooses the version, and everything after that is cut by
event time: what comes after the newest event of the version is what the model could not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.days import day_start
from mlops_assets.data.splits.split import Block
from mlops_assets.errors import SplitError, StorageError


@dataclass(frozen=True)
class AsOfBlocks:
    """Ranges of event time, in seconds.

    Attributes:
        train: Rows of the past version to fit on; it ends at midnight.
        validation: Its later rows, for the search and the threshold; it begins at midnight.
        newest: The newest event of the past version.
        after: Rows of today's version to score: later than `newest`, not later than the asked number of days.
    """

    train: Block
    validation: Block
    newest: float
    after: Block


def version_as_of(committed: Mapping[int, float], end: float, *, where: str) -> int:
    """Return the newest version that was committed before a moment.

    Args:
        committed: When each version was committed, in seconds since 1970.
        end: The moment, in seconds since 1970.
        where: The table, for the error.

    Raises:
        StorageError: There is none, or its part of the log is gone.
    """
    before = [version for version, at in committed.items() if at < end]
    if before:
        return max(before)
    day = datetime.fromtimestamp(end - 1, UTC).date()
    first, at = min(committed.items())
    since = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    what = f"the table was not there at the end of {day}: its first version is of {since}"
    if first > 0:
        what = f"no version of {day} is left: the table's log begins with version {first} of {since}"
    raise StorageError(what, where=where, fix="choose a later day")


def as_of_blocks(
    days: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    newest: float,
    *,
    zone: str,
    validation_fraction: float,
    gap_days: float,
    days_after: float,
    where: str,
) -> AsOfBlocks:
    """Cut the rows of a past version in time: the later days are for validation, and no day is in two blocks.

    As in `split.cut_days`, the gap before the validation block is whole days, is reserved first, and the shares are
    those of the rows that are left. Of the newest days, whose labels are not mature, no row is used; where they begin
    and where scoring begins follows from the newest event, so these days may be partial (`days.on_whole_days`).

    Args:
        days: Distinct days that have rows with a mature label, ascending (`days.day_numbers`).
        counts: Such rows per day, same length.
        newest: The newest event of the version, mature or not, in seconds.
        zone: IANA name of the zone whose days they are.
        validation_fraction: Share of the validation block in the rows of the two blocks.
        gap_days: Days left out before the validation block, rounded up to whole days, and before `newest`.
        days_after: Days to score after the newest event.
        where: The table, for the error.

    Raises:
        SplitError: A number is out of its range, or a block would be empty.
    """
    if not (0 < validation_fraction < 1 and 0 <= gap_days < np.inf and 0 < days_after < np.inf):
        raise SplitError(
            f"validation_fraction {validation_fraction:g}, gap_days {gap_days:g} and days_after {days_after:g} are not "
            "usable",
            where="configuration of the backtest",
            fix="choose a share between 0 and 1, a gap of 0 days or more, and more than 0 days to score",
        )
    gap = math.ceil(gap_days)
    before = np.concatenate(([0], np.cumsum(counts)))
    # For a validation block that begins on each day: rows before it and before its gap, and rows from it on.
    train, validation = before[np.searchsorted(days, days - gap)], before[-1] - before[:-1]
    possible = train > 0
    if not possible.any():
        span = int(days[-1] - days[0]) + 1 if len(days) else 0
        raise SplitError(
            f"{int(before[-1]):,} rows with mature labels on {len(days):,} days of a span of {span:,} can't fill two "
            f"sets: the shortest span that can be cut is {2 + gap:,} days",
            where=where,
            fix="choose a later day, or shorten the gap (gap_days, or label_delay_days of the contract)",
        )
    distance = np.where(possible, np.abs(validation / (train + validation) - validation_fraction), np.inf)
    begins = int(days[np.argmin(np.round(distance, 12))])
    # A block holds its start and not its end; scoring begins after the newest event and ends with its window.
    start, end = np.nextafter([newest, newest + days_after * SECONDS_PER_DAY], np.inf).tolist()
    return AsOfBlocks(
        train=Block(None, day_start(begins - gap, zone)),
        validation=Block(day_start(begins, zone), mature_until(newest, gap_days)),
        newest=newest,
        after=Block(start, end),
    )


def mature_until(newest: float, gap_days: float) -> float:
    """Return the moment before which rows of a past version are used, in seconds.

    Args:
        newest: The newest event of the version, in seconds.
        gap_days: Days before it that are left out.
    """
    return newest - gap_days * SECONDS_PER_DAY if gap_days else float(np.nextafter(newest, np.inf))
