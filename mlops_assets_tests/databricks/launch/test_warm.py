"""A cluster that takes the next step of its Dagster run: who gets it, what ends it, what it costs when it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry

from databricks_loopback.runs import Run
from databricks_loopback.wire import Reply, Request
from mlops_assets.databricks.launch import warm
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.spec import StagingKind
from mlops_assets.databricks.launch.staging import staging_of
from mlops_assets_tests.databricks.launch.driving import CHECKOUT, PATHS, Driver, is_idle, staged, trees, wait_until

MULTIPROCESS: dict[str, Any] = {"execution": {"config": {"multiprocess": {"max_concurrent": 1}}}}


def runs_of(driver: Driver) -> list[Run]:
    """Return the runs that this test has submitted, oldest first."""
    submitted = len(driver.workspace.calls.matching("POST", "*/jobs/runs/submit"))
    return list(driver.workspace.runs)[-submitted:]


def after_first_step(do: Callable[[], object]) -> Callable[[EventLogEntry], None]:
    """Return a listener that does something once, when the first step's cluster waits."""
    done: list[object] = []

    def listen(entry: EventLogEntry) -> None:
        if not done and "waits up to" in entry.user_message:
            done.append(do())

    return listen


def test_steps_of_a_run_share_a_cluster_that_ends_with_the_last(driver: Driver):
    outcome = driver.run("pair", reuse_seconds=60)
    assert outcome.success, outcome.failure_text
    (run,) = runs_of(driver)
    assert run.end is not None
    assert run.end.is_success, "it ended by itself"
    assert outcome.says("whose cluster an earlier step has started")
    assert len(outcome.events(dg.DagsterEventType.STEP_SUCCESS)) == 2
    assert staged(driver.workspace) == []


def test_so_do_steps_in_processes_of_their_own(driver: Driver):
    with dg.DagsterInstance.local_temp() as instance:
        outcome = driver.run("pair", instance=instance, run_config=MULTIPROCESS, reuse_seconds=60)
        assert outcome.success, outcome.failure_text
    (run,) = runs_of(driver)
    assert not run.is_active
    assert staged(driver.workspace) == []


def test_a_request_that_was_changed_on_its_way_is_not_run(driver: Driver):
    """Whoever may write to the staging folder changes the request after its ticket was written."""

    def replace(request: Request, proceed: Callable[[], Reply]) -> Reply:
        if "next-" in str(request.document().get("path")):
            (path,) = [path for tree in trees(driver.workspace) for path in tree.rglob("after_nothing-0/request.json")]
            path.write_bytes(path.read_bytes().replace(b"mlops_assets", b"mlops_4ssets"))
        return proceed()

    with driver.workspace.faults.on_call("attack", replace, method="POST", path="*/workspace/import", times=None):
        outcome = driver.run("pair", reuse_seconds=60)
    assert not outcome.success
    (failed,) = outcome.events(dg.DagsterEventType.STEP_FAILURE)
    assert "Nothing of it was run" in str(failed.step_failure_data)
    assert len(outcome.events(dg.DagsterEventType.STEP_SUCCESS)) == 1


def test_a_cluster_that_is_lost_while_it_waits_costs_a_start(volume: Driver):
    def lose() -> None:
        (run,) = runs_of(volume)
        cluster = run.tasks[0].cluster
        assert cluster is not None
        cluster.lose()
        wait_until(lambda: not run.is_active, what="lost")

    outcome = volume.run("pair", reuse_seconds=60, watch=after_first_step(lose))
    assert outcome.success, outcome.failure_text
    assert len(runs_of(volume)) == 2


def test_a_cluster_that_does_not_take_the_step_is_cancelled_and_costs_a_start(
    volume: Driver, monkeypatch: pytest.MonkeyPatch
):
    """The ticket never arrives where the cluster looks for it."""
    monkeypatch.setattr(warm, "_TAKING_S", 1.0)

    def lose_ticket(request: Request, proceed: Callable[[], Reply]) -> Reply:
        return Reply.of({}) if "next-" in str(request.document().get("path")) else proceed()

    with volume.workspace.faults.on_call("lost", lose_ticket, method="POST", path="*/workspace/import", times=None):
        outcome = volume.run("pair", reuse_seconds=60)
    assert outcome.success, outcome.failure_text
    assert outcome.says("did not take it; starting a new cluster")
    first, second = runs_of(volume)
    assert first.end is not None
    assert second.end is not None
    assert (first.end.result, second.end.result) == ("CANCELED", "SUCCESS")


def test_a_step_of_another_kind_gets_a_cluster_of_its_own_and_nothing_is_left(volume: Driver):
    with dg.DagsterInstance.ephemeral() as instance:

        def change() -> None:
            (run,) = instance.get_runs()
            ((name, text),) = ((name, text) for name, text in run.tags.items() if name.startswith(warm.TAG))
            instance.add_run_tags(run.run_id, {name: json.dumps({**json.loads(text), "kind": "other"})})

        outcome = volume.run("pair", reuse_seconds=60, watch=after_first_step(change), instance=instance)
    assert outcome.success, outcome.failure_text
    first, second = runs_of(volume)
    assert not second.is_active
    wait_until(lambda: not first.is_active, what="the cancelled run has ended")
    assert first.end is not None
    assert first.end.result == "CANCELED", "killed with its Dagster run, long before its time is up"


def test_a_failed_run_leaves_no_cluster(volume: Driver):
    outcome = volume.run("then_broken", reuse_seconds=60)
    assert not outcome.success
    (run,) = runs_of(volume)
    wait_until(lambda: not run.is_active, what="the cancelled run has ended")


def test_a_launcher_that_is_killed_leaves_a_cluster_for_its_time_and_no_longer(volume: Driver):
    fields = volume.fields(reuse_seconds=4)
    variables = {"LAUNCH_SPEC": json.dumps(fields), "LAUNCH_TOKEN": volume.workspace.token}
    command = [sys.executable, "-m", "mlops_assets_tests.databricks.launch.driving", "pair"]
    with subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waits up to 4 s" in line:
                break
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: is_idle(volume.workspace), seconds=20, what="ended by itself")
    for name in staged(volume.workspace):
        for tree in trees(volume.workspace):
            (tree / name).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["volume", "dbfs"])
def test_one_of_two_launchers_gets_the_ticket(volume: Driver, kind: StagingKind):
    api = Api(Credentials(volume.workspace.host, volume.workspace.token))
    one, two = (staging_of(api, kind, PATHS[kind]) for _ in range(2))
    assert one.scripts.put_once("run/next-1.txt", b"one")
    assert not two.scripts.put_once("run/next-1.txt", b"two")
    # As after an answer that was lost: the call is made again.
    assert one.scripts.put_once("run/next-1.txt", b"one")
    assert volume.workspace.storage.locate(one.scripts.on_cluster("run/next-1.txt")).read_bytes() == b"one"
    one.remove("run")
    one.scripts.remove("run")
