"""Submitting, listing and deleting runs through the SDK; what runs is in `test_task_*`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    ResourceDoesNotExist,
)
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.iam import PermissionLevel
from databricks.sdk.service.jobs import JobAccessControlRequest, JobPermissionLevel, RunType

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, run_code, submit, wait_for_end

NOTHING = "pass"


def good_body() -> dict[str, Any]:
    return {
        "run_name": "x",
        "tasks": [
            {
                "task_key": "main",
                "new_cluster": {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0},
                "spark_python_task": {"python_file": "dbfs:/none.py"},
            }
        ],
    }


def change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(body)
    target: Any = body
    *names, last = path.split(".")
    for name in names:
        target = target[int(name)] if name.isdigit() else target[name]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", None, "number of tasks"),
        ("tasks", {}, "Expected array for field tasks"),
        ("nonsense", 1, "Unknown field nonsense"),
        ("timeout_seconds", "soon", "Expected integer for field timeout_seconds"),
        ("idempotency_token", "x" * 65, "at most 64 characters"),
        ("tasks.0.task_key", None, "Missing required field: tasks[0].task_key"),
        ("tasks.0.task_key", "a b", "letters, digits"),
        ("tasks.0.spark_pythn_task", {}, "Unknown field tasks[0].spark_pythn_task"),
        ("tasks.0.spark_python_task", None, "exactly one task type, found none"),
        ("tasks.0.spark_python_task.python_file", None, "Missing required field: tasks[0].spark_python_task"),
        ("tasks.0.spark_python_task.python_file", "local.py", "must be absolute"),
        ("tasks.0.spark_python_task.python_file", "s3://bucket/a.py", "not s3://bucket/a.py"),
        ("tasks.0.spark_python_task.parameters", [1], "Expected string for field tasks[0].spark_python_task.par"),
        ("tasks.0.spark_python_task.parameters", ["x" * 10_000], "exceed 10000 bytes"),
        ("tasks.0.new_cluster", None, "One of job_cluster_key, new_cluster, or existing_cluster_id must be"),
        ("tasks.0.new_cluster.num_workers", None, "Missing required field: tasks[0].new_cluster.size"),
        ("tasks.0.new_cluster.node_type_id", "i9.none", "Node type i9.none is not supported"),
        ("tasks.0.new_cluster.sparkconf", {}, "Unknown field tasks[0].new_cluster.sparkconf"),
        ("tasks.0.existing_cluster_id", "1234-567890-none", "One of job_cluster_key"),
        ("tasks.0.depends_on", [{"task_key": "other"}], "depends on unknown task other"),
        ("tasks.0.libraries", [{"pypi": {"name": "x"}}], "Unknown field tasks[0].libraries[0].pypi.name"),
    ],
)
def test_bad_submission_is_refused(client: WorkspaceClient, path: str, value: Any, message: str):
    with pytest.raises(BadRequest) as caught:
        client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=change(good_body(), path, value))
    assert message in str(caught.value)


def test_what_is_not_emulated_says_so(client: WorkspaceClient):
    for path, value, what in (
        ("tasks.0.sql_task", {"warehouse_id": "x"}, "sql_task"),
        ("git_source", {"git_url": "x", "git_provider": "gitHub"}, "git_source"),
    ):
        body = change(good_body(), path, value)
        if "sql_task" in body["tasks"][0]:
            del body["tasks"][0]["spark_python_task"]
        with pytest.raises(DatabricksError, match=f"does not emulate {what}") as caught:
            client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)
        assert caught.value.error_code == "NOT_IMPLEMENTED"


def test_unknown_existing_cluster_is_refused(client: WorkspaceClient):
    body = change(change(good_body(), "tasks.0.new_cluster", None), "tasks.0.existing_cluster_id", "1-2-none")
    with pytest.raises(BadRequest, match="Cluster 1-2-none does not exist"):
        client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)


def test_same_idempotency_token_gives_the_same_run(workspace: Workspace, client: WorkspaceClient):
    task, key = python_task(NOTHING, client), "night-of-2026-11-23"
    first = submit(client, task, idempotency_token=key)
    again = submit(client, task, idempotency_token=key)
    other = submit(client, task, idempotency_token=f"{key}-other")
    assert first == again != other
    wait_for_end(client, first)
    wait_for_end(client, other)
    assert submit(client, task, idempotency_token=key) == first, "also once it is over"
    assert len([run for run in workspace.runs if run.id in (first, other)]) == 2
    client.jobs.delete_run(first)
    with pytest.raises(InvalidParameterValue, match="was deleted"):
        submit(client, task, idempotency_token=key)


def test_runs_are_listed_newest_first_with_filters(client: WorkspaceClient):
    ended, _ = run_code(client, NOTHING)
    active = submit(client, python_task("import time; time.sleep(60)", client), run_name="sleeper")

    def listed(**filters: Any) -> list[int | None]:
        return [run.run_id for run in client.jobs.list_runs(**filters)]

    assert listed()[:2] == [active, ended.run_id]
    assert listed(active_only=True) == [active]
    assert listed(completed_only=True)[0] == ended.run_id
    assert active not in listed(completed_only=True)
    assert listed(job_id=ended.job_id) == [ended.run_id]
    assert listed(limit=1)[:2] == [active, ended.run_id], "the SDK follows the pages"
    assert listed(run_type=RunType.JOB_RUN) == []
    assert ended.start_time is not None
    assert active not in listed(start_time_to=ended.start_time)
    assert ended.run_id in listed(start_time_from=ended.start_time)
    plain, expanded = (next(client.jobs.list_runs(limit=1, expand_tasks=flag)) for flag in (False, True))
    assert plain.tasks is None or plain.tasks == []
    assert [task.task_key for task in expanded.tasks or []] == ["main"]
    with pytest.raises(InvalidParameterValue):
        listed(active_only=True, completed_only=True)
    with pytest.raises(InvalidParameterValue, match="limit must be between 1 and 25"):
        listed(limit=26)
    with pytest.raises(InvalidParameterValue, match="still active"):
        client.jobs.delete_run(active)
    client.jobs.cancel_run(active)
    wait_for_end(client, active)
    client.jobs.delete_run(active)
    with pytest.raises(ResourceDoesNotExist, match=f"Run {active} does not exist"):
        client.jobs.get_run(active)


def test_output_is_asked_of_the_task_not_of_the_run(client: WorkspaceClient):
    run, _ = run_code(client, NOTHING)
    assert run.run_id is not None
    with pytest.raises(InvalidParameterValue, match="each individual task run"):
        client.jobs.get_run_output(run.run_id)
    with pytest.raises(ResourceDoesNotExist):
        client.jobs.get_run_output(1)


def test_access_list_of_a_submission_is_that_of_its_job(client: WorkspaceClient):
    access = [JobAccessControlRequest(group_name="viewers", permission_level=JobPermissionLevel.CAN_VIEW)]
    run = wait_for_end(client, submit(client, python_task(NOTHING, client), access_control_list=access))
    granted = client.permissions.get("jobs", str(run.job_id)).access_control_list or []
    levels = {entry.group_name: entry.all_permissions or [] for entry in granted if entry.group_name}
    assert [permission.permission_level for permission in levels["viewers"]] == [PermissionLevel.CAN_VIEW]
