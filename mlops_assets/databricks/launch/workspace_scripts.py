"""Files in a workspace folder that only the launching identity writes to: the main script, and others like it.

What belongs here: storing, finding and removing them (Workspace API 2.0). What does not: other files (`staging`).

"Cloud file URIs (such as dbfs:/, s3:/, adls:/, gcs:/) and workspace paths are supported" (Jobs API 2.2,
`SparkPythonTask.python_file`). The path of a volume is none of these. Whoever writes one of these files decides what
runs on the cluster, so they are not in the staging folder.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import cached_property

from databricks.sdk.errors import NotFound, ResourceConflict
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch.api import Api
from mlops_assets.errors import LaunchError

ME = "/api/2.0/preview/scim/v2/Me"
_FOLDER = "mlops_assets_launch"


class WorkspaceScripts:
    """The files in one workspace folder.

    Args:
        api: The workspace.
        folder: The folder; defaults to one in the caller's home.
    """

    def __init__(self, api: Api, folder: str = "") -> None:
        self._api, self._chosen_folder = api, folder

    def put(self, name: str, data: bytes) -> str:
        """Store a script and return its `python_file`.

        Raises:
            LaunchError: It can't be stored.
        """
        try:
            self._import(name, data, overwrite=True)
        except DatabricksError as error:
            raise self._refused(name, error) from error
        return self.on_cluster(name)

    def put_once(self, name: str, data: bytes) -> bool:
        """Store a file unless there is one of this name; return whether this content is there now.

        Raises:
            LaunchError: It can't be stored.
        """
        try:
            self._import(name, data, overwrite=False)
        except ResourceConflict:  # perhaps by this call, whose answer was lost
            query = {"path": self._path(name), "format": "AUTO"}
            answer = self._api.call("GET", "/api/2.0/workspace/export", query=query)
            return base64.b64decode(answer.get("content") or "") == data
        except DatabricksError as error:
            raise self._refused(name, error) from error
        return True

    def on_cluster(self, name: str) -> str:
        """Return the path of a file on the cluster, which is its `python_file` too."""
        path = self._path(name)
        return path if path.startswith("/Workspace/") else f"/Workspace{path}"

    def remove(self, run: str) -> None:
        """Remove the files that were stored as `<run>/...`, also by another process."""
        try:
            answer = self._api.call("GET", "/api/2.0/workspace/list", query={"path": self._folder})
        except NotFound:
            return
        for path in (str(entry["path"]) for entry in answer.get("objects", [])):
            if path.rpartition("/")[2].startswith(f"{run}-"):
                with suppress(NotFound):  # another process was faster
                    self._api.call("POST", "/api/2.0/workspace/delete", body={"path": path})

    def _import(self, name: str, data: bytes, *, overwrite: bool) -> None:
        self._api.require_harmless(data, name)  # before base64 hides the content
        content = base64.b64encode(data).decode()
        body = {"path": self._path(name), "format": "RAW", "content": content, "overwrite": overwrite}
        try:
            self._api.call("POST", "/api/2.0/workspace/import", body=body)
        except NotFound:
            self._api.call("POST", "/api/2.0/workspace/mkdirs", body={"path": self._folder})
            self._api.call("POST", "/api/2.0/workspace/import", body=body)

    def _refused(self, name: str, error: DatabricksError) -> LaunchError:
        return LaunchError(
            f"the main script can't be stored as a workspace file: {error}",
            where=self._path(name),
            fix="set `script_folder` of the launch to a workspace folder that the launching identity can write to",
        )

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name.replace('/', '-')}"

    @cached_property
    def _folder(self) -> str:
        return self._chosen_folder or f"/Users/{self._api.call('GET', ME)['userName']}/{_FOLDER}"
