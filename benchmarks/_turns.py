"""Things to be timed take turns, so that what else the machine does slows all of them alike.

What belongs here: the CPU seconds of this process per turn. What does not: what is timed, and how it is reported
(`_report`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def cpu_seconds(looks: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each look, one per round.

    Args:
        looks: What to time, by name.
        rounds: How often each one is timed; one more round before them is not counted, since it pays for imports.
    """
    seconds: dict[str, list[float]] = {name: [] for name in looks}
    for number in range(-1, rounds):
        for name, look in looks.items():
            started = time.process_time()
            look()
            if number >= 0:
                seconds[name].append(time.process_time() - started)
    return seconds
