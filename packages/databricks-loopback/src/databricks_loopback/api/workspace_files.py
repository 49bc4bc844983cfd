"""Workspace API 2.0: folders, files and notebooks of the workspace.

What belongs here: its calls with their error codes (reference: "Workspace",
`databricks.sdk.service.workspace.WorkspaceAPI`). What does not: local paths (`storage`).

Both forms of a path are accepted, `/Users/...` and `/Workspace/Users/...`; answers use the first, as on the platform.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from databricks.sdk.service.workspace import WorkspaceAPI

from databricks_loopback.api.dbfs import multipart
from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.storage import Storage, milliseconds, remove, short
from databricks_loopback.wire import (
    ApiError,
    Reply,
    Request,
    exists,
    malformed,
    missing,
    not_emulated,
)

_LARGEST = 10 * 1024 * 1024
_NOTEBOOK_HEAD = b"# Databricks notebook source"


class WorkspaceFilesApi:
    """The Workspace endpoints.

    Args:
        storage: The files.
        user: The user with a home folder.
    """

    def __init__(self, storage: Storage, user: str) -> None:
        self._storage = storage
        self._notebooks: dict[Path, str] = {}
        self._ids: dict[Path, int] = {}
        self._next_id = itertools.count(4_000_000_000_000_001)
        self._lock = threading.Lock()
        for folder in ("/Shared", f"/Users/{user}"):
            storage.in_files(folder).mkdir(parents=True, exist_ok=True)

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/2.0/workspace"
        return [
            Route("POST", f"{base}/import", self._import),
            Route("POST", f"{base}/mkdirs", self._mkdirs),
            Route("POST", f"{base}/delete", self._delete),
            Route("GET", f"{base}/get-status", self._get_status),
            Route("GET", f"{base}/list", self._list),
            Route("GET", f"{base}/export", self._export),
        ]

    def _import(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document, content = _uploaded(request)
        if len(content) > _LARGEST:
            message = f"File size imported is ({len(content)} bytes), exceeded max size ({_LARGEST} bytes)"
            raise ApiError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", message)
        kind = document.get("format") or "SOURCE"
        if kind not in ("SOURCE", "AUTO", "RAW"):
            raise not_emulated(f"imports of format {kind}")
        is_notebook = kind == "SOURCE" or (kind == "AUTO" and content.startswith(_NOTEBOOK_HEAD))
        path = self._storage.in_files(document["path"])
        if kind == "AUTO" and is_notebook:
            path = path.with_suffix("")  # a notebook's name has no extension
        if not path.parent.is_dir():
            raise missing(f"The parent folder ({short(document['path']).rpartition('/')[0]}) does not exist.")
        if path.is_dir() or (path.exists() and not document.get("overwrite")):
            raise exists(f"Path ({short(document['path'])}) already exists.")
        path.write_bytes(content)
        with self._lock:
            self._notebooks.pop(path, None)
            if is_notebook:
                self._notebooks[path] = document.get("language") or "PYTHON"
        return Reply.of({})

    def _mkdirs(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, WorkspaceAPI.mkdirs)
        try:
            self._storage.in_files(document["path"]).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise exists(f"Path ({short(document['path'])}) or a prefix of it is a file.") from None
        return Reply.of({})

    def _delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, WorkspaceAPI.delete)
        path = self._existing(document["path"])
        if path.is_dir() and any(path.iterdir()) and not document.get("recursive"):
            raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({short(document['path'])}) is not empty")
        remove(path)
        return Reply.of({})

    def _get_status(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._info(self._existing(request.required("path"))))

    def _list(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        path = self._existing(request.required("path"))
        entries = sorted(path.iterdir()) if path.is_dir() else [path]
        return Reply.of({"objects": [self._info(entry) for entry in entries]} if entries else {})

    def _export(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        path = self._existing(request.required("path"))
        if path.is_dir():
            raise not_emulated("exports of folders")
        content = path.read_bytes()
        if request.flag("direct_download"):
            return Reply(200, content, {"Content-Type": "application/octet-stream"})
        return Reply.of({"content": base64.b64encode(content).decode(), "file_type": path.suffix.lstrip(".") or "py"})

    def _existing(self, path: str) -> Path:
        local = self._storage.in_files(path)
        if not local.exists():
            raise missing(f"Path ({short(path)}) doesn't exist.")
        return local

    def _info(self, path: Path) -> dict[str, Any]:
        with self._lock:
            object_id = self._ids.setdefault(path, next(self._next_id))
            language = self._notebooks.get(path)
        inner = path.relative_to(self._storage.files).as_posix()
        kind = "DIRECTORY" if path.is_dir() else "NOTEBOOK" if language else "FILE"
        info: dict[str, Any] = {
            "object_type": kind,
            "path": "/" if inner == "." else f"/{inner}",
            "object_id": object_id,
            "resource_id": str(object_id),
        }
        if kind != "DIRECTORY":
            info |= {"created_at": milliseconds(path), "modified_at": milliseconds(path)}
        if kind == "FILE":
            info["size"] = path.stat().st_size
        if language:
            info["language"] = language
        return info


def _uploaded(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return the fields of an import and its content, from JSON or from a form (the SDK's `upload`)."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = multipart(request)
        content = form.pop("content", b"")
        document: dict[str, Any] = {name: value.decode() for name, value in form.items()}
        document["overwrite"] = document.get("overwrite") == "true"
        check_call(document, WorkspaceAPI.import_)
        return document, content
    document = request.document()
    check_call(document, WorkspaceAPI.import_)
    try:
        return document, base64.b64decode(document.get("content") or "", validate=True)
    except binascii.Error:
        raise malformed("Expected base64 for field content") from None
