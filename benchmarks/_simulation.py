"""A small simulation of a search on a cluster that isn't available here, and its picture.

What belongs here: who waits for whom when trials of known length meet a serial driver and many slots. What does not:
measuring the costs that go in (`parallel_efficiency`).

The model: the driver first serializes the data. Then each free slot asks it for a trial; it answers one request at a
time (`propose_seconds`), the trial reaches the slot after `latency_seconds`, and a slot's first trial also pays for the
worker's start and for fetching the data. It leaves out network contention and the scheduling cost of a JVM with
thousands of slots.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from mlops_assets.evaluation.plots.style import BLUE, DASHED, GREEN, MUTED, ORANGE, note, one_panel, png

WORKERS = (1, 2, 6, 10, 14, 50)
CORES = 8
# Wall time of 100 evaluations by number of workers of 8 cores, as the seed project publishes it.
SEED_SECONDS = {1: 5133.0, 2: 2629.0, 6: 1015.0, 10: 714.0, 14: 585.0}
# A search keeps its parallelism at or below a quarter of its trials; otherwise TPE has nothing to learn from.
TRIALS_PER_SLOT = 4
_ORDERS = 30
_COLOURS = (BLUE, GREEN, MUTED, ORANGE)


@dataclass(frozen=True)
class Costs:
    """What a search costs in addition to its trials, in seconds.

    Attributes:
        serialize_seconds: Until the driver has written the data for its executors; once per search.
        propose_seconds: The driver's own time per trial, one trial at a time.
        latency_seconds: From the driver's answer to the running trial and from its end to the driver, per trial.
        first_trial_seconds: Starting a Python worker and fetching the data; once per slot.
    """

    serialize_seconds: float
    propose_seconds: float
    latency_seconds: float
    first_trial_seconds: float


def wall_seconds(trials: Sequence[float], slots: int, costs: Costs) -> float:
    """Return how long a search takes.

    Args:
        trials: Length of each trial in seconds, in the order of proposal.
        slots: Trials that can run at once.
        costs: What is paid in addition to them.
    """
    return _schedule(trials, slots, costs)[2]


def _schedule(trials: Sequence[float], slots: int, costs: Costs) -> tuple[list[tuple[float, bool]], float, float]:
    """Return when each slot is free, as a heap, with whether it is still without a worker; the driver; the last end."""
    driver_free = costs.serialize_seconds
    free = [(driver_free, True)] * min(slots, len(trials))
    heapq.heapify(free)
    ends = driver_free
    for seconds in trials:
        asked, first = heapq.heappop(free)
        driver_free = max(asked, driver_free) + costs.propose_seconds
        begins = driver_free + costs.latency_seconds + (costs.first_trial_seconds if first else 0.0)
        ends = max(ends, begins + seconds)
        heapq.heappush(free, (begins + seconds, False))
    return free, driver_free, ends


def useful_share(trials: Sequence[float], slots: int, costs: Costs, extra_share: float) -> float:
    """Return the share of the slots' time in trials that count, if idle slots try further points at the end.

    Once no trial is left to propose, a free slot takes a further one, of any of the lengths, but it ends after
    `extra_share` of their mean: a trial that is cut keeps its best checkpoint. It counts if it ends before the last of
    the trials; what is running then is lost. Averaged over orders of the trials.

    Args:
        trials: Length of each trial in seconds.
        slots: Trials that can run at once.
        costs: What is paid in addition to them; the driver proposes further points too.
        extra_share: Longest further trial, in mean trials.
    """
    random = np.random.default_rng(2)
    useful = spent = 0.0
    for order in _orders(trials):
        free, driver_free, ends = _schedule(order, slots, costs)
        useful += sum(trials)
        spent += slots * ends
        while free[0][0] < ends:
            asked, first = heapq.heappop(free)
            length = min(float(random.choice(trials)), extra_share * fmean(trials))
            driver_free = max(asked, driver_free) + costs.propose_seconds
            over = driver_free + costs.latency_seconds + (costs.first_trial_seconds if first else 0.0) + length
            useful += length if over <= ends else 0.0
            heapq.heappush(free, (over, False))
    return useful / spent


def mean_wall_seconds(trials: Sequence[float], slots: int, costs: Costs) -> float:
    """Return how long a search takes on average over orders of its trials: the last one decides the tail."""
    return fmean(wall_seconds(order, slots, costs) for order in _orders(trials))


def _orders(trials: Sequence[float]) -> list[list[float]]:
    random = np.random.default_rng(1)
    return [[trials[number] for number in random.permutation(len(trials))] for _ in range(_ORDERS)]


def efficiency(trials: Sequence[float], slots: int, costs: Costs) -> float:
    """Return the share of the slots' time spent in trials, averaged over orders of the trials."""
    return sum(trials) / (slots * mean_wall_seconds(trials, slots, costs))


def stretched(measured: Sequence[float], count: int, mean_seconds: float) -> list[float]:
    """Return `count` trial lengths with the measured distribution's shape, and a mean of `mean_seconds`."""
    repeated = [measured[number % len(measured)] for number in range(count)]
    factor = mean_seconds * count / sum(repeated)
    return [seconds * factor for seconds in repeated]


def bend(measured: Sequence[float], trials: int, slots: int, costs: Costs, wanted: float) -> float:
    """Return the mean trial length in seconds that reaches the wanted efficiency; infinity if none up to a day does.

    Found by bisection on a log scale: longer trials never increase the share of the overhead.
    """
    low, high = 1e-3, 86_400.0
    if efficiency(stretched(measured, trials, high), slots, costs) < wanted:
        return math.inf
    while high / low > 1.01:  # noqa: PLR2004 - one per cent is finer than what goes in
        middle = math.sqrt(low * high)
        if efficiency(stretched(measured, trials, middle), slots, costs) < wanted:
            low = middle
        else:
            high = middle
    return high


def seed_efficiency(workers: int) -> float | None:
    """Return the efficiency by the seed project's published times: T(1) / (workers x T(workers))."""
    seconds = SEED_SECONDS.get(workers)
    return None if seconds is None else SEED_SECONDS[1] / (workers * seconds)


def chart(lines: Mapping[str, Mapping[int, float]], title: str, subtitle: str) -> bytes:
    """Draw efficiency over workers as PNG, one line per scenario."""
    figure, axes = one_panel(title, subtitle)
    for (label, points), colour in zip(lines.items(), _COLOURS, strict=False):
        axes.plot(list(points), list(points.values()), "o-", color=colour, label=label, linewidth=1.8)
    axes.axhline(0.9, color=MUTED, linestyle=DASHED, linewidth=1.2)
    axes.set(xlim=(0, max(WORKERS) + 1), ylim=(0, 1.04), xlabel=f"workers of {CORES} cores")
    axes.set_ylabel("parallel efficiency")
    note(axes, "0.90", (max(WORKERS), 0.9), from_right=True)
    axes.legend(loc="lower left", frameon=False)
    return png(figure)
