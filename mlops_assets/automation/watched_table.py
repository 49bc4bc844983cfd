"""Decides which versions of someone else's table to load: the logic of the sensor for a watched table.

What belongs here: pure functions over version numbers, the sensor's cursor and the outcomes of earlier runs. What does
not: reading the table (`data/sources/delta`), Dagster (`sensors`).
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
        table: Id of the table; it changes when the table is recreated.
        loaded: Newest version whose rows have been loaded; -1 before the first.
        wanted: Version that a run was asked to load up to; None when there is nothing to load.
        attempt: How many times that run has failed.
        not_before: Earliest time of the next attempt, in seconds since 1970.
    """

    table: str = ""
    loaded: int = -1
    wanted: int | None = None
    attempt: int = 0
    not_before: float = 0.0

    @property
    def key(self) -> str:
        """Run key of the load of `wanted`."""
        return f"table-{self.table[:_ID_LENGTH]}-{self.loaded + 1}-{self.wanted}-{self.attempt}"

    def to_cursor(self) -> str:
        """Return the state as text, for `from_cursor`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_cursor(cls, cursor: str | None) -> WatchState:
        """Return the state behind a cursor; an empty one for a sensor that has never run.

        Raises:
            AutomationError: The cursor was not written by `to_cursor`.
        """
        if not cursor:
            return cls()
        try:
            document = json.loads(cursor)
            wanted = document["wanted"]
            return cls(
                str(document["table"]),
                int(document["loaded"]),
                None if wanted is None else int(wanted),
                int(document["attempt"]),
                float(document["not_before"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise AutomationError(
                f"the cursor can't be read ({type(error).__name__}: {error})",
                where="sensor of the watched table",
                fix="reset the cursor in the UI: all versions are looked at again, and nothing is loaded twice",
            ) from error


def follow(
    state: WatchState,
    table: str,
    newest: int,
    outcome_of: Callable[[str], Outcome | None],
    now: float,
    pace: Pace,
) -> tuple[WatchState, bool]:
    """Decide whether to load, and return what to remember.

    Versions are never skipped: a run that fails, or whose input is refused, is retried after a pause until it succeeds,
    because rows of later versions may depend on those of earlier ones.

    Args:
        state: State after the last look.
        table: The table's id.
        newest: Its newest version.
        outcome_of: Returns the outcome of the run with a given key.
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
