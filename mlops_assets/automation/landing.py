"""From what lies in a landing place to what is to be loaded: the thinking part of the sensor of new files.

What belongs here: pure functions over a listing, the sensor's cursor and what became of earlier runs. What does not:
listing (`data/sources/listing`), Dagster (`sensors`).

An order is a set of files that one run loads. It is made when no other could be started: a run costs the start of a
JVM, and if each look made one of the few files that it finds, the runs would never catch up. It stays in the cursor
until its run has succeeded, so nothing is lost when a run fails, is killed, or was never started:

- A run that was refused because of its input is not repeated; its order is halved, until the file that is to blame
  stands alone and is set aside. Good files are not held up by a bad one for longer than that.
- A run that failed for any other reason is repeated after a pause that doubles up to an hour.
- A file that changes after it was taken is a new file. Whether its rows are known is the table's affair.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mlops_assets.data.sources.listing import LandedFile
from mlops_assets.data.sources.locations import joined
from mlops_assets.errors import AutomationError

# What has become of the run of an order; None when there is no such run (yet).
Outcome = Literal["going", "done", "refused", "failed"]
_KEY_LENGTH = 16


@dataclass(frozen=True)
class Pace:
    """How eagerly files are taken.

    Attributes:
        interval_seconds: Between two looks, at least; Dagster's daemon comes round each 5 s.
        settle_seconds: A file is taken when it has not changed for so long, and between two looks.
        files_per_run: Most files that one run loads.
        pause_seconds: Before the first repetition of a failed run; it doubles each time.
        longest_pause_seconds: Where the doubling ends.
    """

    interval_seconds: int = 30
    settle_seconds: float = 20.0
    files_per_run: int = 500
    pause_seconds: float = 60.0
    longest_pause_seconds: float = 3600.0


@dataclass(frozen=True)
class Order:
    """Files that one run loads.

    Attributes:
        files: Their locations and marks, sorted.
        attempt: How often a run of it has failed.
        not_before: Time, in seconds since 1970, before which it is not tried again.
    """

    files: tuple[LandedFile, ...]
    attempt: int = 0
    not_before: float = 0.0

    @property
    def key(self) -> str:
        """Name of the order and attempt: the run key, which Dagster starts once."""
        text = "\n".join(file.mark for file in self.files)
        return f"landing-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]}-{self.attempt}"

    @property
    def location(self) -> str:
        """The files as a source takes them."""
        return joined(file.location for file in self.files)


@dataclass(frozen=True)
class LandingState:
    """What the sensor remembers between two looks.

    Attributes:
        taken: Marks of the files that are in an order or in the table, as long as they lie there.
        seen: When each file that is in no order yet was first seen as it is, by mark.
        orders: What is still to be loaded, oldest first.
        refused: Files that were set aside, by location: the mark under which they were refused.
    """

    taken: frozenset[str] = frozenset()
    seen: dict[str, float] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def to_cursor(self) -> str:
        """Return the state as text, for `from_cursor`."""
        document = {
            "taken": sorted(self.taken),
            "seen": self.seen,
            "orders": [asdict(order) for order in self.orders],
            "refused": self.refused,
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str | None) -> LandingState:
        """Return the state behind a cursor; an empty one for a sensor that never looked.

        Raises:
            AutomationError: The cursor was not written by `to_cursor`.
        """
        if not cursor:
            return cls()
        try:
            document: dict[str, Any] = json.loads(cursor)
            return cls(
                taken=frozenset(document["taken"]),
                seen={str(mark): float(time) for mark, time in document["seen"].items()},
                orders=tuple(_order(order) for order in document["orders"]),
                refused=dict(document["refused"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AutomationError(
                f"the cursor can't be read ({type(error).__name__}: {error})",
                where="sensor of new files",
                fix="reset the cursor in the UI: all files are looked at again, and nothing is loaded twice",
            ) from None


def _order(document: dict[str, Any]) -> Order:
    files = tuple(LandedFile(**file) for file in document["files"])
    return Order(files, int(document["attempt"]), float(document["not_before"]))


@dataclass(frozen=True)
class Decision:
    """What one look leads to.

    Attributes:
        state: What to remember.
        start: The order to start a run for, or None.
        refused_now: Files that were set aside by this look.
        waiting: Files that are still being written, as far as can be seen.
        held: Files that are whole, and are loaded together when the runs before them are over.
    """

    state: LandingState
    start: Order | None
    refused_now: tuple[LandedFile, ...]
    waiting: int
    held: int = 0


def decide(
    state: LandingState,
    listed: Sequence[LandedFile],
    outcome_of: Callable[[str], Outcome | None],
    now: float,
    pace: Pace,
) -> Decision:
    """Decide what to load.

    One run at a time: what arrives while it goes is loaded together by the next one. Starting the same order again
    is harmless, because its key is the same, and so is looking at the same files again, because the table knows what
    it holds.

    Args:
        state: What the last look left.
        listed: The files that are there.
        outcome_of: What has become of the run with a key.
        now: Seconds since 1970.
        pace: How eagerly to go on.
    """
    there = {file.mark for file in listed}
    orders, refused_now, going = _settle_orders(state.orders, outcome_of, now, pace)
    known = state.taken | {file.mark for order in orders for file in order.files}
    refused = {
        location: mark
        for location, mark in {**state.refused, **{file.location: file.mark for file in refused_now}}.items()
        if mark in there
    }
    seen: dict[str, float] = {}
    whole: list[LandedFile] = []
    for file in listed:
        if file.mark in known:
            continue
        since = state.seen.get(file.mark)
        seen[file.mark] = now if since is None else since
        if since is not None and now - since >= pace.settle_seconds:
            whole.append(file)
    waiting = len(seen) - len(whole)
    # An order that waits for its next attempt holds up nobody.
    is_idle = not going and all(order.not_before > now for order in orders)
    fresh = whole if is_idle else []
    for file in fresh:
        del seen[file.mark]
    orders += [
        Order(tuple(sorted(fresh[first : first + pace.files_per_run])))
        for first in range(0, len(fresh), pace.files_per_run)
    ]
    start = None if going else next((order for order in orders if order.not_before <= now), None)
    taken = frozenset(there & (known | {file.mark for file in fresh}))
    remembered = LandingState(taken, seen, tuple(orders), refused)
    return Decision(remembered, start, tuple(refused_now), waiting, len(whole) - len(fresh))


def _settle_orders(
    orders: Iterable[Order], outcome_of: Callable[[str], Outcome | None], now: float, pace: Pace
) -> tuple[list[Order], list[LandedFile], bool]:
    """Return the orders that are still open, the files to set aside, and whether a run is going."""
    still: list[Order] = []
    refused: list[LandedFile] = []
    going = False
    for order in orders:
        outcome = outcome_of(order.key)
        if outcome == "done":
            continue
        if outcome == "refused":
            middle = len(order.files) // 2
            if middle:
                still += [Order(order.files[:middle]), Order(order.files[middle:])]
            else:
                refused += order.files
        elif outcome == "failed":
            pause = min(pace.pause_seconds * 2**order.attempt, pace.longest_pause_seconds)
            still.append(replace(order, attempt=order.attempt + 1, not_before=now + pause))
        else:
            going = going or outcome == "going"
            still.append(order)
    return still, refused, going
