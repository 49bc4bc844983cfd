"""While a step runs: its logs arrive, and whatever ends the launcher ends the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from databricks_loopback.driving import processes
from databricks_loopback.wire import Reply, Request
from mlops_assets_tests.databricks.launch.driving import Driver, is_idle, wait_until


def test_logs_arrive_while_the_step_runs(driver: Driver):
    active_at: dict[str, bool] = {}

    def watch(entry: dg.EventLogEntry) -> None:
        if entry.user_message.startswith("trial "):
            active_at[entry.user_message] = not is_idle(driver.workspace)

    outcome = driver.run("chatty", watch=watch)
    assert outcome.success, outcome.messages()
    assert list(active_at) == [f"trial {trial} of 8" for trial in range(8)], "each once, in order"
    assert active_at["trial 0 of 8"], "the step was still running when its first line arrived"
    assert active_at["trial 4 of 8"], "and when its middle did"


def test_printed_lines_reach_the_compute_log(volume: Driver, capfd: pytest.CaptureFixture[str]):
    assert volume.run("chatty").success
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("printed")] == [
        f"printed {trial}" for trial in range(8)
    ]


def test_page_of_the_run_is_linked_as_soon_as_it_is_known(volume: Driver):
    seen: list[str] = []

    def watch(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is not None and event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            data = event.engine_event_data
            if "Databricks run" in data.metadata:
                seen.append(str(data.metadata["Databricks run"].value))
                assert not is_idle(volume.workspace)

    volume.workspace.faults.slow_start(1.0)
    assert volume.run("nothing", watch=watch).success
    (url,) = seen
    assert url.startswith(f"{volume.workspace.host}/?o=")


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_interrupting_the_run_cancels_it_on_databricks(driver: Driver, how: str):
    def interrupt(entry: dg.EventLogEntry) -> None:
        if entry.user_message == "asleep":
            if how == "exception":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    outcome = driver.run("sleeper", watch=interrupt)
    assert "Interrupt" in outcome.failure_text
    assert outcome.says(" was cancelled.")
    wait_until(lambda: is_idle(driver.workspace), seconds=5, what="the run has ended")
    end = list(driver.workspace.runs)[-1].end
    assert end is not None
    assert end.result == "CANCELED"


def test_interrupt_that_comes_with_the_answer_to_the_submit_cancels_the_run(volume: Driver):
    """Between the submit and the watch over its run nothing is raised: the run has its watch, which then ends it."""

    def play(_request: Request, proceed: Callable[[], Reply]) -> Reply:
        answer = proceed()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # the signal is there before the answer is
        return answer

    before = len(list(volume.workspace.runs))
    volume.workspace.faults.on_call("interrupt", play, path="/api/2.2/jobs/runs/submit", times=1)
    outcome = volume.run("sleeper")
    assert "Interrupt" in outcome.failure_text
    assert outcome.says(" was cancelled.")
    (run,) = list(volume.workspace.runs)[before:]
    wait_until(lambda: not run.is_active, seconds=5, what="the run has ended")
    assert run.end is not None
    assert run.end.result == "CANCELED"


def test_killed_launcher_leaves_no_cluster_for_longer_than_stated(driver: Driver, checkout: Path):
    variables = {"LAUNCH_SPEC": json.dumps(driver.fields(orphan_seconds=4)), "LAUNCH_TOKEN": driver.workspace.token}
    command = [sys.executable, "-m", "mlops_assets_tests.databricks.launch.driving", "sleeper"]
    before = len(list(driver.workspace.runs))
    launcher = subprocess.Popen(
        command, cwd=checkout, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: len(list(driver.workspace.runs)) > before, seconds=60, what="the run was submitted")
        run = list(driver.workspace.runs)[-1]
        trees = (driver.workspace.storage.volumes, driver.workspace.storage.dbfs)
        # It is watched for longer than the limit first: a living launcher keeps its step alive.
        wait_until(lambda: any(path for tree in trees for path in tree.rglob("chunk-*")), what="the step has begun")
        time.sleep(6)
        assert run.is_active
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    killed = time.monotonic()
    wait_until(lambda: not run.is_active, seconds=12, what="the run has ended by itself")
    assert time.monotonic() - killed < 4 + 2 * 0.8 + 3, "the limit, a look of the watchdog, and the way out"
    assert run.end is not None
    assert not run.end.is_success
    assert "OrphanedError" in run.tasks[0].error
    assert processes(str(run.tasks[0].folder)) == []


def test_workspace_that_stops_to_answer_fails_the_step(volume: Driver):
    """The run is beyond reach then; its watchdog is what ends it."""

    def cut(entry: dg.EventLogEntry) -> None:
        if entry.user_message == "asleep":
            volume.workspace.faults.server_error(times=None)  # type: ignore[arg-type]

    outcome = volume.run("sleeper", watch=cut, retry_seconds=2, orphan_seconds=4)
    volume.workspace.faults.clear()
    assert "the workspace does not answer" in outcome.failure_text
    assert outcome.says("It ends by itself after 4 s without a heartbeat")
    wait_until(lambda: is_idle(volume.workspace), seconds=20, what="the run has ended by itself")


def test_token_that_is_revoked_meanwhile_says_so(volume: Driver):
    def cut(entry: dg.EventLogEntry) -> None:
        if entry.user_message == "asleep":
            volume.workspace.faults.expired_token()

    outcome = volume.run("sleeper", watch=cut, orphan_seconds=4)
    volume.workspace.faults.clear()
    assert "rejects the credentials" in outcome.failure_text
    assert "DATABRICKS_TOKEN" in outcome.failure_text
    wait_until(lambda: is_idle(volume.workspace), seconds=20, what="the run has ended by itself")
