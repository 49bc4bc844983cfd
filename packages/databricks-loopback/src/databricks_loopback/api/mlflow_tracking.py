"""MLflow tracking, as MLflow's client calls it with the tracking URI `databricks`.

What belongs here: forwarding the calls to a real MLflow server, which has the same API, and where the platform differs
from that server. What does not: models in Unity Catalog (`api.model_registry`), artifacts (`api.files`).

Unlike an MLflow server, the platform authenticates callers, requires the names of experiments to be workspace paths
(Databricks documentation, "Organize training runs with MLflow experiments"), and stores artifacts below
`dbfs:/databricks/mlflow-tracking`, where the folder of a logged model has another name
(`mlflow.store.artifact.databricks_logged_model_artifact_repo`).
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from databricks_loopback.routing import Route
from databricks_loopback.wire import Reply, Request, invalid

ARTIFACTS = "dbfs:/databricks/mlflow-tracking"
_MODEL_FOLDER = re.compile(rf"({ARTIFACTS}/\d+)/models/(m-\w+)".encode())
_TIMEOUT_S = 60.0


class MlflowTrackingApi:
    """The endpoints of tracking.

    Args:
        server: Address of a real MLflow server whose artifact root is `ARTIFACTS`.
        workspace_id: Value of the header `x-databricks-org-id`.
    """

    def __init__(self, server: str, workspace_id: int) -> None:
        self._server, self._workspace_id = server, workspace_id

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            Route("POST", "/api/2.0/mlflow/experiments/create", self._create_experiment),
            *(Route(verb, "/api/2.0/mlflow{path}", self._forward) for verb in ("GET", "POST", "PATCH", "DELETE")),
        ]

    def _create_experiment(self, request: Request, parts: Mapping[str, str]) -> Reply:
        name = str(request.document().get("name", ""))
        if not name.startswith("/"):
            raise invalid(
                f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the "
                "Databricks workspace, e.g. '/Users/<some-username>/my-experiment'."
            )
        return self._forward(request, parts)

    def _forward(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        query = f"?{urlencode(request.query)}" if request.query else ""
        forwarded = urllib.request.Request(  # noqa: S310 - a server on this machine
            f"{self._server}{quote(request.path)}{query}",
            data=request.body or None,
            method=request.method,
            headers={"Content-Type": request.headers.get("content-type", "application/json")},
        )
        try:
            with urllib.request.urlopen(forwarded, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the same
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        headers = {"Content-Type": "application/json", "x-databricks-org-id": str(self._workspace_id)}
        return Reply(status, _MODEL_FOLDER.sub(rb"\1/logged_models/\2", body), headers)
