"""Files of a cluster in the workspace's storage: init scripts and delivered logs, by their paths.

What belongs here: which paths there can be, and their objects in the Clusters API (`InitScriptInfo`, `ClusterLogConf`).
What does not: the cluster (`cluster`), staging (`launch.staging`).
"""

from __future__ import annotations

import re
from typing import Final

_VOLUME: Final = re.compile(r"/Volumes(/[^/\s:]+){4,}")
_WORKSPACE: Final = re.compile(r"/(Workspace|Users|Shared)(/[^/]+)+")
_LOGS: Final = re.compile(r"/Volumes(/[^/\s:]+){3,}|dbfs:(/[^/\s:]+)+")


def check_init_script(path: str) -> None:
    """Check the path of an init script; those in DBFS no longer run anywhere, and cloud storage needs its own rights.

    Raises:
        ValueError: It is neither a workspace file nor one in a volume.
    """
    if not (_VOLUME.fullmatch(path) or _WORKSPACE.fullmatch(path)):
        raise ValueError(f"{path}: use /Volumes/<catalog>/<schema>/<volume>/<file> or /Workspace/<file>")


def check_log_destination(path: str) -> None:
    """Check the folder that logs of the driver and workers are delivered to.

    Raises:
        ValueError: It is neither in a volume nor in DBFS.
    """
    if not _LOGS.fullmatch(path):
        raise ValueError(f"{path}: use /Volumes/<catalog>/<schema>/<volume>[/...] or dbfs:/<folder>")


def init_script(path: str) -> dict[str, dict[str, str]]:
    """Return an element of `init_scripts`."""
    kind = "volumes" if path.startswith("/Volumes/") else "workspace"
    return {kind: {"destination": path.removeprefix("/Workspace") if kind == "workspace" else path}}


def log_conf(path: str) -> dict[str, dict[str, str]]:
    """Return `cluster_log_conf`."""
    return {"dbfs" if path.startswith("dbfs:") else "volumes": {"destination": path}}
