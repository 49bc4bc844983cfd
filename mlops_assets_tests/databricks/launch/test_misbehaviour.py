"""A workspace that misbehaves while a step runs: what the event log says, and nothing lost, doubled or left running.

Beside these: trouble at the submit and at each kind of call (`test_submission`), starts that fail and how the two ends
meet (`test_failures`), what ends a launcher (`test_watching`), storage that is not there (`test_staging`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from databricks_loopback import Workspace
from databricks_loopback.driving import processes
from databricks_loopback.runs import Run
from databricks_loopback.wire import Reply, Request
from mlops_assets_tests.databricks.launch.driving import VOLUME, Driver, Outcome, is_idle, staged, wait_until

ENDS = (
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
)
TRIALS = [f"trial {trial} of 8" for trial in range(8)]
CANCEL, SUBMIT = "*/jobs/runs/cancel", "*/jobs/runs/submit"


def launched(outcome: Outcome, workspace: Workspace) -> list[Run]:
    """Return the runs of the outcome's Dagster run, after checking that all have ended and left no process."""
    (dagster_run,) = {entry.run_id for entry in outcome.entries}
    found = [run for run in workspace.runs if f"[dagster {dagster_run} " in run.name]
    wait_until(lambda: not any(run.is_active for run in found), seconds=10, what="every run has ended")
    assert [line for run in found for line in processes(str(run.tasks[0].folder))] == []
    return found


def trials_of(outcome: Outcome) -> list[str]:
    return [message for message in outcome.messages() if message.startswith("trial ")]


def ends_of(outcome: Outcome) -> list[dg.DagsterEventType]:
    return [
        entry.dagster_event.event_type
        for entry in outcome.entries
        if entry.dagster_event is not None and entry.dagster_event.event_type in ENDS
    ]


def at(text: str, act: Callable[[], object]) -> Callable[[dg.EventLogEntry], None]:
    """Return a watcher that acts when the event log says something for the first time."""
    done: list[bool] = []

    def watch(entry: dg.EventLogEntry) -> None:
        if text in entry.user_message and not done:
            done.append(True)
            act()

    return watch


# --- 429 bursts, 500s, connection resets ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["throttle", "server_error", "unavailable", "drop", "lose_answer"])
def test_a_burst_while_a_step_reports_loses_and_doubles_no_line(driver: Driver, fault: str):
    burst = getattr(driver.workspace.faults, fault)
    outcome = driver.run("chatty", watch=at("trial 1 of 8", lambda: burst(times=4)), retry_seconds=60)
    assert outcome.success, outcome.messages()
    assert trials_of(outcome) == TRIALS
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_SUCCESS]
    assert len(outcome.events(dg.DagsterEventType.ASSET_MATERIALIZATION)) == 1
    assert len(launched(outcome, driver.workspace)) == 1
    assert staged(driver.workspace) == []


@pytest.mark.parametrize("fault", ["throttle", "server_error", "drop", "lose_answer"])
def test_a_cancel_that_meets_trouble_is_sent_until_it_is_heard(volume: Driver, fault: str):
    def interrupt() -> None:
        getattr(volume.workspace.faults, fault)(CANCEL, times=2)
        raise KeyboardInterrupt

    outcome = volume.run("sleeper", watch=at("asleep", interrupt))
    assert outcome.says(" was cancelled.")
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_FAILURE]
    (run,) = launched(outcome, volume.workspace)
    assert run.end is not None
    assert run.end.result == "CANCELED"


def test_staged_files_that_can_not_be_removed_do_not_fail_a_step_that_succeeded(volume: Driver):
    with volume.workspace.faults.server_error("*/fs/*", method="DELETE", times=None):  # type: ignore[arg-type]
        outcome = volume.run("nothing", retry_seconds=1)
    assert outcome.success, outcome.messages()
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_SUCCESS]
    assert outcome.says("Staged files could not be removed (/Volumes/main/ml/staging/launches/")
    assert len(launched(outcome, volume.workspace)) == 1


# --- slow start -------------------------------------------------------------------------------------------------------


def test_a_slow_start_is_seen_as_one_with_its_page(volume: Driver):
    volume.workspace.faults.slow_start(3.0)
    outcome = volume.run("nothing")
    assert outcome.success, outcome.messages()
    told = [message for message in outcome.messages() if re.match(r"(Launched as )?Databricks run ", message)]
    assert told[0].startswith("Launched as Databricks run ")
    states = [re.sub(r"Databricks run \d+: (\w+).*", r"\1", message) for message in told[1:]]
    assert states[0] == "PENDING"
    assert states == sorted(set(states), key=states.index), "each state once"
    assert states[-1] == "TERMINATED"
    (run,) = launched(outcome, volume.workspace)
    assert run.tasks[0].running_at - run.started_at >= 3_000


def test_interrupting_while_the_cluster_starts_ends_it_before_it_costs(volume: Driver):
    def interrupt() -> None:
        raise KeyboardInterrupt

    volume.workspace.faults.slow_start(60.0)
    outcome = volume.run("nothing", watch=at("Launched as Databricks run", interrupt))
    assert outcome.says(" was cancelled.")
    assert outcome.events(dg.DagsterEventType.STEP_START) == []
    (run,) = launched(outcome, volume.workspace)
    assert run.end is not None
    assert run.end.result == "CANCELED"
    assert run.tasks[0].running_at == 0, "its machine never started"


# --- spot loss --------------------------------------------------------------------------------------------------------


def test_what_a_step_said_before_its_machine_was_taken_is_kept(driver: Driver):
    def lose() -> None:
        cluster = list(driver.workspace.runs)[-1].tasks[0].cluster
        assert cluster is not None
        cluster.lose()

    outcome = driver.run("chatty", watch=at("trial 3 of 8", lose))
    said = trials_of(outcome)
    assert said == TRIALS[: len(said)], "each once, in order"
    assert 4 <= len(said) < 8
    assert "the cloud reclaimed a spot machine" in outcome.failure_text
    assert f"{driver.workspace.host}/?o=" in outcome.failure_text
    assert outcome.events(dg.DagsterEventType.ASSET_MATERIALIZATION) == []
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_FAILURE]
    (run,) = launched(outcome, driver.workspace)
    assert run.end is not None
    assert not run.end.is_success


def test_a_step_with_a_retry_policy_moves_to_another_machine(volume: Driver):
    volume.workspace.faults.spot_loss(after_s=0.0)
    outcome = volume.run("patient", keep_staging_on_failure=False)
    assert outcome.success, outcome.messages()
    assert [message for message in outcome.messages() if message.startswith("attempt ")] == ["attempt 1"]
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_UP_FOR_RETRY, dg.DagsterEventType.STEP_SUCCESS]
    (retry,) = outcome.events(dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert retry.step_retry_data.error is not None
    assert "the cloud reclaimed a spot machine" in retry.step_retry_data.error.to_string()
    assert len(outcome.events(dg.DagsterEventType.ASSET_MATERIALIZATION)) == 1
    first, second = launched(outcome, volume.workspace)
    assert first.end is not None
    assert second.end is not None
    assert (first.end.is_success, second.end.is_success) == (False, True)
    assert staged(volume.workspace) == []


# --- no DBFS ----------------------------------------------------------------------------------------------------------


def test_a_workspace_without_dbfs_is_all_that_staging_in_a_volume_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Workspace(tmp_path / "workspace", dbfs=False) as workspace, workspace.faults.no_dbfs():
        workspace.catalog.add_schema(VOLUME.rpartition(".")[0])
        workspace.catalog.add_volume(VOLUME)
        volume = Driver(workspace, "volume", monkeypatch)
        outcome = volume.run("chatty")
        assert outcome.success, outcome.messages()
        assert trials_of(outcome) == TRIALS
        broken = volume.run("broken", keep_staging_on_failure=False)
        assert "about to fail" in broken.failure_text, "the end of stderr"
        assert workspace.calls.matching(path="/api/2.0/dbfs/*") == []
        assert staged(workspace) == []
        assert len(launched(outcome, workspace)) == len(launched(broken, workspace)) == 1


# --- expired token ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["*", SUBMIT])
def test_a_token_that_expired_before_the_submit_starts_nothing(volume: Driver, path: str):
    with volume.workspace.faults.expired_token(path):
        outcome = volume.run("nothing")
    assert "rejects the credentials" in outcome.failure_text
    assert "renew DATABRICKS_TOKEN" in outcome.failure_text
    assert volume.workspace.token not in outcome.failure_text
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_FAILURE]
    assert launched(outcome, volume.workspace) == []


# --- truncated events file --------------------------------------------------------------------------------------------


def cut_chunks(driver: Driver, *, times: int | None) -> None:
    """Serve only the first half of each file of events, as while it is being written."""
    if driver.kind == "dbfs":
        driver.workspace.faults.truncate_reads("*chunk-*", keep=0.5, times=times or 1_000)
        return

    def play(_request: Request, proceed: Callable[[], Reply]) -> Reply:
        reply = proceed()
        return Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers) if reply.status == 200 else reply

    driver.workspace.faults.on_call("cut", play, method="GET", path="*/chunk-*", times=times)


def test_events_that_are_read_half_written_are_neither_lost_nor_doubled(driver: Driver):
    cut_chunks(driver, times=3)
    outcome = driver.run("chatty")
    assert outcome.success, outcome.messages()
    assert trials_of(outcome) == TRIALS
    assert len(outcome.events(dg.DagsterEventType.STEP_START)) == 1
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_SUCCESS]
    assert len(launched(outcome, driver.workspace)) == 1


def test_events_that_stay_cut_off_are_a_failure_with_the_page_of_the_run(driver: Driver):
    cut_chunks(driver, times=None)
    outcome = driver.run("nothing")
    driver.workspace.faults.clear()
    assert "ended without a report from its step" in outcome.failure_text
    assert f"{driver.workspace.host}/?o=" in outcome.failure_text
    assert outcome.events(dg.DagsterEventType.ASSET_MATERIALIZATION) == []
    assert ends_of(outcome) == [dg.DagsterEventType.STEP_FAILURE]
    assert len(launched(outcome, driver.workspace)) == 1
    assert is_idle(driver.workspace)
