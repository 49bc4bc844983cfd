"""What the log and the terminal say of a search that goes on."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import re
import sys
import threading

import pytest

from mlops_assets.cli.progress_bar import search_bar
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import TrialRecord, TrialState
from mlops_assets.training.search.progress import SECONDS_BETWEEN_LINES, SearchProgress, clock
from mlops_assets_tests.training.spaces import seed_point

POINT = seed_point(3, 10, 0.1, 0.05, 0.01)


def trial(number: int, value: float | None = 0.5, state: TrialState = "finished") -> TrialRecord:
    if value is None:
        return TrialRecord(number, POINT, "failed", None, None, 0.1, error="ValueError: no\nTraceback")
    return TrialRecord(number, POINT, state, value, -value, 1.0)


class Search:
    """A search on a clock of its own, and what it has said."""

    def __init__(self, trials: int = 10, parallelism: int = 2, max_seconds: float = 0) -> None:
        self.said: list[str] = []
        self.time = 1_000.0
        plan = SearchPlan(trials=trials, max_seconds=max_seconds)
        self.progress = SearchProgress(plan, parallelism, self.said.append, now=lambda: self.time)

    def end(self, record: TrialRecord, after: float) -> None:
        self.time += after
        self.progress.report(record)


def test_slow_trials_have_a_line_each_with_all_there_is_to_know():
    search = Search()
    search.end(trial(0, 0.5), after=30)
    search.end(trial(1, 0.2, "pruned"), after=30)
    search.end(trial(2, 0.7), after=30)

    best_first = "best validation average_precision: 0.5000 (trial 0)"
    best_last = "best validation average_precision: 0.7000 (trial 2)"
    assert search.said == [
        f"trial 1 of 10 done (2 running, 0 pruned, 0 failed), {best_first}, 4:30 left",
        f"trial 2 of 10 done (2 running, 1 pruned, 0 failed), {best_first}, 4:00 left",
        f"trial 3 of 10 done (2 running, 1 pruned, 0 failed), {best_last}, 3:30 left",
    ]


def test_fast_trials_share_lines_and_the_last_one_is_always_said():
    search = Search(trials=1_000)
    for number in range(1_000):
        search.end(trial(number), after=0.1)

    assert len(search.said) <= 2 + 100 / SECONDS_BETWEEN_LINES
    assert search.said[0].startswith("trial 1 of 1000 done")
    assert search.said[-1].startswith("trial 1000 of 1000 done (0 running")
    assert "left" not in search.said[-1]


def test_trials_beyond_the_budget_are_counted_and_never_negative():
    search = Search(trials=2)
    for number in range(3):
        search.end(trial(number), after=30)

    assert search.said[-1].startswith("trial 3 of 3 done (0 running")


def test_a_value_on_a_sample_is_not_the_best():
    search = Search()
    search.end(dataclasses.replace(trial(0, 0.9, "screened"), share=0.1), after=30)
    search.end(trial(1, 0.5), after=30)

    assert "of 10 done" in search.said[0]
    assert "average_precision: none yet" in search.said[0]
    assert "average_precision: 0.5000 (trial 1)" in search.said[1]


def test_a_search_that_ends_early_says_how_far_it_came():
    search = Search()
    search.end(trial(0), after=1)
    search.end(trial(1), after=1)
    search.progress.end()
    search.progress.end()

    assert [line[:17] for line in search.said] == ["trial 1 of 10 don", "trial 2 of 10 don"]


def test_failures_are_named_but_a_thousand_of_them_are_not_a_thousand_lines():
    search = Search(trials=1_000)
    for number in range(1_000):
        search.end(trial(number, None), after=0.01)

    assert search.said[:2] == [
        "trial 0 failed: ValueError: no",
        "trial 1 of 1000 done (2 running, 0 pruned, 1 failed), best validation average_precision: none yet, 0:10 left",
    ]
    assert len(search.said) < 12


def test_a_pruned_trial_is_never_the_best():
    search = Search()
    search.end(trial(0, 0.9, "pruned"), after=10)

    assert "none yet" in search.said[0]


def test_resumed_trials_count_but_say_nothing_of_the_pace():
    search = Search()
    search.progress.take_over([trial(number, 0.6) for number in range(5)])
    search.end(trial(5), after=20)

    assert search.said[0].startswith("resuming an unfinished search: trial 5 of 10 done")
    assert "6 of 10 done" in search.said[1]
    assert "5 resumed" in search.said[1]
    assert search.said[1].endswith("1:20 left")


def test_the_time_budget_bounds_what_is_left():
    search = Search(max_seconds=60)
    search.end(trial(0), after=20)
    search.end(trial(1), after=50)

    assert search.said[0].endswith("0:40 left")
    assert search.said[1].endswith("0:00 left")


@pytest.mark.parametrize(("seconds", "text"), [(6.6, "0:07"), (754, "12:34"), (3_723, "1:02:03")])
def test_a_duration_is_written_as_a_clock_does(seconds: float, text: str):
    assert clock(seconds) == text


def test_without_a_terminal_there_is_no_bar():
    with search_bar(io.StringIO()) as bar:
        assert bar is None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_in_a_terminal_a_bar_follows_the_search(capsys: pytest.CaptureFixture[str]):
    ours, theirs = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(ours, shown))
    reader.start()
    with os.fdopen(theirs, "w") as terminal, search_bar(terminal) as bar:
        assert bar is not None
        search = Search(trials=3)
        search.progress.take_over([trial(0, 0.6)])
        search.end(trial(1, 0.75), after=1)
        bar.write("  some line of the log")
        bar.write(f"    {search.progress.snapshot().line()}")
        search.end(trial(2, None), after=1)
        bar.write(f"    {search.progress.snapshot().line()}")
        another = Search(trials=5)
        another.end(trial(0, 0.9), after=1)
    reader.join(timeout=10)
    os.close(ours)

    drawn = shown.decode()
    assert re.search(r"2/3 .*best=0\.7500, running=1, pruned=0, failed=0", drawn)
    assert re.search(r"3/3 .*failed=1", drawn)
    assert re.search(r"1/5 .*best=0\.9000", drawn)
    assert capsys.readouterr().out == "  some line of the log\n"


def _read_all(stream: int, into: bytearray) -> None:
    try:
        while chunk := os.read(stream, 4_096):
            into.extend(chunk)
    except OSError:
        """Linux says so when the other end was closed."""
