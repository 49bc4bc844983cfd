"""What was known at the end of a past day: which version of a table, and how its rows are cut for training.

What belongs here: pure functions from commit times and event times to a version and to blocks. What does not: the
same blocks as Spark frames (`as_of_frames`), training and scoring (`training`).

Two clocks are at work. A version is known from the moment of its commit, by the wall clock; the rows in it carry event
times, which for historical data lie years before. So the day chooses the version, and everything after that is cut by
event time: what comes after the newest event of the version is what the model could not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.splits.split import Block
from mlops_assets.errors import SplitError, StorageError


@dataclass(frozen=True)
class AsOfBlocks:
    """Ranges of event time, in seconds.

    Attributes:
        train: Rows of the past version to fit on.
        validation: Its later rows, for the search and the threshold.
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
    keys: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    validation_fraction: float,
    gap_days: float,
    days_after: float,
    where: str,
) -> AsOfBlocks:
    """Cut the rows of a past version in time: the later share is for validation, equal event times stay together.

    The gap is taken off the end of both blocks, as in `split.cut_points`: labels of its rows would not have been
    known when the next block begins.

    Args:
        keys: Distinct event times of the version in seconds, ascending.
        counts: Rows per event time, same length.
        validation_fraction: Share of rows in the validation block, gap included.
        gap_days: Days left out before each cut.
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
    before = np.cumsum(counts) - counts  # rows before each key
    cut_at = int(np.searchsorted(before, counts.sum() * (1 - validation_fraction) - 1e-9))
    if not 0 < cut_at < len(keys):
        raise SplitError(
            f"{int(counts.sum()):,} rows with {len(keys):,} distinct event times can't fill two sets",
            where=where,
            fix="choose a later day, or another share for validation",
        )
    cut, newest, gap = float(keys[cut_at]), float(keys[-1]), gap_days * SECONDS_PER_DAY
    train = Block(None, cut - gap)
    # A block holds its start and not its end; scoring begins after the newest event and ends with its window.
    start, end = np.nextafter([newest, newest + days_after * SECONDS_PER_DAY], np.inf).tolist()
    validation = Block(cut, newest - gap if gap else start)
    for name, block in (("train", train), ("validation", validation)):
        if not block.contains(keys).any():
            raise SplitError(
                f"a gap of {gap_days:g} days leaves nothing of: {name}",
                where=where,
                fix="shorten the gap (gap_days, or label_delay_days of the contract) or choose a later day",
            )
    return AsOfBlocks(train, validation, newest, Block(start, end))
