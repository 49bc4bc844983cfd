"""The folder that both sides of a launch share: in a Unity Catalog volume, or in DBFS.

What belongs here: writing, reading and removing files there by the REST API, and their paths on the cluster. What does
not: their content, the main script and what else only the launching identity may write (`workspace_scripts`).
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from urllib.parse import quote

from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.spec import StagingKind
from mlops_assets.databricks.launch.workspace_scripts import ME, WorkspaceScripts
from mlops_assets.errors import LaunchError

_BLOCK = 1024 * 1024
_STREAMS = 3
_DELETERS = 4


class Staging(ABC):
    """A folder that the launching side writes by REST and the cluster sees as files.

    Names are relative to the folder, with `/` as separator.

    Args:
        api: The workspace.
        root: The folder's path in the API.
        script_folder: Workspace folder for scripts; defaults to one in the caller's home.

    Attributes:
        scripts: The files that others who write to the folder must not change: the main script, and those beside it.
    """

    # The error if it can't be used, and what to do then.
    _UNUSABLE: ClassVar[str]
    _FIX: ClassVar[str]

    def __init__(self, api: Api, root: str, script_folder: str = "") -> None:
        self._api, self.root = api, root.rstrip("/")
        self.scripts = WorkspaceScripts(api, script_folder)

    @abstractmethod
    def on_cluster(self, name: str) -> str:
        """Return the path of a file on the cluster."""

    def put(self, name: str, data: bytes) -> None:
        """Store a file, replacing one of the same name.

        Raises:
            LaunchError: The workspace does not have this kind of storage, or denies access.
        """
        try:
            self._put(f"{self.root}/{name}", data)
        except DatabricksError as error:
            raise LaunchError(f"{self._UNUSABLE}: {error}", where=self.root, fix=self._FIX) from error

    def get(self, name: str) -> bytes | None:
        """Return a file's content, None if there is none."""
        try:
            return self._get(f"{self.root}/{name}")
        except NotFound:
            return None

    def exists(self, name: str) -> bool:
        """Whether a file exists.

        Raises:
            LaunchError: The workspace does not have this kind of storage, or denies access.
        """
        try:
            self._head(f"{self.root}/{name}")
        except NotFound:
            return False
        except DatabricksError as error:
            raise LaunchError(f"{self._UNUSABLE}: {error}", where=self.root, fix=self._FIX) from error
        return True

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, none if the folder does not exist."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a folder with its content; does nothing if it does not exist."""

    @abstractmethod
    def _head(self, path: str) -> None: ...

    @abstractmethod
    def _put(self, path: str, data: bytes) -> None: ...

    @abstractmethod
    def _get(self, path: str) -> bytes: ...


class DbfsStaging(Staging):
    """A folder of DBFS, `dbfs:/...`, for workspaces that still have it. Every user of the workspace can write there."""

    _UNUSABLE = "DBFS can't be used"
    _FIX = (
        "newer workspaces have DBFS disabled: set `staging: volume` and `staging_path: "
        "/Volumes/<catalog>/<schema>/<volume>` in the profile, and grant the launching identity WRITE VOLUME there"
    )

    def on_cluster(self, name: str) -> str:
        """See `Staging`."""
        return f"/dbfs{self._path(f'{self.root}/{name}')}"

    def names(self, folder: str) -> list[str]:
        """See `Staging`."""
        try:
            path = self._path(f"{self.root}/{folder}".rstrip("/"))
            answer = self._api.call("GET", "/api/2.0/dbfs/list", query={"path": path})
        except NotFound:
            return []
        return [entry["path"].rpartition("/")[2] for entry in answer.get("files", [])]

    def remove(self, name: str) -> None:
        """See `Staging`."""
        path = self._path(f"{self.root}/{name}")
        self._api.call("POST", "/api/2.0/dbfs/delete", body={"path": path, "recursive": True})

    @staticmethod
    def _path(path: str) -> str:
        return path.removeprefix("dbfs:")

    def _head(self, path: str) -> None:
        self._api.call("GET", "/api/2.0/dbfs/get-status", query={"path": self._path(path)})

    def _put(self, path: str, data: bytes) -> None:
        path = self._path(path)
        self._api.require_harmless(data, path)  # before base64 hides the content
        if len(data) <= _BLOCK:
            body = {"path": path, "contents": base64.b64encode(data).decode(), "overwrite": True}
            self._api.call("POST", "/api/2.0/dbfs/put", body=body)
            return
        for _ in range(_STREAMS):
            self._stream(path, data)
            if self._api.call("GET", "/api/2.0/dbfs/get-status", query={"path": path})["file_size"] == len(data):
                return
        raise LaunchError(
            "an uploaded file is incomplete", where=path, fix="check the network, then launch again", transient=True
        )

    def _stream(self, path: str, data: bytes) -> None:
        """Send a large file; a block whose answer was lost is sent twice, which the caller sees by the file's size."""
        handle = self._api.call("POST", "/api/2.0/dbfs/create", body={"path": path, "overwrite": True})["handle"]
        for start in range(0, len(data), _BLOCK):
            block = base64.b64encode(data[start : start + _BLOCK]).decode()
            self._api.call("POST", "/api/2.0/dbfs/add-block", body={"handle": handle, "data": block})
        self._api.call("POST", "/api/2.0/dbfs/close", body={"handle": handle})

    def _get(self, path: str) -> bytes:
        content = b""
        while True:
            query = {"path": self._path(path), "offset": len(content), "length": _BLOCK}
            answer = self._api.call("GET", "/api/2.0/dbfs/read", query=query)
            content += base64.b64decode(answer.get("data") or "")
            if int(answer.get("bytes_read") or 0) < _BLOCK:
                return content


class VolumeStaging(Staging):
    """A folder of a Unity Catalog volume, `/Volumes/<catalog>/<schema>/<volume>[/...]`."""

    _UNUSABLE = "the volume can't be used"
    _FIX = (
        "create it and grant the launching identity READ VOLUME and WRITE VOLUME, or correct `staging_path` in the "
        "profile; in a workspace without Unity Catalog set `staging: dbfs` and `staging_path: dbfs:/...`"
    )

    def on_cluster(self, name: str) -> str:
        """See `Staging`."""
        return f"{self.root}/{name}"

    def names(self, folder: str) -> list[str]:
        """See `Staging`."""
        return [str(entry["name"]) for entry in self._entries(f"{self.root}/{folder}".rstrip("/"))]

    def remove(self, name: str) -> None:
        """See `Staging`. The Files API removes only empty folders, so it takes a call for each file."""
        self._remove_folder(f"{self.root}/{name}")

    def _entries(self, path: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        query: dict[str, str] = {}
        while True:
            try:
                answer = self._api.call("GET", _directories(path), query=query)
            except NotFound:
                return entries
            entries += answer.get("contents", [])
            if not answer.get("next_page_token"):
                return entries
            query = {"page_token": answer["next_page_token"]}

    def _remove_folder(self, path: str) -> None:
        def delete(url: str) -> None:
            try:
                self._api.call("DELETE", url)
            except NotFound:
                return

        entries = self._entries(path)
        for entry in entries:
            if entry.get("is_directory"):
                self._remove_folder(f"{path}/{entry['name']}")
        files = [_files(f"{path}/{entry['name']}") for entry in entries if not entry.get("is_directory")]
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(delete, files))
        delete(_directories(path))

    def _head(self, path: str) -> None:
        try:
            self._api.call("HEAD", _files(path))
        except PermissionDenied:
            # An answer to HEAD has no message; for rejected credentials this call raises an error that has one.
            self._api.call("GET", ME)
            raise

    def _put(self, path: str, data: bytes) -> None:
        self._api.call("PUT", _files(path), query={"overwrite": "true"}, data=data)

    def _get(self, path: str) -> bytes:
        return self._api.download(_files(path))


def staging_of(api: Api, kind: StagingKind, path: str, *, script_folder: str = "") -> Staging:
    """Return the staging folder of a kind at a path."""
    return (DbfsStaging if kind == "dbfs" else VolumeStaging)(api, path, script_folder)


def _files(path: str) -> str:
    return f"/api/2.0/fs/files{quote(path)}"


def _directories(path: str) -> str:
    return f"/api/2.0/fs/directories{quote(path)}"
