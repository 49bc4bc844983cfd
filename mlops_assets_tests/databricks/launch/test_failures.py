"""What a user reads when a launch fails, and that the other side has failed too."""

from __future__ import annotations

import dagster as dg
import pytest

from databricks_loopback import start_failures
from databricks_loopback.start_failures import StartFailure
from databricks_loopback.wire import Reply, Request
from mlops_assets.databricks.launch.failures import RunView
from mlops_assets_tests.databricks.launch.driving import CLUSTER, Driver, is_idle, wait_until


def has_link(driver: Driver, text: str) -> bool:
    return f"{driver.workspace.host}/?o=" in text


def last_end(driver: Driver) -> str:
    end = list(driver.workspace.runs)[-1].end
    assert end is not None
    return end.result


def test_exception_of_the_step_has_its_traceback_state_stderr_and_link(driver: Driver):
    outcome = driver.run("broken")
    text = outcome.failure_text
    assert "ValueError: as asked" in text
    assert 'raise ValueError("as asked")' in text, "the traceback of the cluster"
    assert "about to fail" in text, "the end of stderr"
    assert "Workload failed" in text, "the state message"
    assert has_link(driver, text)
    assert last_end(driver) == "FAILED"
    (run,) = list(driver.workspace.runs)[-1:]
    assert run.tasks[0].error.startswith("StepFailedError")


def test_failure_of_the_step_keeps_its_own_words_and_metadata(volume: Driver):
    text = volume.run("refusing").failure_text
    assert "refused" in text
    assert "('rows', 3)" in text
    assert has_link(volume, text)
    assert last_end(volume) == "FAILED"


@pytest.mark.parametrize(
    ("failure", "what", "fix"),
    [
        (start_failures.QUOTA, "the cloud account's quota is used up", "request a higher quota"),
        (start_failures.STOCKOUT, "the cloud has no capacity for this machine type", "spot: false"),
        (start_failures.NO_SPOT, "no spot capacity was available", "spot: false"),
        (start_failures.POOL_FULL, "the instance pool is full", "raise its capacity"),
        (start_failures.POOL_GONE, "the instance pool can't be used", "instance_pool_id"),
        (start_failures.NODE_TYPE, "this node type can't be launched here", "node_type"),
        (
            start_failures.SECRETS,
            "a secret that the cluster refers to can't be read",
            "the launching identity has READ on the scope",
        ),
    ],
    ids=lambda value: value.code if isinstance(value, StartFailure) else "",
)
def test_cluster_that_does_not_start_says_why_in_words(volume: Driver, failure: StartFailure, what: str, fix: str):
    volume.workspace.faults.start_failure(failure)
    text = volume.run("nothing").failure_text
    assert what in text
    assert fix in text
    assert failure.code in text, "the platform's own message"
    assert has_link(volume, text)


def test_secret_that_is_not_there(volume: Driver):
    text = volume.run("nothing", secrets={"HIDDEN": "no-scope/no-key"}).failure_text
    assert "a secret that the cluster refers to can't be read: HIDDEN is that of scope no-scope, key no-key" in text
    assert "READ on the scope" in text


def test_library_that_can_not_be_installed(volume: Driver):
    text = volume.run("nothing", libraries=[{"pypi": {"package": "dagster==0.0.1"}}]).failure_text
    assert "a library can't be installed on the cluster" in text
    assert "dagster==0.0.1" in text


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        (CLUSTER | {"node_type_id": "m99.huge"}, "choose one of the listed types"),
        (CLUSTER | {"spark_version": "9"}, "choose another `runtime`"),
        (CLUSTER | {"policy_id": "ABC"}, "`policy_id`"),
    ],
)
def test_submission_that_is_refused_says_what_to_change(volume: Driver, cluster: dict[str, object], says: str):
    text = volume.run("nothing", cluster=cluster).failure_text
    assert "the workspace rejected the run" in text
    assert says in text


def test_driver_that_dies_without_a_word_is_one_failure(driver: Driver):
    outcome = driver.run("dying")
    text = outcome.failure_text
    assert "the driver died" in text
    assert "Could not reach driver of cluster" in text
    assert "last words" in text, "stderr came before the end"
    assert has_link(driver, text)


def test_spot_loss(volume: Driver):
    volume.workspace.faults.spot_loss(after_s=2.5)
    text = volume.run("sleeper").failure_text
    assert "the cloud reclaimed a spot machine" in text
    assert is_idle(volume.workspace)


def test_lost_cluster_counts_as_an_attempt_of_an_op_with_a_retry_policy(volume: Driver):
    volume.workspace.faults.start_failure(start_failures.STOCKOUT)
    outcome = volume.run("patient")
    assert outcome.success, outcome.messages()
    assert outcome.says("attempt 1")
    (retry,) = outcome.events(dg.DagsterEventType.STEP_UP_FOR_RETRY)
    error = retry.step_retry_data.error
    assert error is not None
    assert "the cloud has no capacity for this machine type" in error.to_string()


@pytest.mark.parametrize("failure", [start_failures.QUOTA, start_failures.NO_SPOT, start_failures.POOL_FULL])
def test_cluster_that_can_not_start_now_is_tried_again_without_a_policy(
    volume: Driver, failure: StartFailure, limited: int
):
    volume.workspace.faults.start_failure(failure)
    outcome = volume.run("nothing")
    assert outcome.success, outcome.messages()
    assert len(outcome.events(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1 < limited
    assert len(volume.workspace.calls.matching("POST", "*/jobs/runs/submit")) == 2


def test_cluster_that_never_starts_ends_after_the_limit(volume: Driver, limited: int):
    volume.workspace.faults.start_failure(start_failures.STOCKOUT, times=limited + 1)
    outcome = volume.run("nothing")
    assert "the cloud has no capacity for this machine type" in outcome.failure_text
    assert has_link(volume, outcome.failure_text)
    assert len(volume.workspace.calls.matching("POST", "*/jobs/runs/submit")) == limited + 1


@pytest.mark.parametrize("failure", [start_failures.NODE_TYPE, start_failures.SECRETS])
@pytest.mark.parametrize("asset", ["nothing", "patient"])
@pytest.mark.usefixtures("limited")
def test_cluster_that_can_not_start_for_a_lasting_reason_is_not_tried_again(
    volume: Driver, failure: StartFailure, asset: str
):
    volume.workspace.faults.start_failure(failure)
    assert failure.code in volume.run(asset).failure_text
    assert len(volume.workspace.calls.matching("POST", "*/jobs/runs/submit")) == 1


@pytest.mark.usefixtures("limited")
def test_bug_in_the_step_is_not_tried_again(volume: Driver):
    assert "ValueError: as asked" in volume.run("broken").failure_text
    assert len(volume.workspace.calls.matching("POST", "*/jobs/runs/submit")) == 1


def test_run_that_takes_too_long(volume: Driver):
    text = volume.run("sleeper", timeout_seconds=3).failure_text
    assert "it took longer than allowed" in text
    assert "timeout_minutes" in text


def test_run_that_is_cancelled_on_databricks(volume: Driver):
    def cancel(entry: dg.EventLogEntry) -> None:
        if entry.user_message == "asleep":
            for task in list(volume.workspace.runs)[-1].tasks:
                task.cancel.set()

    text = volume.run("sleeper", watch=cancel).failure_text
    assert "it was cancelled on Databricks" in text


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}, True),
        ({"life_cycle_state": "INTERNAL_ERROR"}, True),
        ({"life_cycle_state": "SKIPPED"}, True),
        ({"life_cycle_state": "TERMINATED"}, False),  # its result follows
        ({"life_cycle_state": "TERMINATING"}, False),
        ({}, False),
    ],
)
def test_end_of_a_run_is_one_whose_result_is_known(state: dict[str, str], ended: bool):
    assert RunView.of({"run_id": 1, "state": state}).has_ended is ended


# --- the two ends, in any order ---------------------------------------------------------------------------------------


def test_run_that_fails_after_its_step_has_succeeded_is_a_warning(driver: Driver):
    """With the stock launcher Dagster dies here: "Attempted to mark step ... that was not known to be in flight"."""

    def failed(_request: Request, proceed: object) -> Reply:
        reply: Reply = proceed()  # type: ignore[operator]
        return Reply(reply.status, reply.body.replace(b'"SUCCESS"', b'"FAILED"'), reply.headers)

    driver.workspace.faults.on_call("late_failure", failed, path="*/jobs/runs/get", times=None)
    outcome = driver.run("nothing")
    assert outcome.success, outcome.messages()
    assert len(outcome.events(dg.DagsterEventType.STEP_SUCCESS)) == 1
    assert outcome.says("The step succeeded, but its Databricks run ended as ")


@pytest.mark.parametrize("asset", ["nothing", "broken"])
def test_reports_that_come_after_the_end_of_the_run_are_waited_for(volume: Driver, asset: str):
    def not_yet(_request: Request, _proceed: object) -> Reply:
        return Reply.of({"error_code": "NOT_FOUND", "message": "The file being accessed is not found."}, status=404)

    def hide(_request: Request, proceed: object) -> Reply:
        reply: Reply = proceed()  # type: ignore[operator]
        if b"RUNNING" in reply.body:  # so that it is seen for the first time after its end
            wait_until(lambda: is_idle(volume.workspace))
            return proceed()  # type: ignore[operator]
        return reply

    volume.workspace.faults.on_call("hide", hide, path="*/jobs/runs/get", times=None)
    volume.workspace.faults.on_call("not_yet", not_yet, method="GET", path="*/chunk-000001", times=1)
    outcome = volume.run(asset)
    assert outcome.success is (asset == "nothing")
    ends = [dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE]
    assert sum(len(outcome.events(kind)) for kind in ends) == 1


def test_reports_that_are_read_in_the_middle_of_being_written_are_read_again(dbfs: Driver):
    dbfs.workspace.faults.truncate_reads("*chunk-*", keep=0.5, times=2)
    outcome = dbfs.run("nothing")
    assert outcome.success, outcome.messages()
    assert len(outcome.events(dg.DagsterEventType.STEP_START)) == 1


def test_reports_that_stay_unreadable_are_a_failure_and_not_a_success(dbfs: Driver):
    dbfs.workspace.faults.truncate_reads("*chunk-*", keep=0.5, times=1000)
    outcome = dbfs.run("nothing")
    dbfs.workspace.faults.clear()
    assert "ended without a report from its step" in outcome.failure_text
