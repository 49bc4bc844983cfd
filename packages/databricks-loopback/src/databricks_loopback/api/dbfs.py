"""DBFS API 2.0.

What belongs here: its ten calls with the limits and error codes of the reference ("DBFS", and the docstrings of
`databricks.sdk.service.files.DbfsAPI`, generated from it). What does not: local paths (`storage`).

A streamed upload creates the file when it is closed. The platform's idle limit of 10 minutes for a stream is not
enforced.
"""

from __future__ import annotations

import base64
import binascii
import email.parser
import email.policy
import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from databricks.sdk.service.files import DbfsAPI

from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.storage import Storage, milliseconds, normal, remove
from databricks_loopback.wire import ApiError, Reply, Request, exists, invalid, malformed, missing

BLOCK = 1024 * 1024
_DEFAULT_READ = BLOCK // 2


class DbfsApi:
    """The DBFS endpoints.

    Args:
        storage: The files.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._streams: dict[int, tuple[Path, bytearray]] = {}
        self._handles = itertools.count(7_000_000_000_000_001)
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/2.0/dbfs"
        return [
            Route("POST", f"{base}/create", self._create),
            Route("POST", f"{base}/add-block", self._add_block),
            Route("POST", f"{base}/close", self._close),
            Route("POST", f"{base}/put", self._put),
            Route("POST", f"{base}/mkdirs", self._mkdirs),
            Route("POST", f"{base}/delete", self._delete),
            Route("POST", f"{base}/move", self._move),
            Route("GET", f"{base}/read", self._read),
            Route("GET", f"{base}/get-status", self._get_status),
            Route("GET", f"{base}/list", self._list),
        ]

    def _create(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.create)
        target = self._writable(document["path"], overwrite=bool(document.get("overwrite")))
        with self._lock:
            handle = next(self._handles)
            self._streams[handle] = (target, bytearray())
        return Reply.of({"handle": handle})

    def _add_block(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.add_block)
        block = _decoded(document, "data")
        with self._lock:
            _target, content = self._stream(document["handle"])
            content += block
        return Reply.of({})

    def _close(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.close)
        with self._lock:
            target, content = self._stream(document["handle"])
            del self._streams[int(document["handle"])]
        _write(target, bytes(content))
        return Reply.of({})

    def _put(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            form = multipart(request)
            path, overwrite = form.get("path", b"").decode(), form.get("overwrite", b"") == b"true"
            content = form.get("contents", b"")
        else:
            document = request.document()
            check_call(document, DbfsAPI.put)
            path, overwrite = document["path"], bool(document.get("overwrite"))
            content = _decoded(document, "contents")
        _write(self._writable(path, overwrite=overwrite), content)
        return Reply.of({})

    def _mkdirs(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.mkdirs)
        _make_folder(self._local(document["path"]), document["path"])
        return Reply.of({})

    def _delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.delete)
        path = self._local(document["path"])
        if path == self._storage.dbfs:
            raise invalid("Cannot delete root directory")
        if path.is_dir() and any(path.iterdir()) and not document.get("recursive"):
            raise ApiError(400, "IO_ERROR", f"Non-recursive delete of non-empty directory {document['path']}")
        if path.exists():  # deleting a missing file is not an error
            remove(path)
        return Reply.of({})

    def _move(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, DbfsAPI.move)
        source, target = self._existing(document["source_path"]), self._local(document["destination_path"])
        if target.is_dir():
            target /= source.name
        if target.exists():
            raise exists(f"A file or directory already exists at the input path {document['destination_path']}.")
        _make_folder(target.parent, document["destination_path"])
        source.rename(target)
        return Reply.of({})

    def _read(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        path = self._existing(request.required("path"))
        offset, length = request.integer("offset", 0), request.integer("length", _DEFAULT_READ)
        if path.is_dir():
            raise invalid(f"Can't read directory {request.query['path']}")
        if offset < 0 or length < 0:
            raise invalid("The offset and length must not be negative")
        if length > BLOCK:
            message = f"Requested read length {length} exceeds maximum allowed read length {BLOCK}"
            raise ApiError(400, "MAX_READ_SIZE_EXCEEDED", message)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        return Reply.of({"bytes_read": len(data), "data": base64.b64encode(data).decode()})

    def _get_status(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._info(self._existing(request.required("path"))))

    def _list(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        path = self._existing(request.required("path"))
        entries = sorted(path.iterdir()) if path.is_dir() else [path]
        return Reply.of({"files": [self._info(entry) for entry in entries]} if entries else {})

    def _info(self, path: Path) -> dict[str, Any]:
        inner = path.relative_to(self._storage.dbfs).as_posix()
        return {
            "path": "/" if inner == "." else f"/{inner}",
            "is_dir": path.is_dir(),
            "file_size": 0 if path.is_dir() else path.stat().st_size,
            "modification_time": milliseconds(path),
        }

    def _local(self, path: str) -> Path:
        if f"{normal(path.removeprefix('dbfs:'))}/".startswith("/Volumes/"):
            raise ApiError(403, "PERMISSION_DENIED", "No operations allowed on this path.")
        return self._storage.in_dbfs(path)

    def _existing(self, path: str) -> Path:
        local = self._local(path)
        if not local.exists():
            raise missing(f"No file or directory exists on path {path}.")
        return local

    def _writable(self, path: str, *, overwrite: bool) -> Path:
        local = self._local(path)
        if local.is_dir() or (local.exists() and not overwrite):
            raise exists(f"A file or directory already exists at the input path {path}.")
        _make_folder(local.parent, path)
        return local

    def _stream(self, handle: int | str) -> tuple[Path, bytearray]:
        if int(handle) not in self._streams:
            raise missing(f"No open stream with handle {handle}.")
        return self._streams[int(handle)]


def multipart(request: Request) -> dict[str, bytes]:
    """Return the fields of a multipart/form-data request."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    form: dict[str, bytes] = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        form[str(name)] = content if isinstance(content, bytes) else b""
    return form


def _decoded(document: Mapping[str, Any], name: str) -> bytes:
    try:
        data = base64.b64decode(document.get(name) or "", validate=True)
    except binascii.Error:
        raise malformed(f"Expected base64 for field {name}") from None
    if len(data) > BLOCK:
        raise ApiError(
            400,
            "MAX_BLOCK_SIZE_EXCEEDED",
            f"The '{name}' data cannot exceed {BLOCK} bytes. Found: {len(data)} bytes. "
            "You might want to use streaming upload instead.",
        )
    return data


def _make_folder(folder: Path, path: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise exists(f"A file already exists at a prefix of the input path {path}.") from None


def _write(target: Path, content: bytes) -> None:
    # Atomic, as on the platform: a reader sees the old file or the new one, never a part of it.
    draft = target.with_name(f".{target.name}.{threading.get_ident()}.draft")
    draft.write_bytes(content)
    draft.replace(target)
