"""How long a table must keep the files that it removed, so that pinned versions stay readable.

What belongs here: pure functions over version numbers and times. What does not: which versions are pinned
(`registry/pins`), compaction and VACUUM (`lakehouse/maintenance`).

VACUUM does not look at versions, only at how long ago a file was removed from the table. A file of version V can only
be removed by a later commit, so everything removed since V was committed has to stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mlops_assets.errors import StorageError

# The clocks of writer, storage and this process differ, and a commit timestamps its removals before it is visible.
MARGIN_HOURS: Final = 24
_SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True)
class Pin:
    """A version that must stay readable.

    Attributes:
        table: Table name.
        version: Delta version.
        holder: What needs the version, in words.
    """

    table: str
    version: int
    holder: str


@dataclass(frozen=True)
class Retention:
    """How long removed files are kept.

    Attributes:
        hours: The retention, in whole hours.
        pinned: Versions that it keeps readable, ascending.
        reason: Why it has this length, in words.
    """

    hours: int
    pinned: tuple[int, ...]
    reason: str


def decide_retention(
    asked_hours: int, pins: Iterable[Pin], committed: Mapping[int, float], now: float, *, where: str
) -> Retention:
    """Return the shortest retention that keeps every pinned version and is at least as long as asked for.

    Args:
        asked_hours: Minimum retention, in hours.
        pins: The pins of this table.
        committed: When each version of the table was committed, in seconds since 1970.
        now: The current time, in seconds since 1970.
        where: The table, for the error.

    Raises:
        StorageError: A pinned version is not in the table's log, so its age is unknown.
    """
    holders: dict[int, str] = {}
    for pin in pins:
        holders.setdefault(pin.version, pin.holder)
    lost = [f"{version} ({holder})" for version, holder in sorted(holders.items()) if version not in committed]
    if lost:
        raise StorageError(
            f"the table's log has no version {', '.join(lost)} (any more), so the retention that it needs is unknown; "
            "nothing was vacuumed",
            where=where,
            fix="restore the log, delete the registered versions whose data is gone, or, if the sets need the version, "
            "split again",
        )
    pinned = tuple(sorted(holders))
    if not pinned:
        return Retention(asked_hours, (), "asked for; no version is pinned")
    # In a copied log an older version may have a later timestamp; what counts is what was removed after the pin.
    since = min(at for version, at in committed.items() if version >= pinned[0])
    needed = math.ceil(max(0.0, now - since) / _SECONDS_PER_HOUR) + MARGIN_HOURS
    if needed <= asked_hours:
        return Retention(asked_hours, pinned, "asked for; pinned versions are younger")
    return Retention(needed, pinned, f"version {pinned[0]} is needed by {holders[pinned[0]]}")
