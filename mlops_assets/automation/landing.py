"""Decides which files of a landing folder to load: the logic of the sensor for new files.

What belongs here: pure functions over a listing, the sensor's cursor and the outcomes of earlier runs. What does not:
listing (`data/sources/listing`), Dagster (`sensors`).

An order is a set of files that one run loads. It is created only when no other order can be started: each run pays for
the start of a JVM, and if each look turned the few files it sees into an order, the runs would never catch up. An order
stays in the cursor until its run has succeeded, so nothing is lost when a run fails, is killed or was never started:

- A run that was refused because of its input is not repeated; its order is split in half (`outcomes` says why).
- A run that failed for any other reason is repeated after a pause that doubles up to an hour.
- A file that changes after it was taken is a new file. Whether its rows are already known is for the table to decide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mlops_assets.automation.landed_days import DayMarks, fold, unfold
from mlops_assets.data.sources.listing import LandedFile
from mlops_assets.data.sources.locations import joined
from mlops_assets.errors import AutomationError

# Outcome of an order's run; None when there is no such run (yet).
Outcome = Literal["going", "done", "refused", "failed", "died"]
_KEY_LENGTH = 16


@dataclass(frozen=True)
class Pace:
    """How quickly files are picked up.

    Attributes:
        interval_seconds: Minimum time between two looks; Dagster's daemon evaluates sensors every 5 s.
        settle_seconds: A file is taken once it has not changed for this long, nor between two looks.
        files_per_run: Maximum number of files per run.
        pause_seconds: Pause before the first retry of a failed run; it doubles each time.
        longest_pause_seconds: Upper limit of the pause.
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
        attempt: How many of its runs have failed.
        not_before: Earliest time of the next attempt, in seconds since 1970.
    """

    files: tuple[LandedFile, ...]
    attempt: int = 0
    not_before: float = 0.0

    @property
    def key(self) -> str:
        """Run key of this order and attempt; Dagster starts each run key once."""
        text = "\n".join(file.mark for file in self.files)
        return f"landing-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]}-{self.attempt}"

    @property
    def location(self) -> str:
        """The files in the form that a source accepts."""
        return joined(file.location for file in self.files)


@dataclass(frozen=True)
class LandingState:
    """What the sensor remembers between two looks.

    Attributes:
        taken: Marks of the files that are in an order or in the table, as long as the files exist; without those that
            `days` covers.
        seen: When each file that is in no order yet was first seen as it is, by mark.
        orders: Orders that are still to be loaded, oldest first.
        refused: Files that were set aside, by location: the mark under which they were refused.
        days: One mark for each folder and past day of which all files were taken, see `landed_days`.
    """

    taken: frozenset[str] = frozenset()
    seen: dict[str, float] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    days: DayMarks = field(default_factory=dict)

    def to_cursor(self) -> str:
        """Return the state as text, for `from_cursor`."""
        document = {
            "taken": sorted(self.taken),
            "seen": self.seen,
            "orders": [asdict(order) for order in self.orders],
            "refused": self.refused,
            "days": self.days,
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str | None) -> LandingState:
        """Return the state behind a cursor; an empty one for a sensor that has never run.

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
                # Earlier cursors have a mark for each file only.
                days={
                    folder: {int(day): str(mark) for day, mark in marks.items()}
                    for folder, marks in document.get("days", {}).items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AutomationError(
                f"the cursor can't be read ({type(error).__name__}: {error})",
                where="sensor of new files",
                fix="reset the cursor in the UI: all files are looked at again, and nothing is loaded twice",
            ) from error


def _order(document: dict[str, Any]) -> Order:
    files = tuple(LandedFile(**file) for file in document["files"])
    return Order(files, int(document["attempt"]), float(document["not_before"]))


@dataclass(frozen=True)
class Decision:
    """The result of one look.

    Attributes:
        state: What to remember.
        start: The order to start a run for, or None.
        refused_now: Files that were set aside by this look.
        waiting: Number of files that still seem to be being written.
        held: Number of complete files that will be loaded together once the runs before them have ended.
        taken: Number of files that are there and were taken.
        fresh: Files that this look found complete and put into orders.
    """

    state: LandingState
    start: Order | None
    refused_now: tuple[LandedFile, ...]
    waiting: int
    held: int = 0
    taken: int = 0
    fresh: tuple[LandedFile, ...] = ()


def decide(
    state: LandingState,
    listed: Sequence[LandedFile],
    outcome_of: Callable[[str], Outcome | None],
    now: float,
    pace: Pace,
) -> Decision:
    """Decide what to load.

    One run at a time: files that arrive during a run are loaded together by the next one. Starting the same order again
    is harmless, because its run key is the same, and so is loading the same files again, because the table recognises
    content that it already holds.

    Args:
        state: State after the last look.
        listed: The files that are there.
        outcome_of: Returns the outcome of the run with a given key.
        now: Seconds since 1970.
        pace: How quickly files are picked up.
    """
    there = {file.mark for file in listed}
    orders, refused_now, going = _update_orders(state.orders, outcome_of, now, pace)
    known = state.taken | unfold(state.days, listed) | _marks(orders)
    refused = {
        location: mark
        for location, mark in {**state.refused, **{file.location: file.mark for file in refused_now}}.items()
        if mark in there
    }
    known |= frozenset(refused.values())
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
    # An order that waits for its next attempt does not block others.
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
    left, days = fold(taken, _marks(orders), listed, now)
    remembered = LandingState(left, seen, tuple(orders), refused, days)
    return Decision(remembered, start, tuple(refused_now), waiting, len(whole) - len(fresh), len(taken), tuple(fresh))


def _marks(orders: Iterable[Order]) -> frozenset[str]:
    return frozenset(file.mark for order in orders for file in order.files)


def _update_orders(
    orders: Iterable[Order], outcome_of: Callable[[str], Outcome | None], now: float, pace: Pace
) -> tuple[list[Order], list[LandedFile], bool]:
    """Return the orders that are still open, the files to set aside, and whether a run is in progress."""
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
        elif outcome == "died" and order.attempt and len(order.files) > 1:
            # Perhaps one of its files took the memory of both runs: in the end that file stands alone.
            middle = len(order.files) // 2
            still += [Order(order.files[:middle]), Order(order.files[middle:])]
        elif outcome in ("failed", "died"):
            pause = min(pace.pause_seconds * 2**order.attempt, pace.longest_pause_seconds)
            still.append(replace(order, attempt=order.attempt + 1, not_before=now + pause))
        else:
            going = going or outcome == "going"
            still.append(order)
    return still, refused, going
