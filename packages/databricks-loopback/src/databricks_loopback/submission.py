"""The checks of `runs/submit`.

What belongs here: the rules of a submission. What does not: clusters' own rules (`clusters`), running it (`runner`).

Limits and fields: Jobs API 2.2 reference, "Create and trigger a one-time run"; messages as users report them
(databricks/cli issue 838, databrickslabs/dbx issue 646).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from databricks.sdk.service.jobs import JobsAPI

from databricks_loopback.clusters import Clusters
from databricks_loopback.schema import check_call
from databricks_loopback.serverless import check_environments, check_task, is_serverless
from databricks_loopback.storage import Storage
from databricks_loopback.wire import invalid, not_emulated

_TOKEN_LENGTH, _TASKS, _PARAMETER_BYTES = 64, 100, 10_000
_TASK_KEY = re.compile(r"[\w-]{1,100}")


def check_submission(request: Mapping[str, Any], clusters: Clusters, storage: Storage) -> None:
    """Reject a body that the Jobs API would reject, or that this emulator can't run.

    Raises:
        ApiError: MALFORMED_REQUEST, INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST or NOT_IMPLEMENTED.
    """
    check_call(request, JobsAPI.submit)
    tasks = request.get("tasks") or []
    if not tasks or len(tasks) > _TASKS:
        raise invalid(f"The number of tasks must be between 1 and {_TASKS}, got {len(tasks)}.")
    if len(str(request.get("idempotency_token") or "")) > _TOKEN_LENGTH:
        raise invalid(f"idempotency_token must have at most {_TOKEN_LENGTH} characters.")
    if request.get("git_source"):
        raise not_emulated("git_source")
    check_environments(request)
    keys = [str(task.get("task_key", "")) for task in tasks]
    if len(set(keys)) < len(keys):
        raise invalid("Found duplicate task keys.")
    for index, task in enumerate(tasks):
        _check_task(task, f"tasks[{index}]", keys[:index], storage)
        if is_serverless(task):
            check_task(task, f"tasks[{index}]", request)
        else:
            _check_compute(task, f"tasks[{index}]", clusters)


def _check_task(task: Mapping[str, Any], where: str, earlier: list[str], storage: Storage) -> None:
    if not _TASK_KEY.fullmatch(str(task["task_key"])):
        raise invalid(f"{where}.task_key may have letters, digits, - and _, and 1 to 100 characters.")
    for dependency in task.get("depends_on") or []:
        # The platform allows any order without a cycle; this emulator requires upstream tasks first.
        if dependency["task_key"] not in earlier:
            raise invalid(f"{where} depends on unknown task {dependency['task_key']}.")
    kinds = sorted(name for name, value in task.items() if name.endswith("_task") and value is not None)
    if len(kinds) != 1:
        raise invalid(f"{where} must have exactly one task type, found {', '.join(kinds) or 'none'}.")
    if kinds[0] not in ("spark_python_task", "notebook_task"):
        raise not_emulated(kinds[0])
    if kinds == ["notebook_task"]:
        _check_notebook(task["notebook_task"], where, storage)
        return
    python = task["spark_python_task"]
    if python.get("source") == "GIT":
        raise not_emulated("Python files from Git")
    storage.locate(python["python_file"])
    if len(json.dumps(python.get("parameters") or [])) > _PARAMETER_BYTES:
        raise invalid(f"The parameters of {where} exceed {_PARAMETER_BYTES} bytes as JSON.")


def _check_notebook(notebook: Mapping[str, Any], where: str, storage: Storage) -> None:
    if notebook.get("source") == "GIT":
        raise not_emulated("notebooks from Git")
    if not str(notebook["notebook_path"]).startswith("/"):
        raise invalid("Only absolute paths are currently supported. Paths must begin with '/'.")
    storage.locate(notebook["notebook_path"])
    if len(json.dumps(notebook.get("base_parameters") or {})) > _PARAMETER_BYTES:
        raise invalid(f"The parameters of {where} exceed {_PARAMETER_BYTES} bytes as JSON.")


def _check_compute(task: Mapping[str, Any], where: str, clusters: Clusters) -> None:
    if task.get("environment_key"):
        raise invalid(f"{where}: environment_key is for serverless compute, and the task names a cluster.")
    compute = [name for name in ("new_cluster", "existing_cluster_id") if task.get(name)]
    if len(compute) != 1:
        raise invalid("One of job_cluster_key, new_cluster, or existing_cluster_id must be specified.")
    if compute == ["existing_cluster_id"]:
        clusters.get(str(task["existing_cluster_id"]))
    else:
        clusters.check(task["new_cluster"], f"{where}.new_cluster")
