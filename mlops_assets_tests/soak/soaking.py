"""One soak: files are dropped while processes are killed, then nothing is disturbed until all files are loaded.

What belongs here: the course of events, and the report on it. What does not: the files (`files`), the processes
(`installation`), the verdict (`expectation`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import dagster as dg

from mlops_assets_tests.soak.expectation import Actual, Expected, expect, problems
from mlops_assets_tests.soak.files import plan
from mlops_assets_tests.soak.installation import Installation
from mlops_assets_tests.soak.state import on_record, read

RUN, DAEMON, EVERYTHING = "run", "daemon", "everything"
_DAEMON_EVERY, _RESTART_AFTER = (12.0, 40.0), (0.0, 3.0)
_EVERYTHING_AFTER = (0.2, 0.55)  # share of the whole time
# A load spends most of its time on starting a JVM; it commits after its rows are staged.
_SHARE_OF_RUNS, _SHARE_AT_COMMITS, _ANY_TIME, _AT_COMMITS = 0.6, 0.6, (0.0, 25.0), (0.0, 6.0)
_LOOK_EVERY, _REPORT_EVERY = 0.5, 10.0
_NOT_OVER = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class SoakSize:
    """The size of a soak.

    Attributes:
        seed: Seed of the files and the kills; it can't reproduce the machine's timing.
        files: Number of files to drop.
        seconds: Time in which files are dropped and processes killed.
        limit: Seconds after that within which all files must be loaded.
        has_key: Whether the contract has a key.
    """

    seed: int
    files: int = 300
    seconds: float = 150.0
    limit: float = 600.0
    has_key: bool = True


@dataclass
class Report:
    """What happened.

    Attributes:
        expected: What the tables must hold.
        actual: What the tables hold.
        wrong: Differences between the two.
        kills: Number of kills by what was killed.
        runs: Number of runs by how they ended.
        seconds: How long the soak took.
    """

    expected: Expected = field(default_factory=Expected)
    actual: Actual = field(default_factory=Actual)
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def table(self) -> str:
        """Return the report as a table."""
        expected, records = self.expected, [counts for _, counts in self.actual.records]
        distinct_rows = sum(expected.contents.values())
        repeated = expected.files - len(expected.contents)
        lines = {
            "dropped": f"{expected.rows:,} rows in {expected.files:,} files",
            "repeated": f"{expected.rows - distinct_rows:,} rows in {repeated:,} files",
            "distinct": f"{distinct_rows:,} rows in {len(expected.contents):,} contents",
            "  accepted": f"{sum(accepted for _, accepted, _, _ in records):,}",
            "  quarantined": f"{sum(bad for _, _, bad, _ in records):,}",
            "  known by key": f"{sum(known for _, _, _, known in records):,}",
            "raw table": f"{len(self.actual.raw):,} rows, {expected.raw.total():,} expected",
            "quarantine": f"{len(self.actual.aside):,} rows, {len(expected.aside):,} expected",
            "kills": _counts(self.kills),
            "runs": _counts(self.runs),
            "seconds": f"{self.seconds:.0f}",
            "verdict": "; ".join(self.wrong) or "every row is where it must be, exactly once",
        }
        return "\n".join(f"{name:16} {text}" for name, text in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


class Soak:
    """A soak that can be run once.

    Args:
        installation: Prepared, with nothing started.
        size: How much happens, and for how long.
        print_line: Takes lines of progress.
    """

    def __init__(self, installation: Installation, size: SoakSize, print_line: Callable[[str], None]) -> None:
        self._there, self._size, self._print_line = installation, size, print_line
        self._random = Random(size.seed)  # noqa: S311 - a soak must be repeatable
        self._report = Report()
        self._begun = self._reported_at = time.monotonic()
        self._all_dies = self._draw(_EVERYTHING_AFTER) * size.seconds
        self._daemon_starts = 0.0
        self._daemon_dies: float | None = None  # set once it works, which takes a while on a busy machine
        self._doomed: dict[str, float | None] = {}  # by run id: time of its kill; None: once it stages rows

    def run(self) -> Report:
        """Drop files and kill processes, wait until all files are loaded, and compare."""
        self._there.start_code_server()
        self._there.start_daemon()
        self._begun = time.monotonic()
        with ThreadPoolExecutor(1) as writer:
            dropped = writer.submit(self._drop)
            while self._now < self._size.seconds:
                self._disturb()
                self._show_progress()
                time.sleep(_LOOK_EVERY / 5)
            self._wait_until_loaded(dropped)
        self._report.seconds = self._now
        self._report.expected = expect(self._there.landing, has_key=self._size.has_key)
        self._report.actual = read(self._there.database)
        self._report.wrong = problems(self._report.expected, self._report.actual)
        self._report.runs = Counter(run.status.value.lower() for run in self._there.runs())
        return self._report

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _draw(self, between: tuple[float, float]) -> float:
        return self._random.uniform(*between)

    def _drop(self) -> None:
        """Write all pieces, each at its time; in a thread, since a real writer doesn't wait for daemons either."""
        for piece in plan(self._size.seed, self._size.files, self._size.seconds, has_key=self._size.has_key):
            time.sleep(max(0.0, piece.at - self._now))
            piece.write(self._there.landing)

    def _disturb(self) -> None:
        """Kill what is due, and restart what was killed."""
        there, now = self._there, self._now
        if now >= self._all_dies:
            there.kill_everything()
            self._count(EVERYTHING)
            there.start_code_server()
            there.start_daemon()
            self._all_dies = self._now + self._draw(_EVERYTHING_AFTER) * self._size.seconds
            self._daemon_dies = None
            return
        if there.daemon is None and now >= self._daemon_starts:
            there.start_daemon()
        if self._daemon_dies is None and there.daemon_works():
            self._daemon_dies = now + self._draw(_DAEMON_EVERY)
        if self._daemon_dies is not None and now >= self._daemon_dies:
            there.kill_daemon()
            self._count(DAEMON)
            self._daemon_starts = now + self._draw(_RESTART_AFTER)
            self._daemon_dies = None
        for run in there.runs(dg.DagsterRunStatus.STARTED):
            self._doom(run)

    def _doom(self, run: dg.DagsterRun) -> None:
        """Decide when a run is first seen whether and when to kill it, and do so when the time has come."""
        if run.run_id not in self._doomed:
            at_commits = self._random.random() < _SHARE_AT_COMMITS
            dies = None if at_commits else self._now + self._draw(_ANY_TIME)
            self._doomed[run.run_id] = dies if self._random.random() < _SHARE_OF_RUNS else float("inf")
        dies = self._doomed[run.run_id]
        if dies is None:
            if any((self._there.database / "_staging").glob("*/*/*.parquet")):
                self._doomed[run.run_id] = self._now + self._draw(_AT_COMMITS)
        elif self._now >= dies:
            self._doomed[run.run_id] = float("inf")
            if self._there.kill_run(run):
                self._count(RUN)

    def _count(self, what: str) -> None:
        self._report.kills[what] += 1

    def _wait_until_loaded(self, dropped: Future[None]) -> None:
        """Let the remaining files arrive and the daemon work until all contents are on record and no run is active.

        Raises:
            TimeoutError: That takes longer than the limit.
        """
        if self._there.daemon is None:
            self._there.start_daemon()
        until = self._now + self._size.limit
        self._print_line("no more kills from now on")
        while self._now < until:
            self._show_progress()
            if dropped.done() and self._all_loaded():
                dropped.result()
                return
            time.sleep(_LOOK_EVERY)
        raise TimeoutError(f"not all files are loaded after {self._now:.0f} s\n{self._there.log_of('daemon')}")

    def _all_loaded(self) -> bool:
        contents = expect(self._there.landing, has_key=self._size.has_key).contents
        return contents.keys() <= on_record(self._there.database) and not self._there.runs(*_NOT_OVER)

    def _show_progress(self) -> None:
        if time.monotonic() - self._reported_at < _REPORT_EVERY:
            return
        self._reported_at = time.monotonic()
        dropped = sum(1 for _ in self._there.landing.glob("[!.]*.csv*"))
        runs = Counter(run.status.value.lower() for run in self._there.runs())
        self._print_line(
            f"{self._now:5.0f} s: {dropped} of {self._size.files} files dropped, "
            f"{len(on_record(self._there.database))} contents on record; runs: {_counts(runs)}; "
            f"kills: {_counts(self._report.kills)}"
        )
