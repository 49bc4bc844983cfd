"""How long the files that a table has removed must be kept, so that pinned versions stay readable.

What belongs here: pure functions over version numbers and times. What does not: who pins (`registry/pins`), compaction
and VACUUM themselves (`lakehouse/maintenance`).

VACUUM knows no versions, only the age at which a file was removed from the table. A file of version V is removed by a
later commit; so whatever was removed since V was committed has to stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mlops_assets.errors import StorageError

# Clocks of writer, storage and of this process differ, and a commit notes its removals before it is there.
MARGIN_HOURS: Final = 24
_SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True)
class Pin:
    """A version that must stay readable.

    Attributes:
        table: Table.
        version: Delta version.
        holder: What needs it, in words.
    """

    table: str
    version: int
    holder: str


@dataclass(frozen=True)
class Retention:
    """How long removed files are kept.

    Attributes:
        hours: So long, in whole hours.
        pinned: Versions that stay readable by it, ascending.
        reason: What it comes from, in words.
    """

    hours: int
    pinned: tuple[int, ...]
    reason: str


def decide_retention(
    asked_hours: int, pins: Iterable[Pin], committed: Mapping[int, float], now: float, *, where: str
) -> Retention:
    """Return the shortest retention that is as long as asked for and keeps every pinned version.

    Args:
        asked_hours: Retention that is wanted in any case.
        pins: The pins of this table.
        committed: When each version of the table was committed, in seconds since 1970.
        now: The same for this moment.
        where: The table, for the error.

    Raises:
        StorageError: A pinned version is not in the table's log, so that nothing says how old it is.
    """
    holders: dict[int, str] = {}
    for pin in pins:
        holders.setdefault(pin.version, pin.holder)
    lost = [f"{version} ({holder})" for version, holder in sorted(holders.items()) if version not in committed]
    if lost:
        raise StorageError(
            f"the table's log has no version {', '.join(lost)} (any more): how long its files must be kept is unknown, "
            "and nothing was vacuumed",
            where=where,
            fix="delete the registered versions that can't be traced to their data any more, cut the sets anew if it "
            "is theirs, or restore the log",
        )
    pinned = tuple(sorted(holders))
    if not pinned:
        return Retention(asked_hours, (), "asked for; no version is pinned")
    # A copied log may say that an older version is younger; what was removed after the pin is what counts.
    since = min(at for version, at in committed.items() if version >= pinned[0])
    needed = math.ceil(max(0.0, now - since) / _SECONDS_PER_HOUR) + MARGIN_HOURS
    if needed <= asked_hours:
        return Retention(asked_hours, pinned, "asked for; pinned versions are younger")
    return Retention(needed, pinned, f"version {pinned[0]} is needed by {holders[pinned[0]]}")
