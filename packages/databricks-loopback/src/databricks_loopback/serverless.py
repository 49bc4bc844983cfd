"""Serverless compute: what a submission asks of it, and the machine that a task gets.

What belongs here: environments and their rules, and the settings of that machine. What does not: Spark on it
(`image.cluster_connect`), classic compute (`clusters`).

Rules: "Serverless compute limitations" and "Serverless environment versions" of the Databricks reference, and
`jobs.JobEnvironment`, `compute.Environment` of databricks-sdk. A task has no cluster in `runs/get`, no `sc`, no mount
of DBFS and no environment variables of its own; Spark is a Connect session, and few of its settings can be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from databricks_loopback.clusters import Cluster
from databricks_loopback.wire import invalid

# Environment versions with the release that processes name; each is Python 3.12 and a version of Databricks Connect.
VERSIONS: Final = {"4": "client.4.0", "5": "client.5.0"}
_KEY_LENGTH, _MOST = 100, 10
_CLASSIC_ONLY = ("libraries", "new_cluster", "existing_cluster_id", "job_cluster_key")


class ServerlessMachine(Cluster):
    """The machine of one task; it starts with the task, ends with it, and no API lists it.

    Args:
        version: Environment version.
        creator: The user that submitted the run.
    """

    def __init__(self, version: str, creator: str) -> None:
        super().__init__({"spark_version": VERSIONS[version]}, source="SERVERLESS", creator=creator)
        self._release = VERSIONS[version]

    @property
    def runtime_version(self) -> str:
        """`DATABRICKS_RUNTIME_VERSION` of its processes."""
        return self._release

    @property
    def is_shared(self) -> bool:
        """Python has neither the SparkContext nor `/dbfs`."""
        return True


def is_serverless(task: Mapping[str, Any]) -> bool:
    """Whether a task asks for no cluster."""
    return not any(task.get(name) for name in _CLASSIC_ONLY[1:])


def check_environments(request: Mapping[str, Any]) -> None:
    """Check `environments` of a submission.

    Raises:
        ApiError: INVALID_PARAMETER_VALUE.
    """
    environments = request.get("environments") or []
    keys = [str(environment["environment_key"]) for environment in environments]
    if len(keys) > _MOST:
        raise invalid(f"The number of environments must be at most {_MOST}, got {len(keys)}.")
    if len(set(keys)) < len(keys) or not all(1 <= len(key) <= _KEY_LENGTH for key in keys):
        raise invalid(f"Environment keys must be unique and have 1 to {_KEY_LENGTH} characters.")
    for environment in environments:
        version = _version(environment.get("spec") or {})
        if version not in VERSIONS:
            raise invalid(f"Environment version {version} is not supported. Supported: {', '.join(VERSIONS)}.")


def check_task(task: Mapping[str, Any], where: str, request: Mapping[str, Any]) -> None:
    """Check a task on serverless compute.

    Raises:
        ApiError: INVALID_PARAMETER_VALUE.
    """
    if task.get("libraries"):
        raise invalid(
            f"Libraries field is not supported for serverless task {task['task_key']}, please specify libraries in "
            "environment."
        )
    key = task.get("environment_key")
    known = {environment["environment_key"] for environment in request.get("environments") or []}
    if key is not None and key not in known:
        raise invalid(f"{where}.environment_key {key} is not one of the environments of the job.")
    if key is None and not task.get("notebook_task"):
        raise invalid(
            "One of job_cluster_key, new_cluster, or existing_cluster_id must be specified, or environment_key for "
            f"serverless compute ({where})."
        )
    python = task.get("spark_python_task") or {}
    if str(python.get("python_file", "")).startswith("dbfs:"):
        raise invalid(f"{where}: DBFS is not available on serverless compute; use a workspace file.")


def machine_of(request: Mapping[str, Any], task: Mapping[str, Any], creator: str) -> ServerlessMachine:
    """Return the machine of a checked task."""
    return ServerlessMachine(_version(_spec(request, task)), creator)


def dependencies_of(request: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    """Return the lines of pip's requirements that a task's environment lists."""
    return [str(line) for line in _spec(request, task).get("dependencies") or []]


def _spec(request: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, Any]:
    for environment in request.get("environments") or []:
        if environment["environment_key"] == task.get("environment_key"):
            return environment.get("spec") or {}
    return {}


def _version(spec: Mapping[str, Any]) -> str:
    # `client` is its former name.
    return str(spec.get("environment_version") or spec.get("client") or max(VERSIONS))
