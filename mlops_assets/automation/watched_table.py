"""From the versions of a table that someone else writes to what is to be loaded: the thinking part of its sensor.

What belongs here: pure functions over version numbers, the sensor's cursor and what became of earlier runs. What does
not: looking at the table (`data/sources/delta`), Dagster (`sensors`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from mlops_assets.automation.landing import Outcome, Pace
from mlops_assets.errors import AutomationError

_ID_LENGTH = 8


@dataclass(frozen=True)
class WatchState:
    """What the sensor remembers between two looks.

    Attributes:
        table: Id of the table; it changes when the table is made anew.
        loaded: Newest version whose rows have been loaded; -1 before the first.
        wanted: Version that a run was asked to load up to; None when there is nothing to load.
        attempt: How often that run has failed.
        not_before: Time, in seconds since 1970, before which it is not tried again.
    """

    table: str = ""
    loaded: int = -1
    wanted: int | None = None
    attempt: int = 0
    not_before: float = 0.0

    @property
    def key(self) -> str:
        """Run key of the load that is wanted."""
        return f"table-{self.table[:_ID_LENGTH]}-{self.loaded + 1}-{self.wanted}-{self.attempt}"

    def to_cursor(self) -> str:
        """Return the state as text, for `from_cursor`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_cursor(cls, cursor: str | None) -> WatchState:
        """Return the state behind a cursor; an empty one for a sensor that never looked.

        Raises:
            AutomationError: The cursor was not written by `to_cursor`.
        """
        if not cursor:
            return cls()
        try:
            found = json.loads(cursor)
            wanted = found["wanted"]
            return cls(
                str(found["table"]),
                int(found["loaded"]),
                None if wanted is None else int(wanted),
                int(found["attempt"]),
                float(found["not_before"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise AutomationError(
                f"the cursor can't be read ({type(error).__name__}: {error})",
                where="sensor of the watched table",
                fix="reset the cursor in the UI: all versions are looked at again, and nothing is loaded twice",
            ) from None


def follow(
    state: WatchState,
    table: str,
    newest: int,
    outcome_of: Callable[[str], Outcome | None],
    now: float,
    pace: Pace,
) -> tuple[WatchState, bool]:
    """Decide whether to load, and return what to remember.

    Versions are never passed over: a run that fails, or whose input is refused, is repeated after a pause until it
    succeeds, because the rows of later versions may follow from those of earlier ones.

    Args:
        state: What the last look left.
        table: The table's id.
        newest: Its newest version.
        outcome_of: What has become of the run with a key.
        now: Seconds since 1970.
        pace: How long the pauses are.

    Returns:
        The new state, and whether to start a run for `wanted` with its key.
    """
    if state.table != table or newest < state.loaded:
        state = WatchState(table)
    outcome = outcome_of(state.key) if state.wanted is not None else None
    if outcome == "going":
        return state, False
    if outcome == "done" and state.wanted is not None:
        state = WatchState(table, loaded=state.wanted)
    elif outcome is not None:
        doubled = min(pace.pause_seconds * 2**state.attempt, pace.longest_pause_seconds)
        pause = pace.longest_pause_seconds if outcome == "refused" else doubled
        state = replace(state, attempt=state.attempt + 1, not_before=now + pause)
    if state.wanted is None:
        if newest <= state.loaded:
            return state, False
        state = replace(state, wanted=newest)
    return state, now >= state.not_before
