"""Every version of a watched table is loaded, in order, whatever becomes of the runs."""

from __future__ import annotations

from pathlib import Path
from random import Random

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.automation.landing import Outcome, Pace
from mlops_assets.automation.sensors import VERSIONS_TAG, watched_table_sensor
from mlops_assets.automation.watched_table import WatchState, follow
from mlops_assets.errors import AutomationError, SourceError
from mlops_assets_tests.assets.harness import spec_of

PACE = Pace(pause_seconds=60, longest_pause_seconds=600)


def look(
    state: WatchState, newest: int, now: float = 0, runs: dict[str, Outcome] | None = None, table: str = "t"
) -> tuple[WatchState, bool]:
    return follow(WatchState.from_cursor(state.to_cursor()), table, newest, (runs or {}).get, now, PACE)


def test_versions_are_loaded_together_and_one_run_at_a_time():
    state, start = look(WatchState(), 2)
    assert (start, state.loaded, state.wanted) == (True, -1, 2)
    state, start = look(state, 5, runs={state.key: "going"})
    assert not start
    state, start = look(state, 5, runs={state.key: "done"})
    assert (start, state.loaded, state.wanted) == (True, 2, 5)
    state, start = look(state, 5, runs={state.key: "done"})
    assert (start, state.loaded, state.wanted) == (False, 5, None)


def test_a_request_that_led_to_no_run_is_made_again_under_the_same_key():
    asked, _ = look(WatchState(), 2)
    again, start = look(asked, 3)
    assert start
    assert again.key == asked.key


@pytest.mark.parametrize(("outcome", "pause"), [("failed", 60), ("refused", 600)])
def test_a_run_that_failed_is_repeated_after_a_pause_and_no_version_is_passed_over(outcome: Outcome, pause: float):
    asked, _ = look(WatchState(), 2)
    state, start = look(asked, 7, now=100, runs={asked.key: outcome})
    assert not start
    assert look(state, 7, now=99 + pause)[1] is False
    retried, start = look(state, 7, now=100 + pause)
    assert start
    assert (retried.loaded, retried.wanted) == (-1, 2)
    assert retried.key != asked.key


def test_a_table_that_was_made_anew_is_read_from_its_first_version():
    state = WatchState("t", loaded=7)
    assert look(state, 1, table="other")[0] == WatchState("other", wanted=1)
    assert look(state, 3)[0] == WatchState("t", wanted=3), "restored: fewer versions than were loaded"


@pytest.mark.parametrize("cursor", ["{", "[]", "{}", '{"table": "t", "loaded": "x", "wanted": null}'])
def test_a_cursor_that_was_not_written_here_is_refused(cursor: str):
    with pytest.raises(AutomationError, match="reset the cursor"):
        WatchState.from_cursor(cursor)


@settings(deadline=None)
@given(grows=st.lists(st.integers(0, 3), max_size=30), fates=st.randoms(use_true_random=False))
def test_every_version_is_loaded_once_in_the_end(grows: list[int], fates: Random):
    state, newest, now = WatchState(), -1, 0.0
    runs: dict[str, Outcome] = {}
    loads: dict[str, range] = {}
    for step in range(len(grows) + 60):
        calm = step >= len(grows)
        newest, now = newest + (0 if calm else grows[step]), now + 1_000
        for key in [key for key, outcome in runs.items() if outcome == "going"]:
            runs[key] = "done" if calm else fates.choice(["done", "failed", "going"])
        if newest < 0:
            continue
        decided, start = follow(WatchState.from_cursor(state.to_cursor()), "t", newest, runs.get, now, PACE)
        if start and decided.wanted is not None and (calm or fates.random() < 0.8):
            loads[decided.key] = range(decided.loaded + 1, decided.wanted + 1)
            runs.setdefault(decided.key, "going")
        if calm or fates.random() < 0.7:  # else the daemon dies before it keeps the cursor
            state = decided
    loaded = [version for key, versions in loads.items() if runs[key] == "done" for version in versions]
    assert sorted(set(loaded)) == list(range(newest + 1))
    assert state.loaded == newest


def test_the_sensor_looks_at_a_real_table(tmp_path: Path, instance: dg.DagsterInstance):
    place = str(tmp_path / "watched")
    sensor = watched_table_sensor(spec_of(source=f"delta:{place}"), status=dg.DefaultSensorStatus.STOPPED)

    def tick(cursor: str | None) -> dg.SensorResult:
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    with pytest.raises(SourceError, match="no Delta table"):
        tick(None)
    write_deltalake(place, pa.table({"x": [1]}))
    write_deltalake(place, pa.table({"x": [2]}), mode="append")
    result = tick(None)
    (request,) = result.run_requests or []
    assert request.tags[VERSIONS_TAG] == "0 to 1"
    assert request.run_config["ops"]["raw_transactions"]["config"] == {
        "source": {"after_version": -1, "up_to_version": 1}
    }
    (seen,) = result.asset_events
    assert (seen.asset_key.to_user_string(), seen.metadata["version"].value) == ("transaction_source", 1)
    assert not tick(result.cursor).asset_events, "seen already"
    loaded = WatchState(WatchState.from_cursor(result.cursor).table, loaded=1).to_cursor()
    quiet = tick(loaded)
    assert not quiet.run_requests
    assert not quiet.asset_events
    assert "nothing new" in str(quiet.skip_reason)
