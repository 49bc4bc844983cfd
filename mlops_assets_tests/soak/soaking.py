"""One soak: files are dropped while processes are killed, then everything is left in peace until all is in.

What belongs here: when what happens, and the account of it. What does not: the files (`files`), the processes
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

from mlops_assets_tests.soak.expectation import Expected, Found, expect, problems
from mlops_assets_tests.soak.files import plan
from mlops_assets_tests.soak.installation import Installation
from mlops_assets_tests.soak.state import on_record, read

RUN, DAEMON, EVERYTHING = "run", "daemon", "everything"
_DAEMON_EVERY, _RESTART_AFTER = (12.0, 40.0), (0.0, 3.0)
_EVERYTHING_AFTER = (0.2, 0.55)  # of the whole time
# A load takes most of its time to start a JVM; its commits come after its rows are staged.
_SHARE_OF_RUNS, _SHARE_AT_COMMITS, _ANY_TIME, _AT_COMMITS = 0.6, 0.6, (0.0, 25.0), (0.0, 6.0)
_LOOK_EVERY, _TELL_EVERY = 0.5, 10.0
_NOT_OVER = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class Wanted:
    """What a soak is to be.

    Attributes:
        seed: Of the files and of the kills; what the machine makes of their times, no seed repeats.
        files: Files that are dropped.
        seconds: Time in which that happens, and processes are killed.
        limit: Seconds after that in which all must be in.
        has_key: Whether the contract has a key.
    """

    seed: int
    files: int = 300
    seconds: float = 150.0
    limit: float = 600.0
    has_key: bool = True


@dataclass
class Account:
    """What happened.

    Attributes:
        expected: What the files amount to.
        found: What the tables hold.
        wrong: What is wrong with them, if anything.
        kills: Kills by what was killed.
        runs: Runs by how they ended.
        seconds: How long it all took.
    """

    expected: Expected = field(default_factory=Expected)
    found: Found = field(default_factory=Found)
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def table(self) -> str:
        """Return the account as a table."""
        expected, records = self.expected, [counts for _, counts in self.found.records]
        delivered = sum(expected.contents.values())
        again = expected.files - len(expected.contents)
        lines = {
            "dropped": f"{expected.rows:,} rows in {expected.files:,} files",
            "delivered again": f"{expected.rows - delivered:,} rows in {again:,} files",
            "delivered": f"{delivered:,} rows in {len(expected.contents):,} contents",
            "  accepted": f"{sum(accepted for _, accepted, _, _ in records):,}",
            "  quarantined": f"{sum(bad for _, _, bad, _ in records):,}",
            "  known by key": f"{sum(known for _, _, _, known in records):,}",
            "raw table": f"{len(self.found.raw):,} rows, {expected.raw.total():,} expected",
            "quarantine": f"{len(self.found.aside):,} rows, {len(expected.aside):,} expected",
            "kills": _counts(self.kills),
            "runs": _counts(self.runs),
            "seconds": f"{self.seconds:.0f}",
            "verdict": "; ".join(self.wrong) or "every row is where it must be, once",
        }
        return "\n".join(f"{name:16} {text}" for name, text in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


class Soak:
    """A soak in the making.

    Args:
        installation: Prepared, nothing started.
        wanted: What it is to be.
        tell: Takes lines of progress.
    """

    def __init__(self, installation: Installation, wanted: Wanted, tell: Callable[[str], None]) -> None:
        self._there, self._wanted, self._tell = installation, wanted, tell
        self._random = Random(wanted.seed)  # noqa: S311 - repeatable, as far as it goes
        self._account = Account()
        self._begun = self._told = time.monotonic()
        self._all_dies = self._draw(_EVERYTHING_AFTER) * wanted.seconds
        self._daemon_starts = 0.0
        self._daemon_dies: float | None = None  # decided when it works: on a busy machine that takes a while
        self._doomed: dict[str, float | None] = {}  # by run id: when it dies, None for once it stages rows

    def go(self) -> Account:
        """Do it all, and judge."""
        self._there.start_code_server()
        self._there.start_daemon()
        self._begun = time.monotonic()
        with ThreadPoolExecutor(1) as beside:
            dropped = beside.submit(self._drop)
            while self._now < self._wanted.seconds:
                self._disturb()
                self._say()
                time.sleep(_LOOK_EVERY / 5)
            self._calm(dropped)
        self._account.seconds = self._now
        self._account.expected = expect(self._there.landing, has_key=self._wanted.has_key)
        self._account.found = read(self._there.database)
        self._account.wrong = problems(self._account.expected, self._account.found)
        self._account.runs = Counter(run.status.value.lower() for run in self._there.runs())
        return self._account

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _draw(self, between: tuple[float, float]) -> float:
        return self._random.uniform(*between)

    def _drop(self) -> None:
        """Write all pieces, each at its time; by itself, since a writer does not wait for daemons to start."""
        for piece in plan(self._wanted.seed, self._wanted.files, self._wanted.seconds, has_key=self._wanted.has_key):
            time.sleep(max(0.0, piece.at - self._now))
            piece.write(self._there.landing)

    def _disturb(self) -> None:
        """Kill what is due, start again what was killed."""
        there, now = self._there, self._now
        if now >= self._all_dies:
            there.kill_everything()
            self._count(EVERYTHING)
            there.start_code_server()
            there.start_daemon()
            self._all_dies = self._now + self._draw(_EVERYTHING_AFTER) * self._wanted.seconds
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
        """Decide what becomes of a run when it is first seen, and do it when it is time."""
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
        self._account.kills[what] += 1

    def _calm(self, dropped: Future[None]) -> None:
        """Let the rest of the files come, and the daemon work, until all contents are on record and no run is going.

        Raises:
            TimeoutError: That is not so in time.
        """
        if self._there.daemon is None:
            self._there.start_daemon()
        until = self._now + self._wanted.limit
        self._tell("in peace now")
        while self._now < until:
            self._say()
            if dropped.done() and self._all_is_in():
                dropped.result()
                return
            time.sleep(_LOOK_EVERY)
        raise TimeoutError(f"not all is in after {self._now:.0f} s\n{self._there.log_of('daemon')}")

    def _all_is_in(self) -> bool:
        contents = expect(self._there.landing, has_key=self._wanted.has_key).contents
        return contents.keys() <= on_record(self._there.database) and not self._there.runs(*_NOT_OVER)

    def _say(self) -> None:
        if time.monotonic() - self._told < _TELL_EVERY:
            return
        self._told = time.monotonic()
        dropped = sum(1 for _ in self._there.landing.glob("[!.]*.csv*"))
        runs = Counter(run.status.value.lower() for run in self._there.runs())
        self._tell(
            f"{self._now:5.0f} s: {dropped} of {self._wanted.files} files dropped, "
            f"{len(on_record(self._there.database))} contents on record; runs: {_counts(runs)}; "
            f"kills: {_counts(self._account.kills)}"
        )
