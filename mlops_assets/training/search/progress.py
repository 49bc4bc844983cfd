"""How far a search is: a line in the run's log now and then, and a snapshot for whoever shows a bar.

What belongs here: counting, estimating the time left, choosing when to say something. What does not: where the lines
go (the asset), drawing a bar (`progress_bar`).
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import TrialRecord

# Each finished trial is a record here with a `snapshot`; nothing is written anywhere unless somebody listens.
logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
_MINUTE, _HOUR = 60, 3_600


@dataclass(frozen=True)
class Snapshot:
    """How far a search is.

    Attributes:
        total: Trials in all.
        done: Trials that are over, those taken over from an earlier search among them.
        running: Trials in flight.
        pruned: Of the done ones, those given up as hopeless.
        failed: Of the done ones, those with an error.
        resumed: Of the done ones, those taken over.
        objective: What is optimized.
        best: The best trial so far, None when there is none.
        seconds: Since the search began.
        seconds_left: Estimated from this run's pace, or until the time budget is spent; None when nothing is known.
    """

    total: int
    done: int
    running: int
    pruned: int
    failed: int
    resumed: int
    objective: str
    best: TrialRecord | None
    seconds: float
    seconds_left: float | None

    def line(self) -> str:
        """Return it in words."""
        resumed = f", {self.resumed} resumed" if self.resumed else ""
        best = "none yet" if self.best is None else f"{self.best.value:.4f} (trial {self.best.number})"
        left = "" if self.seconds_left is None or self.done == self.total else f", {clock(self.seconds_left)} left"
        return (
            f"trial {self.done} of {self.total} done ({self.running} running, {self.pruned} pruned, "
            f"{self.failed} failed{resumed}), best validation {self.objective}: {best}{left}"
        )


class SearchProgress:
    """Counts trials and says how far the search is: after each, but not more often than a reader can follow.

    Args:
        plan: What is searched.
        parallelism: Trials in flight at most.
        say: Writes a line to the run's log.
        now: Seconds on a clock that only goes forward.
    """

    def __init__(
        self, plan: SearchPlan, parallelism: int, log: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._parallelism, self._say, self._now = plan, parallelism, log, now
        self._total = 1 if plan.space.is_one_point else plan.trials
        self._counts: Counter[str] = Counter()
        self._resumed = 0
        self._best: TrialRecord | None = None
        self._started = now()
        self._said_at = -math.inf
        self._said_done = 0
        self._unsaid_error = ""

    def take_over(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of an earlier, unfinished search."""
        for record in records:
            self._count(record)
            self._resumed += 1
        if self._resumed:
            self._say(f"going on with an unfinished search: {self.snapshot().line()}")
            self._said_done = self._done

    def report(self, record: TrialRecord) -> None:
        """Count a trial that has just ended."""
        self._count(record)
        if record.state == "failed":
            first = record.error.strip().splitlines()[0] if record.error.strip() else "no reason is known"
            self._unsaid_error = f"trial {record.number} failed: {first}"
        found = self.snapshot()
        logger.debug("%s", found, extra={"snapshot": found})
        if found.done == found.total or self._now() - self._said_at >= SECONDS_BETWEEN_LINES:
            self._tell(found)

    def end(self) -> None:
        """Say what has not been said: a search can end before all its trials."""
        if self._done != self._said_done:
            self._tell(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return how far the search is."""
        left = self._total - self._done
        seconds = self._now() - self._started
        here = self._done - self._resumed
        estimates = [seconds * left / here] if here else []
        if self._plan.max_seconds:
            estimates.append(max(0.0, self._plan.max_seconds - seconds))
        return Snapshot(
            total=self._total,
            done=self._done,
            running=min(self._parallelism, left),
            pruned=self._counts["pruned"],
            failed=self._counts["failed"],
            resumed=self._resumed,
            objective=self._plan.objective,
            best=self._best,
            seconds=seconds,
            seconds_left=min(estimates, default=None),
        )

    @property
    def _done(self) -> int:
        return self._counts.total()

    def _count(self, record: TrialRecord) -> None:
        self._counts[record.state] += 1
        if record.state != "finished" or record.loss is None:
            return
        if self._best is None or self._best.loss is None or record.loss < self._best.loss:
            self._best = record

    def _tell(self, found: Snapshot) -> None:
        if self._unsaid_error:
            self._say(self._unsaid_error)
            self._unsaid_error = ""
        self._say(found.line())
        self._said_at, self._said_done = self._now(), found.done


def clock(seconds: float) -> str:
    """Write a duration as a clock does: 0:07, 12:34, 1:02:03."""
    whole = round(seconds)
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
