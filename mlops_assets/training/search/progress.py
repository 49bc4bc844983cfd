"""Progress of a search: a line in the run's log from time to time, and a snapshot for a progress bar.

What belongs here: counting, estimating the time left, choosing when to log. What does not: where the lines go (the
asset), drawing a bar (`progress_bar`).
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

# Each finished trial logs a debug record with a `snapshot`; it is written only if a handler listens.
logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
_MINUTE, _HOUR = 60, 3_600


@dataclass(frozen=True)
class Snapshot:
    """Progress of a search at one moment.

    Attributes:
        total: Number of trials.
        done: Trials that have ended, including those resumed from an earlier search.
        running: Trials in flight.
        pruned: Done trials that were stopped as hopeless.
        failed: Done trials that ended with an error.
        resumed: Done trials that were resumed.
        objective: The metric to optimize.
        best: The best trial so far, None before the first one.
        seconds: Time since the search began.
        seconds_left: Estimate from this run's pace, or the rest of the time budget; None before the first estimate.
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
        """Return the progress as one line of text."""
        resumed = f", {self.resumed} resumed" if self.resumed else ""
        best = "none yet" if self.best is None else f"{self.best.value:.4f} (trial {self.best.number})"
        left = "" if self.seconds_left is None or self.done == self.total else f", {clock(self.seconds_left)} left"
        return (
            f"trial {self.done} of {self.total} done ({self.running} running, {self.pruned} pruned, "
            f"{self.failed} failed{resumed}), best validation {self.objective}: {best}{left}"
        )


class SearchProgress:
    """Counts trials and logs the progress after each, but not more often than a reader can follow.

    Args:
        plan: What is searched.
        parallelism: Most trials in flight.
        log: Writes a line to the run's log.
        now: Seconds on a clock that only goes forward.
    """

    def __init__(
        self, plan: SearchPlan, parallelism: int, log: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._parallelism, self._log, self._now = plan, parallelism, log, now
        self._total = plan.most_trials
        self._counts: Counter[str] = Counter()
        self._resumed = 0
        self._best: TrialRecord | None = None
        self._started = now()
        self._logged_at = -math.inf
        self._logged_done = 0
        self._pending_error = ""

    def take_over(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of an earlier, unfinished search."""
        for record in records:
            self._count(record)
            self._resumed += 1
        if self._resumed:
            self._log(f"resuming an unfinished search: {self.snapshot().line()}")
            self._logged_done = self._done

    def report(self, record: TrialRecord) -> None:
        """Count a trial that has just ended."""
        self._count(record)
        if record.state == "failed":
            first = record.error.strip().splitlines()[0] if record.error.strip() else "no reason was recorded"
            self._pending_error = f"trial {record.number} failed: {first}"
        snapshot = self.snapshot()
        logger.debug("%s", snapshot, extra={"snapshot": snapshot})
        if snapshot.done == snapshot.total or self._now() - self._logged_at >= SECONDS_BETWEEN_LINES:
            self._write(snapshot)

    def end(self) -> None:
        """Log the trials since the last line: a search can end before all its trials."""
        if self._done != self._logged_done:
            self._write(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the current progress."""
        left = max(0, self._total - self._done)
        seconds = self._now() - self._started
        here = self._done - self._resumed
        estimates = [seconds * left / here] if here else []
        if self._plan.max_seconds:
            estimates.append(max(0.0, self._plan.max_seconds - seconds))
        return Snapshot(
            total=max(self._total, self._done),  # slots that were free may have tried more
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

    def _write(self, snapshot: Snapshot) -> None:
        if self._pending_error:
            self._log(self._pending_error)
            self._pending_error = ""
        self._log(snapshot.line())
        self._logged_at, self._logged_done = self._now(), snapshot.done


def clock(seconds: float) -> str:
    """Format a duration like a clock: 0:07, 12:34, 1:02:03."""
    whole = round(seconds)
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
