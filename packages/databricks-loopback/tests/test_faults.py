"""Each misbehaviour is met, does what it says, and stops by itself."""

from __future__ import annotations

import io
import time

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InternalError, PermissionDenied
from databricks.sdk.service.jobs import RunLifeCycleState

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, submit, wait_for_end, wait_until

ME = "/api/2.0/preview/scim/v2/Me"
SUBMIT = "/api/2.2/jobs/runs/submit"


def statuses(workspace: Workspace, path: str) -> list[tuple[int, str]]:
    return [(call.status, call.fault) for call in workspace.calls.matching(path=path)]


def test_burst_of_429_is_waited_out(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.throttle(ME, times=2, retry_after_s=0)
    client.current_user.me()
    assert statuses(workspace, ME) == [(429, "throttle"), (429, "throttle"), (200, "")]


def test_retry_after_is_obeyed(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.throttle(ME, times=1, retry_after_s=1)
    started = time.monotonic()
    client.current_user.me()
    assert time.monotonic() - started >= 1


def test_500_is_not_retried_and_has_no_effect(workspace: Workspace, client: WorkspaceClient):
    task = python_task("pass", client)
    before = len(list(workspace.runs))
    workspace.faults.server_error(SUBMIT)
    with pytest.raises(InternalError):
        submit(client, task)
    assert len(list(workspace.runs)) == before
    assert statuses(workspace, SUBMIT) == [(500, "server_error")]


def test_fault_can_wait_for_a_later_call(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.server_error(ME, after=1)
    client.current_user.me()
    with pytest.raises(InternalError):
        client.current_user.me()
    client.current_user.me()


def test_unavailable_is_retried(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.unavailable(ME)
    client.current_user.me()
    assert [status for status, _ in statuses(workspace, ME)] == [503, 200]


def test_lost_answer_of_a_submission_makes_two_runs_without_a_token(workspace: Workspace, client: WorkspaceClient):
    task = python_task("pass", client)
    for fields, runs in (({}, 2), ({"idempotency_token": "lost"}, 1)):
        before = len(list(workspace.runs))
        workspace.faults.lose_answer(SUBMIT)
        wait_for_end(client, submit(client, task, **fields))
        assert len(list(workspace.runs)) - before == runs
    for run in workspace.runs:  # also the one that nobody knows of
        wait_for_end(client, run.id)


def test_dropped_connection_is_tried_again(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.drop(ME)
    client.current_user.me()
    assert statuses(workspace, ME) == [(0, "drop"), (200, "")]


def test_slow_answer(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.slow_answer(0.3, ME)
    client.current_user.me()
    (call,) = workspace.calls.matching(path=ME)
    assert call.seconds >= 0.3


def test_token_expires_in_the_middle(workspace: Workspace, client: WorkspaceClient):
    with workspace.faults.expired_token("/api/*", after=1):
        client.current_user.me()
        for _ in range(2):
            with pytest.raises(PermissionDenied, match="Invalid access token"):
                client.current_user.me()
    client.current_user.me()


def test_dbfs_can_be_disabled(workspace: Workspace, client: WorkspaceClient):
    with workspace.faults.no_dbfs():
        with pytest.raises(PermissionDenied, match=r"Public DBFS root is disabled\. Access is denied on path: /x/y"):
            client.dbfs.mkdirs("/x/y")
        with pytest.raises(PermissionDenied, match="denied on path: /x/z"):
            client.dbfs.read("/x/z")
    client.dbfs.mkdirs("/x/y")


def test_truncated_file_is_whole_again_later(workspace: Workspace, client: WorkspaceClient):
    client.dbfs.upload("/events/0_events.pkl", io.BytesIO(b"0123456789"), overwrite=True)
    client.dbfs.upload("/events/other", io.BytesIO(b"0123456789"), overwrite=True)
    workspace.faults.truncate_reads("*_events.pkl", keep=0.4, times=2)
    assert client.dbfs.read("/events/other").bytes_read == 10
    assert [client.dbfs.read("/events/0_events.pkl").bytes_read for _ in range(3)] == [4, 4, 10]
    assert client.dbfs.read("/events/0_events.pkl").data == client.dbfs.read("/events/other").data


def test_slow_start_keeps_the_run_pending(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.slow_start(1.0)
    started = time.monotonic()
    run_id = submit(client, python_task("pass", client))
    wait_until(client, run_id, lambda run: bool(run.state and run.state.life_cycle_state != RunLifeCycleState.PENDING))
    assert time.monotonic() - started >= 1.0
    wait_for_end(client, run_id)


def test_faults_that_were_not_met_are_listed(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.throttle("/never")
    workspace.faults.spot_loss()
    workspace.faults.server_error(ME)
    removed = workspace.faults.drop("/never")
    removed.remove()
    with pytest.raises(InternalError):
        client.current_user.me()
    assert workspace.faults.unmet() == ["throttle", "spot_loss"]
    workspace.faults.clear()
    assert workspace.faults.unmet() == []
