"""The main script of a task as a workspace file, for staging folders whose paths the Jobs API does not accept.

What belongs here: storing, finding and removing scripts (Workspace API 2.0). What does not: other files (`staging`).

"Cloud file URIs (such as dbfs:/, s3:/, adls:/, gcs:/) and workspace paths are supported" (Jobs API 2.2,
`SparkPythonTask.python_file`). The path of a volume is none of these.
"""

from __future__ import annotations

import base64

from databricks.sdk.errors import NotFound
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch.api import Api
from mlops_assets.errors import LaunchError

ME = "/api/2.0/preview/scim/v2/Me"
_FOLDER = "mlops_assets_launch"


class WorkspaceScripts:
    """The scripts in one workspace folder.

    Args:
        api: The workspace.
        folder: The folder; defaults to one in the caller's home.
    """

    def __init__(self, api: Api, folder: str = "") -> None:
        self._api, self._chosen_folder = api, folder
        self._stored: list[str] = []

    def put(self, name: str, data: bytes) -> str:
        """Store a script and return its `python_file`.

        Raises:
            LaunchError: It can't be stored.
        """
        self._api.require_harmless(data, name)  # before base64 hides the content
        folder = self._folder()
        path = f"{folder}/{name.replace('/', '-')}"
        body = {"path": path, "format": "RAW", "content": base64.b64encode(data).decode(), "overwrite": True}
        try:
            try:
                self._api.call("POST", "/api/2.0/workspace/import", body=body)
            except NotFound:
                self._api.call("POST", "/api/2.0/workspace/mkdirs", body={"path": folder})
                self._api.call("POST", "/api/2.0/workspace/import", body=body)
        except DatabricksError as error:
            raise LaunchError(
                f"the main script can't be stored as a workspace file: {error}",
                where=path,
                fix="set `script_folder` of the launch to a workspace folder that the launching identity can write to",
            ) from error
        self._stored.append(path)
        return f"/Workspace{path}" if not path.startswith("/Workspace/") else path

    def remove(self, run: str) -> None:
        """Remove the scripts that were stored as `<run>/...`, also by another process."""
        stored = [path for path in self._stored if _is_of(run, path)]
        try:
            for path in stored or self._listed(run):
                self._api.call("POST", "/api/2.0/workspace/delete", body={"path": path})
        except NotFound:
            return

    def _listed(self, run: str) -> list[str]:
        answer = self._api.call("GET", "/api/2.0/workspace/list", query={"path": self._folder()})
        return [path for entry in answer.get("objects", []) if _is_of(run, path := str(entry["path"]))]

    def _folder(self) -> str:
        return self._chosen_folder or f"/Users/{self._api.call('GET', ME)['userName']}/{_FOLDER}"


def _is_of(run: str, path: str) -> bool:
    return path.rpartition("/")[2].startswith(f"{run}-")
