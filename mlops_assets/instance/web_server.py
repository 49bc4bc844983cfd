"""Dagster's web UI and daemon on this machine.

What belongs here: how they are started. What does not: the instance that they show (`home`).
"""

from __future__ import annotations

import os
import sys
from importlib import resources, util
from typing import TYPE_CHECKING, Final, NoReturn

from mlops_assets.errors import SettingsError
from mlops_assets.instance.home import prepare_for

if TYPE_CHECKING:
    from mlops_assets.settings import Deployment

_LOOPBACK: Final = "127.0.0.1"  # anyone who can reach the UI can start runs; it has no login


def serve_ui(deployment: Deployment, port: int) -> NoReturn:
    """Replace this process by `dagster dev`, on the loopback address, with the embedded instance.

    Args:
        deployment: That of this process's environment, from which the code location is loaded.
        port: The port.

    Raises:
        SettingsError: The web server is not installed.
        StorageError: The instance's folder can't be written.
    """
    if util.find_spec("dagster_webserver") is None:
        fix = "install the `ui` extra: pip install 'mlops_assets[ui]'"
        raise SettingsError("Dagster's web server is not installed", where=sys.executable, fix=fix)
    home = prepare_for(deployment)
    workspace = resources.files("mlops_assets.instance") / "workspace.yaml"
    served = ["dev", "-w", str(workspace), "-h", _LOOPBACK, "-p", str(port)]
    # `env` sets the variable for the new program without changing this process's environment.
    os.execvp("env", ["env", f"DAGSTER_HOME={home}", sys.executable, "-m", "dagster", *served])  # noqa: S606, S607 - `env` is POSIX, and no shell is needed
