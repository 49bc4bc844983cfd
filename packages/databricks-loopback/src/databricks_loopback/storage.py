"""The workspace's files on the local disk: DBFS root, volumes, workspace files, and files of MLflow.

What belongs here: the folders, and converting a path of the platform to a local one. What does not: their REST APIs
(`api.dbfs`, `api.files`, `api.workspace_files`).
"""

from __future__ import annotations

import posixpath
import shutil
from pathlib import Path

from databricks_loopback.wire import invalid


class Storage:
    """Four trees, each in its own folder; a cluster mounts the first three.

    Args:
        folder: Parent of the trees.

    Attributes:
        dbfs: DBFS root, `/dbfs` on a cluster and `dbfs:/` for Spark.
        volumes: Unity Catalog volumes, `/Volumes`.
        files: Workspace files, `/Workspace`.
        internal: Files of models and of MLflow's runs, which only the Files API can access.
    """

    def __init__(self, folder: Path) -> None:
        self.dbfs, self.volumes, self.files = folder / "dbfs", folder / "volumes", folder / "workspace-files"
        self.internal = folder / "internal"
        for tree in (self.dbfs, self.volumes, self.files, self.internal):
            tree.mkdir(parents=True, exist_ok=True)

    def in_dbfs(self, path: str) -> Path:
        """Return the local path of a DBFS path (`/a/b` or `dbfs:/a/b`).

        Raises:
            ApiError: INVALID_PARAMETER_VALUE: the path is not absolute.
        """
        return self.dbfs / normal(path.removeprefix("dbfs:")).lstrip("/")

    def in_volumes(self, path: str) -> Path:
        """Return the local path of `/Volumes/<catalog>/<schema>/<volume>/...`."""
        return self.volumes / normal(path).removeprefix("/Volumes").lstrip("/")

    def in_files(self, path: str) -> Path:
        """Return the local path of a workspace file (`/Users/...` or `/Workspace/Users/...`)."""
        return self.files / short(path).lstrip("/")

    def locate(self, uri: str) -> Path:
        """Return the local path of a file in a job: `dbfs:/...`, `/Volumes/...`, or a workspace file.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE: another scheme, or a relative path.
        """
        path = self.on_cluster(uri)
        for mount, tree in self.mounts.items():
            if path.startswith(f"{mount}/"):
                return tree / path.removeprefix(f"{mount}/")
        raise invalid(f"No storage for {uri}")

    def on_cluster(self, uri: str) -> str:
        """Return the path on a cluster of a file in a job, as in `locate`."""
        if uri.startswith("dbfs:"):
            inner = normal(uri.removeprefix("dbfs:"))
            return inner if inner.startswith("/Volumes/") else f"/dbfs{inner}"
        if ":" in uri.split("/", 1)[0]:
            raise invalid(f"Only dbfs:/, /Volumes and workspace paths are supported here, not {uri}")
        return normal(uri) if normal(uri).startswith("/Volumes/") else f"/Workspace{short(uri)}"

    @property
    def mounts(self) -> dict[str, Path]:
        """The trees by their mount point on a cluster."""
        return {"/dbfs": self.dbfs, "/Volumes": self.volumes, "/Workspace": self.files}


def normal(path: str) -> str:
    """Return an absolute platform path without `.`, `..`, doubled or trailing slashes.

    Raises:
        ApiError: INVALID_PARAMETER_VALUE: the path is not absolute.
    """
    if not path.startswith("/") or "\0" in path:
        raise invalid(f"Path must be absolute: {path}")
    return posixpath.normpath(f"/{path.lstrip('/')}")


def short(path: str) -> str:
    """Return a workspace path without its `/Workspace` prefix; the API accepts both forms."""
    inner = normal(path)
    if inner == "/Workspace":
        return "/"
    return inner.removeprefix("/Workspace") if inner.startswith("/Workspace/") else inner


def milliseconds(path: Path) -> int:
    """Return the modification time of a file, in ms since the epoch."""
    return path.stat().st_mtime_ns // 1_000_000


def remove(path: Path) -> None:
    """Remove a file or a whole folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
