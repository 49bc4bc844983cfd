"""Calendar days of event times, in the time zone of a contract.

What belongs here: from moments to day numbers and back, and which days are whole. What does not: how rows are cut
along days (`splits`), what is counted per day (`evaluation`).

A moment is in seconds since 1970, or since the origin of a clock of the data's own; such a clock has no zone, and its
days have 86,400 seconds, as those of UTC do. In other zones a day may have 23 or 25 hours. The borders come from
Python's `zoneinfo`, here and for Spark (which is given seconds), so two time zone databases can't disagree.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mlops_assets.data.contract.contract import SECONDS_PER_DAY

_EPOCH = date(1970, 1, 1).toordinal()
# Beyond these years local midnight may lie outside what Python's datetime can hold; days are those of UTC there.
_FIRST_DAY, _LAST_DAY = date(2, 1, 1).toordinal() - _EPOCH, date(9999, 1, 1).toordinal() - _EPOCH
# A budget does not miss a smaller share of a day's rows.
_SHARE_MISSING = 0.05
# exp(-4.6): a part of a day in which so many rows are expected stays empty one time in a hundred by chance.
_ROWS_MISSING = 4.6

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@lru_cache(maxsize=4096)
def day_start(day: int, zone: str) -> float:
    """Return the first moment of a day, in seconds.

    Where midnight is skipped by a change to summer time, it is the moment of the change; where it happens twice, the
    first one.

    Args:
        day: Days since 1970-01-01, or since the origin.
        zone: IANA name.
    """
    if zone == "UTC" or not _FIRST_DAY <= day < _LAST_DAY:
        return day * SECONDS_PER_DAY
    midnight = datetime.combine(date.fromordinal(day + _EPOCH), datetime.min.time(), ZoneInfo(zone))
    return midnight.timestamp()


def day_numbers(moments: Floats, zone: str) -> Ints:
    """Return the day of each moment [n], as days since 1970-01-01 or since the origin.

    Args:
        moments: In seconds, finite [n].
        zone: IANA name.
    """
    of_utc = np.floor(moments / SECONDS_PER_DAY).astype(np.int64)
    if zone == "UTC" or not len(moments):
        return of_utc
    # No zone is a day or more away from UTC, so a moment's day is one of three.
    candidates = np.unique(np.unique(of_utc)[:, None] + np.array([-1, 0, 1]))
    starts = np.array([day_start(day, zone) for day in candidates.tolist()])
    days = candidates[np.searchsorted(starts, moments, side="right") - 1]
    return np.where((of_utc >= _FIRST_DAY) & (of_utc < _LAST_DAY), days, of_utc)


def days_before(moment: float, days: float, zone: str) -> float:
    """Return the moment that lies some days earlier, at the same time of day where these days are whole.

    So seven days before a midnight is a midnight, also if one of them had 23 or 25 hours.

    Args:
        moment: In seconds.
        days: Calendar days, 0 or more; a fraction counts as that share of 24 hours.
        zone: IANA name.
    """
    whole = int(days)
    if zone == "UTC" or not whole:
        return moment - days * SECONDS_PER_DAY
    try:
        local = datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(zone))
        earlier = (local - timedelta(days=whole)).timestamp()
    except (OverflowError, ValueError):  # before the year 1
        return moment - days * SECONDS_PER_DAY
    return earlier - (days - whole) * SECONDS_PER_DAY


def on_whole_days(moments: Floats, zone: str) -> Bools:
    """Return for each row of a block whether its day is whole [n]: a budget per day is fair on such days only.

    Only the first and the last day can be partial: rows of a block follow each other in time. Such a day is partial if
    its part without rows, before its first or after its last row, would have held more than 5 % of a day's rows, and
    more than 4.6 rows, to judge by the other days of the block at the same time of day (by the length of the part if
    there is no other day). The second bound lets a complete day pass 99 times in 100, however few rows it has.

    Args:
        moments: Event times of all rows of the block in seconds [n], in any order.
        zone: IANA name.
    """
    whole = np.ones(len(moments), dtype=bool)
    if not len(moments):
        return whole
    days = day_numbers(moments, zone)
    numbers, day_of_row = np.unique(days, return_inverse=True)
    starts = np.array([day_start(day, zone) for day in numbers.tolist()])
    time_of_day = moments - starts[day_of_row]
    for day in {0, len(numbers) - 1}:
        here = day_of_row == day
        rows, others = time_of_day[here], time_of_day[~here]
        length = day_start(int(numbers[day]) + 1, zone) - starts[day]
        missing = 0.0
        if day == 0:
            missing = _share(others < rows.min(), rows.min() / length)
        if day == len(numbers) - 1:
            missing = max(missing, _share(others > rows.max(), 1 - rows.max() / length))
        a_day = len(others) / (len(numbers) - 1) if len(others) else len(rows) / max(1 - missing, 0.01)
        if missing > _SHARE_MISSING and missing * a_day > _ROWS_MISSING:
            whole[here] = False
    return whole


def _share(missing: Bools, by_length: float) -> float:
    return float(missing.mean()) if len(missing) else by_length
