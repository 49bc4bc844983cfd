"""What a look at the landing place leads to: nothing is lost, nothing is loaded while it is being written."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.automation.landing import Decision, LandingState, Order, Outcome, Pace, decide
from mlops_assets.data.sources.listing import LandedFile
from mlops_assets.errors import AutomationError

DAY = 86_400.0
PACE = Pace(settle_seconds=20, files_per_run=4, pause_seconds=60, longest_pause_seconds=600)


def files(*names: str, mark: str = "1") -> list[LandedFile]:
    return [LandedFile(f"/landing/{name}", f"{name}{mark}") for name in names]


def look(state: LandingState, listed: list[LandedFile], now: float, runs: dict[str, Outcome] | None = None) -> Decision:
    """Look once, the state going through its cursor as it does between two ticks."""
    return decide(LandingState.from_cursor(state.to_cursor()), listed, (runs or {}).get, now, PACE)


def settled(listed: list[LandedFile]) -> Decision:
    """Look twice, the files not changing in between."""
    return look(look(LandingState(), listed, now=0).state, listed, now=20)


def test_a_file_is_taken_when_it_has_stopped_to_change():
    first = look(LandingState(), files("a"), now=0)
    assert (first.start, first.waiting) == (None, 1)
    early = look(first.state, files("a"), now=19)
    assert (early.start, early.waiting) == (None, 1)
    grown = look(early.state, files("a", mark="2"), now=25)
    assert (grown.start, grown.waiting) == (None, 1), "it was written to: the clock starts again"
    assert look(grown.state, files("a", mark="2"), now=44).start is None
    taken = look(grown.state, files("a", mark="2"), now=45)
    assert taken.start is not None
    assert taken.start.files == tuple(files("a", mark="2"))


def test_an_order_is_asked_for_until_there_is_a_run_and_then_waited_for():
    listed = files("a")
    asked = settled(listed)
    assert asked.start is not None
    key = asked.start.key
    again = look(asked.state, listed, now=50)
    assert again.start is not None
    assert again.start.key == key, "no run is known: the same order, which Dagster starts once"
    going = look(again.state, listed, now=80, runs={key: "going"})
    assert going.start is None
    assert going.state.orders
    done = look(going.state, listed, now=110, runs={key: "done"})
    assert done.start is None
    assert not done.state.orders
    assert look(done.state, listed, now=140).start is None, "it stays taken"


def test_what_comes_while_a_run_goes_is_loaded_together_by_the_next():
    asked = settled(files("a"))
    assert asked.start is not None
    runs: dict[str, Outcome] = {asked.start.key: "going"}
    more = files("a", "b", "c")
    state = look(look(asked.state, more, 30, runs).state, more, 60, runs).state
    runs[asked.start.key] = "done"
    following = look(state, more, 90, runs).start
    assert following is not None
    assert following.files == tuple(files("b", "c"))


def test_files_that_trickle_in_while_a_run_goes_are_one_order():
    """If each look made an order of its own, there would be a run for each, and they would never catch up."""
    decision = settled(files("a"))
    assert decision.start is not None
    runs: dict[str, Outcome] = {decision.start.key: "going"}
    for number, now in enumerate(range(30, 150, 30)):
        decision = look(decision.state, files("a", *"bcde"[: number + 1]), now, runs)
        assert len(decision.state.orders) == 1
    assert (decision.waiting, decision.held) == (1, 3)
    runs = dict.fromkeys(runs, "done")

    decision = look(decision.state, files(*"abcde"), 150, runs)

    assert decision.start is not None
    assert decision.start.files == tuple(files(*"bcde"))
    assert (decision.waiting, decision.held) == (0, 0)


def test_an_order_that_waits_for_its_next_attempt_holds_up_nobody():
    listed = files("a")
    state = settled(listed).state
    (order,) = state.orders
    failed: dict[str, Outcome] = {order.key: "failed"}
    more = files("a", "b")

    decision = look(look(state, more, 30, failed).state, more, 50, failed)

    assert decision.start is not None
    assert decision.start.files == tuple(files("b"))
    assert [order.attempt for order in decision.state.orders] == [1, 0]


def test_many_files_are_several_orders():
    decision = settled(files(*"abcdefghij"))
    assert [len(order.files) for order in decision.state.orders] == [4, 4, 2]


def test_a_failed_run_is_repeated_after_pauses_that_grow():
    listed = files("a")
    state, now = settled(listed).state, 20.0
    pauses: list[float] = []
    for _ in range(6):
        (order,) = state.orders
        state = look(state, listed, now, {order.key: "failed"}).state
        failed_at = now
        while (started := look(state, listed, now).start) is None:
            now += 10
        pauses.append(now - failed_at)
        assert started.files == tuple(listed)
    assert pauses == [60, 120, 240, 480, 600, 600], "and it is never given up"


def test_a_file_of_which_runs_die_stands_alone_in_the_end_and_the_others_are_loaded():
    listed = files(*"abcd")
    bomb, loaded = listed[2], set()
    state, now, outcomes = settled(listed).state, 20.0, dict[str, Outcome]()
    for _ in range(40):
        now += 700
        decision = look(state, listed, now, outcomes)
        state = decision.state
        if decision.start is not None:
            died = bomb in decision.start.files
            outcomes[decision.start.key] = "died" if died else "done"
            loaded |= set() if died else set(decision.start.files)

    assert loaded == set(listed) - {bomb}
    assert [order.files for order in state.orders] == [(bomb,)]
    assert not state.refused


def test_a_bad_file_is_found_and_set_aside_and_the_good_ones_are_loaded():
    listed = files(*"abcd")
    bad = listed[2]
    decision, now = settled(listed), 20.0
    runs: dict[str, Outcome] = {}
    loaded: set[LandedFile] = set()
    refused: list[LandedFile] = []
    while decision.start is not None:
        order = decision.start
        runs[order.key] = "refused" if bad in order.files else "done"
        loaded |= set(order.files) if runs[order.key] == "done" else set()
        now += 30
        decision = look(decision.state, listed, now, runs)
        refused += decision.refused_now
    assert loaded == set(listed) - {bad}
    assert refused == [bad]
    assert decision.state.refused == {bad.location: bad.mark}
    assert len(runs) == 5, "four, two and two of them, one and one"

    fixed = [*listed[:2], replace(bad, mark="fixed"), listed[3]]
    state = look(decision.state, fixed, now + 30, runs).state
    again = look(state, fixed, now + 60, runs)
    assert again.start is not None
    assert again.start.files == (fixed[2],), "a file that was fixed is a new one"
    assert not again.state.refused


def test_files_that_are_gone_are_forgotten():
    listed = files("a", "b")
    asked = settled(listed)
    assert asked.start is not None
    after = look(asked.state, files("b"), now=50, runs={asked.start.key: "done"}).state
    assert after.taken == {"b1"}


def loaded_days(days: int, each: int, now: float) -> tuple[LandingState, list[LandedFile]]:
    """Return the state after all files of the first `days` days were loaded, and the files."""
    listed = [LandedFile(f"/landing/{day}-{n}", f"{day:06x}{n:06x}", day) for day in range(days) for n in range(each)]
    state = LandingState(taken=frozenset(file.mark for file in listed))
    return look(state, listed, now).state, listed


def test_the_cursor_grows_with_days_and_not_with_files():
    few, _ = loaded_days(days=365, each=10, now=1_000 * DAY)
    many, listed = loaded_days(days=365, each=100, now=1_000 * DAY)
    assert len(listed) == 36_500
    assert len(many.to_cursor()) == len(few.to_cursor()) < 12_000
    assert look(many, listed, now=1_000 * DAY).state == many


def test_days_that_are_not_over_and_files_without_a_day_are_remembered_one_by_one():
    state, listed = loaded_days(days=10, each=1, now=10 * DAY + 5)
    assert state.taken == {listed[9].mark}, "yesterday's"
    undated = [*listed, LandedFile("/landing/undated", "undated")]
    taken = look(replace(state, taken=state.taken | {"undated"}), undated, now=900 * DAY).state
    assert taken.taken == {"undated"}


@pytest.mark.parametrize("change", ["late", "written again", "removed"])
def test_a_past_day_that_changed_is_loaded_once_more_with_all_its_files(change: str):
    state, listed = loaded_days(days=3, each=2, now=9 * DAY)
    others = [file for file in listed if file.day != 1]
    there = {
        "late": [*listed, LandedFile("/landing/late", "late", 1)],
        "written again": [*others, replace(listed[2], mark="again"), listed[3]],
        "removed": [*others, listed[3]],
    }[change]
    decision = look(look(state, there, now=9 * DAY).state, there, now=9 * DAY + 20)
    assert decision.start is not None
    assert set(decision.start.files) == {file for file in there if file.day == 1}
    after = look(decision.state, there, now=9 * DAY + 50, runs={decision.start.key: "done"})
    assert (after.start, after.state.taken) == (None, frozenset())
    assert look(after.state, there, now=9 * DAY + 80).start is None, "once"


def test_a_refused_file_of_a_past_day_is_not_tried_again_with_the_others():
    state, listed = loaded_days(days=1, each=2, now=9 * DAY)
    bad = listed[0]
    state = replace(state, refused={bad.location: bad.mark})
    there = [*listed, LandedFile("/landing/late", "late", 0)]
    decision = look(look(state, there, now=9 * DAY).state, there, now=9 * DAY + 20)
    assert decision.start is not None
    assert set(decision.start.files) == set(there) - {bad}


def test_a_cursor_without_days_is_one_of_an_earlier_release():
    state = LandingState.from_cursor('{"taken":["a1"],"seen":{},"orders":[],"refused":{}}')
    assert look(state, files("a"), now=0).state == state


def test_a_comma_in_a_name_does_not_end_it():
    assert Order(tuple(files("a,1.csv", "b.csv"))).location == "/landing/a?1.csv,/landing/b.csv"


@pytest.mark.parametrize(
    "cursor", ["{", "[]", "7", '{"taken": []}', '{"taken": 1, "seen": {}, "orders": [], "refused": {}}']
)
def test_a_cursor_that_was_not_written_here_is_refused(cursor: str):
    with pytest.raises(AutomationError, match="reset the cursor"):
        LandingState.from_cursor(cursor)


class Simulated:
    """A landing place, a daemon that may die at each tick, and runs with a random fate."""

    # Days of writing: two that are past, whatever the clock says when a file arrives, today, and not known.
    WRITTEN = (3, 7, 10, None)

    def __init__(self, bad: set[int], fates: Random) -> None:
        self.there: dict[int, int] = {}
        self.state = LandingState()
        self.loaded: set[str] = set()
        self._bad, self._fates, self._now = bad, fates, 10 * DAY
        self._runs: dict[str, Outcome] = {}
        self._orders: dict[str, Order] = {}

    def listed(self, *, bad: bool | None = None) -> list[LandedFile]:
        return [
            LandedFile(f"/landing/{number}", f"{number}v{version}", self.WRITTEN[number % len(self.WRITTEN)])
            for number, version in sorted(self.there.items())
            if bad is None or (number in self._bad) == bad
        ]

    def happen(self, what: str, number: int) -> None:
        if what == "arrive":
            self.there.setdefault(number, 0)
        elif what == "grow" and number in self.there:
            self.there[number] += 1
        elif what == "vanish":
            self.there.pop(number, None)
        elif what == "look":
            self.tick(calm=False)

    def tick(self, *, calm: bool) -> None:
        self._now += 30
        for key in [key for key, outcome in self._runs.items() if outcome == "going"]:
            self._finish(key, calm=calm)
        decision = decide(
            LandingState.from_cursor(self.state.to_cursor()), self.listed(), self._runs.get, self._now, PACE
        )
        if decision.start is not None and (calm or self._fates.random() < 0.8):
            self._orders[decision.start.key] = decision.start
            self._runs.setdefault(decision.start.key, "going")
        if calm or self._fates.random() < 0.7:  # else the daemon dies after starting the run, before keeping the cursor
            self.state = decision.state

    def _finish(self, key: str, *, calm: bool) -> None:
        files = self._orders[key].files
        if any(int(file.location.rpartition("/")[2]) in self._bad for file in files):
            self._runs[key] = "refused"
        elif calm or self._fates.random() < 0.4:
            self._runs[key] = "done"
            self.loaded.update(file.mark for file in files)
        elif self._fates.random() < 0.5:
            self._runs[key] = self._fates.choice(["failed", "died"])


EVENTS = st.lists(st.tuples(st.sampled_from(["arrive", "grow", "vanish", "look"]), st.integers(0, 9)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, bad=st.sets(st.integers(0, 9), max_size=3), fates=st.randoms(use_true_random=False))
def test_every_file_that_stays_is_loaded_or_refused_whatever_happens(
    events: list[tuple[str, int]], bad: set[int], fates: Random
):
    """Random arrivals, changes, deaths and fates of runs; in the end what lies there is loaded, or bad and named."""
    simulated = Simulated(bad, fates)
    for what, number in events:
        simulated.happen(what, number)
    for _ in range(400):
        simulated.tick(calm=True)
    assert {file.mark for file in simulated.listed(bad=False)} <= simulated.loaded
    assert set(simulated.state.refused) == {file.location for file in simulated.listed(bad=True)}
    assert not simulated.state.orders
    assert not simulated.state.seen
