"""`dbutils` of a driver: secrets and file system.

What belongs here: the parts of Databricks Utilities that jobs use. What does not: notebooks' own, the REST API.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class SecretMetadata(NamedTuple):
    """A secret's name, as `dbutils.secrets.list` returns it."""

    key: str


class SecretScope(NamedTuple):
    """A scope's name, as `dbutils.secrets.listScopes` returns it."""

    name: str


class FileInfo(NamedTuple):
    """A file, as `dbutils.fs.ls` returns it; the time is in ms since the epoch."""

    path: str
    name: str
    size: int
    modificationTime: int  # noqa: N815 - the platform's name


class ExecutionError(Exception):
    """Raised by Databricks when a utility fails."""


class SecretUtils:
    """`dbutils.secrets`: the values at the time when the task started.

    Args:
        scopes: Base64 values by scope and key.
    """

    def __init__(self, scopes: Mapping[str, Mapping[str, str]]) -> None:
        self._scopes = scopes

    def get(self, scope: str, key: str) -> str:
        """Return a secret as text."""
        return self.getBytes(scope, key).decode()

    def getBytes(self, scope: str, key: str) -> bytes:  # noqa: N802 - the platform's name
        """Return a secret as bytes."""
        if key not in self._scopes.get(scope, {}):
            raise ExecutionError(
                f"java.lang.IllegalArgumentException: Secret does not exist with scope: {scope} and key: {key}"
            )
        return base64.b64decode(self._scopes[scope][key])

    def listScopes(self) -> list[SecretScope]:  # noqa: N802 - the platform's name
        """Return all scopes."""
        return [SecretScope(name) for name in sorted(self._scopes)]

    def list(self, scope: str) -> list[SecretMetadata]:
        """Return the keys of a scope."""
        return [SecretMetadata(key) for key in sorted(self._scopes.get(scope, {}))]


class FileUtils:
    """`dbutils.fs` on the mounted trees; a path without a scheme is in DBFS."""

    def ls(self, path: str) -> list[FileInfo]:
        """Return the entries of a folder."""
        folder = self._local(path)
        if not folder.exists():
            raise ExecutionError(f"java.io.FileNotFoundException: No such file or directory {path}")
        entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        return [self._info(path, entry, is_inside=folder.is_dir()) for entry in entries]

    def mkdirs(self, path: str) -> bool:
        """Create a folder and its parents."""
        self._local(path).mkdir(parents=True, exist_ok=True)
        return True

    def put(self, path: str, contents: str, overwrite: bool = False) -> bool:
        """Write a text file."""
        target = self._local(path)
        if target.exists() and not overwrite:
            raise ExecutionError(f"java.io.IOException: {path} already exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(contents, "utf-8")
        return True

    def head(self, path: str, max_bytes: int = 65_536) -> str:
        """Return the beginning of a file."""
        with self._local(path).open("rb") as file:
            return file.read(max_bytes).decode("utf-8", "replace")

    def cp(self, source: str, target: str, recurse: bool = False) -> bool:
        """Copy a file, or a folder with `recurse`."""
        start, end = self._local(source), self._local(target)
        end.parent.mkdir(parents=True, exist_ok=True)
        if start.is_dir() and not recurse:
            raise ExecutionError(f"java.io.IOException: {source} is a directory, use recurse")
        if start.is_dir():
            shutil.copytree(start, end, dirs_exist_ok=True)
        else:
            shutil.copyfile(start, end)
        return True

    def mv(self, source: str, target: str, recurse: bool = False) -> bool:
        """Move a file, or a folder with `recurse`."""
        self.cp(source, target, recurse)
        return self.rm(source, recurse)

    def rm(self, path: str, recurse: bool = False) -> bool:
        """Remove a file, or a folder with `recurse`; False if there is none."""
        target = self._local(path)
        if not target.exists():
            return False
        if not target.is_dir():
            target.unlink()
        elif recurse:
            shutil.rmtree(target)
        else:
            target.rmdir()
        return True

    @staticmethod
    def _local(path: str) -> Path:
        if path.startswith("file:"):
            return Path("/" + path.removeprefix("file:").lstrip("/"))
        inner = "/" + path.removeprefix("dbfs:").lstrip("/")
        return Path(inner if inner.startswith(("/Volumes/", "/Workspace/")) else f"/dbfs{inner}")

    @staticmethod
    def _info(path: str, entry: Path, *, is_inside: bool) -> FileInfo:
        name = entry.name + ("/" if entry.is_dir() else "")
        shown = path if path.startswith(("dbfs:", "file:")) else f"dbfs:{path}"
        stat = entry.stat()
        full = f"{shown.rstrip('/')}/{name}" if is_inside else shown
        return FileInfo(full, name, 0 if entry.is_dir() else stat.st_size, stat.st_mtime_ns // 1_000_000)


class WidgetUtils:
    """`dbutils.widgets`: the parameters of a notebook's task.

    Args:
        values: Text by name.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def get(self, name: str) -> str:
        """Return a parameter."""
        if name not in self._values:
            raise ExecutionError(
                f"com.databricks.dbutils_v1.InputWidgetNotDefined: No input widget named {name} is defined"
            )
        return self._values[name]

    def getAll(self) -> dict[str, str]:  # noqa: N802 - the platform's name
        """Return all parameters."""
        return dict(self._values)


class DBUtils:
    """The global `dbutils`.

    Args:
        secrets: Base64 values by scope and key.
        widgets: Parameters of a notebook's task; none for other tasks.
    """

    def __init__(self, secrets: Mapping[str, Mapping[str, str]], widgets: Mapping[str, str]) -> None:
        self.secrets = SecretUtils(secrets)
        self.fs = FileUtils()
        self.widgets = WidgetUtils(widgets)
