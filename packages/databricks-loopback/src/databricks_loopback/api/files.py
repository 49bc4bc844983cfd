"""Files API 2.0: files and directories in Unity Catalog volumes, and those of MLflow's runs and models.

What belongs here: its calls with their status codes ("Files", and the docstrings of
`databricks.sdk.service.files.FilesAPI`). What does not: the volumes (`catalog`).

MLflow's client looks for a run's files below `/WorkspaceInternal/Mlflow/Artifacts` and a model version's below
`/Models` (`mlflow.store.artifact.databricks_run_artifact_repo`, `databricks_sdk_models_artifact_repo`).

The experimental multi-part upload of the SDK (`enable_experimental_files_api_client`) is not emulated.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from pathlib import Path

from databricks_loopback.catalog import Catalog
from databricks_loopback.routing import Handler, Route
from databricks_loopback.storage import Storage, milliseconds, normal
from databricks_loopback.wire import ApiError, Reply, Request, invalid, not_emulated

_PAGE = 1_000
_MLFLOW_ROOTS = ("/Models", "/WorkspaceInternal/Mlflow/Artifacts")


class FilesApi:
    """The Files endpoints.

    Args:
        storage: The files.
        catalog: The volumes.
    """

    def __init__(self, storage: Storage, catalog: Catalog) -> None:
        self._storage, self._catalog = storage, catalog

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        file, directory = "/api/2.0/fs/files{path}", "/api/2.0/fs/directories{path}"
        calls = [
            ("PUT", file, self._upload),
            ("GET", file, self._download),
            ("HEAD", file, self._download),
            ("DELETE", file, self._delete),
            ("POST", file, self._initiate_upload),
            ("PUT", directory, self._create_directory),
            ("GET", directory, self._list),
            ("HEAD", directory, self._head_directory),
            ("DELETE", directory, self._delete_directory),
        ]
        return [Route(method, template, self._allowed(handler)) for method, template, handler in calls]

    def _allowed(self, handler: Handler) -> Handler:
        def checked(request: Request, parts: Mapping[str, str]) -> Reply:
            names = normal(parts["path"]).split("/")[1:]
            if names[0] == "Volumes" and names[3:]:
                reads = request.method in ("GET", "HEAD")
                self._catalog.require("READ VOLUME" if reads else "WRITE VOLUME", ".".join(names[1:4]), request.user)
            return handler(request, parts)

        return checked

    def _upload(self, request: Request, parts: Mapping[str, str]) -> Reply:
        path = self._local(parts["path"])
        if path.is_dir():
            raise invalid("The file being created is a directory.")
        if path.exists() and not request.flag("overwrite", default=True):
            raise ApiError(409, "ALREADY_EXISTS", "The file being created already exists.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(request.body)
        return Reply(204)

    def _download(self, request: Request, parts: Mapping[str, str]) -> Reply:
        path = self._file(parts["path"])
        written = path.stat().st_mtime
        headers = {
            "Content-Type": "application/octet-stream",
            "Last-Modified": email.utils.formatdate(written, usegmt=True),
        }
        unmodified_since = request.headers.get("if-unmodified-since")
        if unmodified_since and email.utils.parsedate_to_datetime(unmodified_since).timestamp() < int(written):
            raise ApiError(412, "PRECONDITION_FAILED", "The file has been modified.")
        content = path.read_bytes()
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if requested is None:
            return Reply(200, content, headers)
        first, last = int(requested[1]), int(requested[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
        return Reply(206, content[first : last + 1], headers)

    def _delete(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        self._file(parts["path"]).unlink()
        return Reply(204)

    def _initiate_upload(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        raise not_emulated("multi-part uploads")

    def _create_directory(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        path = self._local(parts["path"])
        if path.is_file():
            raise ApiError(409, "ALREADY_EXISTS", "The directory being created is a file.")
        path.mkdir(parents=True, exist_ok=True)
        return Reply(204)

    def _list(self, request: Request, parts: Mapping[str, str]) -> Reply:
        directory, inside = self._directory(parts["path"]), normal(parts["path"])
        start, size = request.integer("page_token", 0), min(request.integer("page_size", _PAGE) or _PAGE, _PAGE)
        entries = sorted(directory.iterdir())
        contents = [
            {
                "path": f"{inside}/{entry.name}" + ("/" if entry.is_dir() else ""),
                "name": entry.name,
                "is_directory": entry.is_dir(),
                # Folders of an object store have neither.
                **({} if entry.is_dir() else {"file_size": entry.stat().st_size, "last_modified": milliseconds(entry)}),
            }
            for entry in entries[start : start + size]
        ]
        rest = {"next_page_token": str(start + size)} if start + size < len(entries) else {}
        return Reply.of({"contents": contents} | rest)

    def _head_directory(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        self._directory(parts["path"])
        return Reply(200)

    def _delete_directory(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        directory = self._directory(parts["path"])
        if any(directory.iterdir()):
            raise ApiError(400, "FILES_API_DIRECTORY_IS_NOT_EMPTY", "The directory being deleted is not empty.")
        directory.rmdir()
        return Reply(204)

    def _local(self, path: str) -> Path:
        names = normal(path).split("/")[1:]
        if any(normal(path).startswith(f"{root}/") for root in _MLFLOW_ROOTS):
            return self._storage.internal / normal(path).lstrip("/")
        if names[0] != "Volumes" or not names[3:]:
            raise invalid(f"Invalid path: unsupported first path component: {path}")
        self._catalog.volume(".".join(names[1:4]))
        return self._storage.in_volumes(path)

    def _file(self, path: str) -> Path:
        local = self._local(path)
        if not local.is_file():
            raise ApiError(404, "NOT_FOUND", "The file being accessed is not found.")
        return local

    def _directory(self, path: str) -> Path:
        local = self._local(path)
        if not local.is_dir():
            raise ApiError(404, "NOT_FOUND", "The directory being accessed is not found.")
        return local
