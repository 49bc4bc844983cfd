"""One mark for all files of a folder and a past day: the cursor of the sensor does not grow with every file ever seen.

What belongs here: making such marks and comparing them with a listing; pure functions. What does not: what to load
(`landing`).

A mark is a hash over the marks of the day's files. While the listing gives the same hash, all of them were taken. If
it doesn't (a file came late with an old time of writing, was written again, or was removed), the day is looked at file
by file again: all that are there are loaded once more together, and the table recognises the content that it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlops_assets.data.sources.listing import LandedFile

# A day gets its mark once it is this many days ago: files that arrive with yesterday's time of writing are common.
_OPEN_DAYS = 2
_DAY_S = 86_400
_MARK_LENGTH = 16

# Marks by folder and day.
DayMarks = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class _Group:
    folder: str
    day: int
    files: frozenset[str]

    @property
    def mark(self) -> str:
        text = "\n".join(sorted(self.files))
        return hashlib.sha256(text.encode()).hexdigest()[:_MARK_LENGTH]


def _groups(listed: Iterable[LandedFile]) -> list[_Group]:
    by_day: dict[tuple[str, int], set[str]] = {}
    for file in listed:
        if file.day is not None:
            by_day.setdefault((file.folder, file.day), set()).add(file.mark)
    return [_Group(folder, day, frozenset(marks)) for (folder, day), marks in by_day.items()]


def unfold(days: DayMarks, listed: Iterable[LandedFile]) -> frozenset[str]:
    """Return the marks of the listed files that the marks of their days cover."""
    if not days:
        return frozenset()
    same = (group.files for group in _groups(listed) if days.get(group.folder, {}).get(group.day) == group.mark)
    return frozenset().union(*same)


def fold(
    taken: frozenset[str], in_orders: frozenset[str], listed: Iterable[LandedFile], now: float
) -> tuple[frozenset[str], dict[str, dict[int, str]]]:
    """Replace the marks of files by marks of days wherever a past day is taken as a whole.

    Args:
        taken: Marks of the listed files that need not be loaded any more, or are in an order.
        in_orders: Marks of the files whose order is still open.
        listed: The files that are there.
        now: Seconds since 1970.

    Returns:
        The marks of files that are left, and the marks of days.
    """
    left, days = set(taken), dict[str, dict[int, str]]()
    newest = int(now // _DAY_S) - _OPEN_DAYS
    for group in _groups(listed):
        if group.day <= newest and group.files <= taken and not group.files & in_orders:
            days.setdefault(group.folder, {})[group.day] = group.mark
            left -= group.files
    return frozenset(left), days
