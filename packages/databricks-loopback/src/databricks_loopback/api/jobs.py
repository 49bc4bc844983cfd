"""Jobs API 2.2: one-time runs.

What belongs here: submitting, reading, listing, cancelling and deleting runs (reference: "Jobs",
`databricks.sdk.service.jobs.JobsAPI`). What does not: records (`runs`), rules of a submission (`submission`),
processes (`runner`), persistent jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from databricks.sdk.service.jobs import JobsAPI

from databricks_loopback.api.permissions import PermissionsApi
from databricks_loopback.clusters import Clusters
from databricks_loopback.routing import Route
from databricks_loopback.runner import Runner
from databricks_loopback.runs import Run, Runs
from databricks_loopback.schema import check_call
from databricks_loopback.storage import Storage
from databricks_loopback.submission import check_submission
from databricks_loopback.wire import Reply, Request, invalid

_DEFAULT_PAGE, _LARGEST_PAGE = 20, 25
# Fields that the metadata of an output takes from the task; the others are the run's.
_OF_THE_TASK = [
    "run_id",
    "state",
    "status",
    "run_page_url",
    "cluster_instance",
    "start_time",
    "setup_duration",
    "execution_duration",
    "cleanup_duration",
    "end_time",
    "attempt_number",
]


class JobsApi:
    """The Jobs endpoints.

    Args:
        runs: All runs.
        runner: Runs them.
        clusters: Clusters that submissions can use.
        storage: Storage of their files.
        permissions: Access lists.
        url: Returns the address of the workspace, for links.
        workspace_id: Number of the workspace, for links.
    """

    def __init__(
        self,
        runs: Runs,
        runner: Runner,
        clusters: Clusters,
        storage: Storage,
        permissions: PermissionsApi,
        *,
        url: Callable[[], str],
        workspace_id: int,
    ) -> None:
        self._runs, self._runner, self._clusters, self._storage = runs, runner, clusters, storage
        self._permissions, self._url, self._workspace_id = permissions, url, workspace_id

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/{v}/jobs/runs"
        return [
            Route("POST", f"{base}/submit", self._submit),
            Route("GET", f"{base}/get", self._get),
            Route("GET", f"{base}/get-output", self._get_output),
            Route("GET", f"{base}/list", self._list),
            Route("POST", f"{base}/cancel", self._cancel),
            Route("POST", f"{base}/delete", self._delete),
        ]

    def _submit(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_submission(document, self._clusters, self._storage)
        run, is_new = self._runs.add(document, request.user)
        if is_new:
            if document.get("access_control_list"):
                self._permissions.grant("jobs", str(run.job_id), document["access_control_list"], replace=True)
            self._runner.submit(run)
        return Reply.of({"run_id": run.id})

    def _get(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        run = self._runs.get(_run_id(request))
        return Reply.of(run.document(self._url(), self._workspace_id))

    def _get_output(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        run_id = _run_id(request)
        run = self._runs.get(run_id)
        task = next((task for task in run.tasks if task.id == run_id), None)
        if task is None:
            raise invalid(
                "Retrieving the output of runs with multiple tasks is not supported. Please retrieve the output of "
                "each individual task run instead."
            )
        metadata = run.document(self._url(), self._workspace_id, with_tasks=False)
        page = f"{self._url()}/?o={self._workspace_id}#job/{run.job_id}/run/{task.id}"
        own = {name: value for name, value in task.document(page).items() if name in _OF_THE_TASK}
        output: dict[str, Any] = {"metadata": metadata | own}
        if task.finished.is_set():
            if task.spec.get("notebook_task"):  # its cells have their output, and `logs` is for other tasks
                output |= {"notebook_output": {"truncated": False}}
            else:
                logs, truncated = task.logs()
                output |= {"logs": logs, "logs_truncated": truncated}
            if task.error:
                output |= {"error": task.error, "error_trace": task.error_trace}
            elif task.end is not None and not task.end.is_success:
                output |= {"error": task.end.message}
        return Reply.of(output)

    def _list(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        if request.flag("active_only") and request.flag("completed_only"):
            raise invalid("active_only and completed_only can't both be true.")
        limit = request.integer("limit", _DEFAULT_PAGE) or _LARGEST_PAGE
        if not 0 < limit <= _LARGEST_PAGE:
            raise invalid(f"limit must be between 1 and {_LARGEST_PAGE}, got {limit}.")
        offset = request.integer("page_token", request.integer("offset", 0))
        fitting = [run for run in self._newest_first() if _fits(run, request)]
        page = fitting[offset : offset + limit]
        expand = request.flag("expand_tasks")
        listed = [run.document(self._url(), self._workspace_id, with_tasks=expand) for run in page]
        more = offset + limit < len(fitting)
        rest = {"next_page_token": str(offset + limit)} if more else {}
        return Reply.of(({"runs": listed} if listed else {}) | {"has_more": more} | rest)

    def _cancel(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, JobsAPI.cancel_run)
        for task in self._runs.get(int(document["run_id"])).tasks:
            task.cancel.set()
        return Reply.of({})

    def _delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, JobsAPI.delete_run)
        self._runs.delete(int(document["run_id"]))
        return Reply.of({})

    def _newest_first(self) -> list[Run]:
        return sorted(self._runs, key=lambda run: (run.started_at, run.id), reverse=True)


def _run_id(request: Request) -> int:
    request.required("run_id")
    return request.integer("run_id", 0)


def _fits(run: Run, request: Request) -> bool:
    if request.flag("active_only") and not run.is_active:
        return False
    if request.flag("completed_only") and run.is_active:
        return False
    if request.query.get("run_type", "SUBMIT_RUN") != "SUBMIT_RUN":
        return False
    if request.integer("job_id", run.job_id) != run.job_id:
        return False
    earliest, latest = request.integer("start_time_from", 0), request.integer("start_time_to", run.started_at)
    return earliest <= run.started_at <= latest
