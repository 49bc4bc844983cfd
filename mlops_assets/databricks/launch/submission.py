"""Submits, finds and cancels runs; one attempt of a step never gets two.

What belongs here: these calls and their bodies. What does not: files (`staging`), watching a run (`watch`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.failures import RunView, refused_submission
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.errors import LaunchError

_RUNS: Final = "/api/2.2/jobs/runs"
ENVIRONMENT: Final = "mlops_assets"
_PAGE = 25
_CANCEL_S = 20.0


def submission(
    spec: LaunchSpec,
    attempt: Attempt,
    *,
    python_file: str,
    parameters: list[str],
    libraries: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the body of `runs/submit`; `libraries` are those that were uploaded.

    Job permissions are part of it: if they were set afterwards, as dagster-databricks does, that call could fail while
    the run goes on.
    """
    task: dict[str, Any] = {
        "task_key": "dagster-step",
        "spark_python_task": {"python_file": python_file, "parameters": parameters},
    }
    installed = [dict(library) for library in (*spec.libraries, *libraries)]
    if installed and not spec.environment_version:
        task["libraries"] = installed
    if spec.environment_version:
        task["environment_key"] = ENVIRONMENT
    elif spec.existing_cluster_id:
        task["existing_cluster_id"] = spec.existing_cluster_id
    else:
        cluster = dict(spec.cluster)
        cluster["custom_tags"] = {**(cluster.get("custom_tags") or {}), **attempt.tags}
        task["new_cluster"] = cluster
    body: dict[str, Any] = {
        "run_name": attempt.run_name,
        "tasks": [task],
        "timeout_seconds": spec.timeout_seconds,
        "idempotency_token": attempt.token,
    }
    if spec.environment_version:
        # "Each dependency is a pip requirement file line", such as `-r /Workspace/test/requirements.txt`
        # (`compute.Environment` of databricks-sdk).
        lines = [f"-r {library['requirements']}" for library in installed]
        environment = {"environment_version": spec.environment_version, "dependencies": lines}
        body["environments"] = [{"environment_key": ENVIRONMENT, "spec": environment}]
    if spec.budget_policy_id is not None:
        body["budget_policy_id"] = spec.budget_policy_id
    if spec.job_permissions:
        body["access_control_list"] = [dict(entry) for entry in spec.job_permissions]
    return body


def submit(api: Api, body: Mapping[str, Any]) -> int:
    """Submit a run and return its id; an interrupt leaves no run behind.

    A lost answer does no harm: the call is repeated with the same token and returns the same run.

    Raises:
        LaunchError: The workspace rejects the run, or does not answer.
    """
    try:
        return int(api.call("POST", f"{_RUNS}/submit", body=body)["run_id"])
    except DatabricksError as error:
        raise refused_submission(str(error), where=str(body["run_name"])) from error
    except BaseException:
        # It may have been accepted. Repeating the call with the token would start it if it was not.
        with contextlib.suppress(LaunchError, DatabricksError):
            for run in active_runs(api):
                if run["run_name"] == body["run_name"]:
                    cancel(api, int(run["run_id"]))
        raise


def look(api: Api, run_id: int) -> RunView:
    """Return the current state of a run."""
    return RunView.of(api.call("GET", f"{_RUNS}/get", query={"run_id": run_id}))


def output(api: Api, view: RunView) -> dict[str, Any]:
    """Return the output of a run's task (`jobs.RunOutput`), empty if it is not available."""
    if view.task_run_id is None:
        return {}
    try:
        return api.call("GET", f"{_RUNS}/get-output", query={"run_id": view.task_run_id})
    except DatabricksError:
        return {}  # it only adds to an error that is reported anyway


def termination_code(api: Api, view: RunView) -> str:
    """Return why a run's cluster ended (`compute.TerminationReasonCode`), empty if that is not known."""
    if view.cluster_id is None:
        return ""
    try:
        cluster = api.call("GET", "/api/2.1/clusters/get", query={"cluster_id": view.cluster_id})
    except DatabricksError:
        return ""  # it only adds to an error that is reported anyway
    code = str((cluster.get("termination_reason") or {}).get("code") or "")
    return "" if code == "JOB_FINISHED" else code


def cancel(api: Api, run_id: int) -> None:
    """Cancel a run, retrying for a short time only: the caller is about to exit.

    Raises:
        LaunchError: The workspace does not answer.
    """
    api.call("POST", f"{_RUNS}/cancel", body={"run_id": run_id}, retry_seconds=_CANCEL_S)


def active_runs(api: Api) -> Iterator[dict[str, Any]]:
    """Yield all one-time runs that have not ended (`jobs.BaseRun`), of all owners that the caller can see."""
    query: dict[str, Any] = {"active_only": True, "run_type": "SUBMIT_RUN", "limit": _PAGE}
    while True:
        answer = api.call("GET", f"{_RUNS}/list", query=query)
        yield from answer.get("runs", [])
        if not answer.get("next_page_token"):
            return
        query = {**query, "page_token": answer["next_page_token"]}


def grant_cluster_permissions(api: Api, spec: LaunchSpec, cluster_id: str) -> None:
    """Add `cluster_permissions` to the cluster of a run."""
    entries = [dict(entry) for entry in spec.cluster_permissions]
    api.call("PATCH", f"/api/2.0/permissions/clusters/{cluster_id}", body={"access_control_list": entries})
