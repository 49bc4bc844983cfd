"""Volumes of Unity Catalog as a file system of fsspec that lists, for a process that has them not mounted.

What belongs here: entries of folders and files, by the Files API. What does not: reading files, which happens where
volumes are mounted; which of them are new (`automation.landing`).
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.errors.base import DatabricksError
from fsspec import AbstractFileSystem

from mlops_assets.errors import UnreachableError


class Volumes(AbstractFileSystem):
    """Lists volumes; locations are their paths on a cluster, `/Volumes/<catalog>/<schema>/<volume>/...`.

    Args:
        client: Connects to the workspace; called when something is first looked at, until it succeeds.
    """

    protocol = "volumes"
    cachable = False

    def __init__(self, client: Callable[[], WorkspaceClient]) -> None:
        super().__init__(use_listings_cache=False)
        self._connect = client
        self._files: Any = None

    def unstrip_protocol(self, name: str) -> str:
        """Return the path: a cluster knows volumes by it."""
        return name

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return the entry of a folder or file.

        Raises:
            FileNotFoundError: There is none.
            UnreachableError: The workspace denies access, or does not answer.
        """
        path = path.rstrip("/")
        try:
            self._asked(path, lambda files: files.get_directory_metadata(path))
        except FileNotFoundError:
            found = self._asked(path, lambda files: files.get_metadata(path))
            at = found.last_modified and parsedate_to_datetime(found.last_modified).timestamp()
            return {"name": path, "type": "file", "size": found.content_length, "mtime": at}
        return {"name": path, "type": "directory", "size": 0}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return the entries of a folder; errors as in `info`."""
        listed = self._asked(path, lambda files: list(files.list_directory_contents(path.rstrip("/"))))
        entries = [
            {
                "name": str(entry.path).rstrip("/"),
                "type": "directory" if entry.is_directory else "file",
                "size": entry.file_size or 0,
                "mtime": None if entry.last_modified is None else entry.last_modified / 1000,
            }
            for entry in listed
        ]
        return entries if detail else [entry["name"] for entry in entries]

    def _asked(self, path: str, call: Callable[[Any], Any]) -> Any:
        try:
            if self._files is None:
                self._files = self._connect().files
            return call(self._files)
        except NotFound:
            raise FileNotFoundError(path) from None
        except (DatabricksError, requests.RequestException, TimeoutError, ValueError) as error:
            # fsspec leaves folders out that raise an OSError, so this must not be one.
            volume = ".".join(path.split("/")[2:5])
            raise UnreachableError(
                f"the volume can't be listed: {type(error).__name__}: {str(error).partition('. Config: ')[0]}",
                where=path,
                fix=f"grant the launching identity READ VOLUME on {volume} and USE SCHEMA on its schema, or correct "
                "MLOPS_SOURCE or MLOPS_LABELS",
            ) from None
