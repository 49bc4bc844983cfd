"""Counts and sums over the past of an entity, as they were known at the time of each row.

What belongs here: windows over ordered events, in numpy. What does not: which windows a data set has (`cards`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Past:
    """Events of entities, asked for how many there were, and what they add up to, in a window before a moment.

    Args:
        entity: Entity of each event, 0 or more, shape (events,).
        time: Whole seconds, 0 or more, shape (events,); in any order.
        value: What `total` adds up, shape (events,); by default 1.
    """

    def __init__(self, entity: Integers, time: Integers, value: Floats | None = None) -> None:
        # One sorted number per event: the entity counts more than any time.
        self._width = int(time.max(initial=0)) + 1
        position = np.lexsort((time, entity))
        self._place = entity[position] * self._width + time[position]
        ordered = np.ones(len(time)) if value is None else value[position]
        self._cumulated = np.concatenate([[0.0], np.cumsum(ordered)])

    def total(self, entity: Integers, time: Integers, seconds: int, *, with_now: bool) -> Floats:
        """Return the sum over the events of an entity in the `seconds` before a moment.

        Args:
            entity: Entities asked about, shape (rows,).
            time: Moments, whole seconds, shape (rows,).
            seconds: Length of the window; it does not include its first moment.
            with_now: Whether events at the moment itself count.
        """
        before = np.clip(time - seconds, -1, self._width - 1)
        now = np.clip(time, 0, self._width - 1)
        # A moment after all events counts them all, with or without its own.
        side = np.where((time > now) | with_now, 1, 0)
        first = np.searchsorted(self._place, entity * self._width + before, side="right")
        last = np.searchsorted(self._place, entity * self._width + now + side, side="left")
        total: Floats = self._cumulated[np.maximum(first, last)] - self._cumulated[first]
        return total
