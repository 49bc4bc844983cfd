"""Dagster's web UI and daemon on this machine, with MLflow's UI beside them.

What belongs here: how they are started. What does not: the instance that they show (`home`), MLflow's server
(`mlflow_ui`), the guard in front of them (`guard`).
"""

from __future__ import annotations

import os
import sys
from importlib import resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import dagster as dg

from mlops_assets.errors import SettingsError, StorageError
from mlops_assets.instance.home import prepare_for
from mlops_assets.instance.mlflow_ui import LOOPBACK, address_to_serve, is_free, start_beside
from mlops_assets.instance.run_launcher import fail_dead_runs

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment

_GUARDED: Final = "mlops_assets.instance.guarded_dagster"


def serve_ui(deployment: Deployment, port: int, *, module: str | None = None, path: Path | None = None) -> NoReturn:
    """Replace this process by `dagster dev`, on the loopback address, with the embedded instance.

    Dagster's web server stands behind a guard (`guard`). MLflow's UI is served beside it if the store is embedded, and
    ends with it.

    Args:
        deployment: That of this process's environment, from which the code location is loaded.
        port: The port.
        module: The code location, if it is not the platform's own: a module with `defs`.
        path: Folder that the module is imported from; None where it is installed.

    Raises:
        SettingsError: The web server is not installed, or the port is taken.
        StorageError: The instance's folder can't be written.
    """
    if util.find_spec("dagster_webserver") is None:
        fix = "install the `ui` extra: pip install 'mlops_assets[ui]'"
        raise SettingsError("Dagster's web server is not installed", where=sys.executable, fix=fix)
    if not is_free(port):  # `dagster dev` would start everything first, and stay
        raise SettingsError(
            f"port {port} is taken",
            where=f"{LOOPBACK}:{port}",
            fix="end what serves there, or choose another: --port N, PORT=N",
        )
    home = prepare_for(deployment)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        fail_dead_runs(instance)
    code = ["-w", str(resources.files("mlops_assets.instance") / "workspace.yaml")]
    if module is not None:
        code = ["-m", module, "-a", "defs", *([] if path is None else ["-d", str(path)])]
    served = ["dev", *code, "-h", LOOPBACK, "-p", str(port)]
    variables = [f"DAGSTER_HOME={home}"]
    if deployment.dagster_url == type(deployment).model_fields["dagster_url"].default:  # links lead to this server
        variables.append(f"MLOPS_DAGSTER_URL=http://{LOOPBACK}:{port}")
    if address := address_to_serve(deployment):
        try:
            start_beside(deployment, address)
        except OSError as error:
            raise StorageError.not_writable(deployment.home / "mlflow", error) from None
        variables.append(f"MLOPS_MLFLOW_UI={address}")
        sys.stdout.write(f"MLflow's UI: {address}\n")
        sys.stdout.flush()
    # `env` sets the variables for the new program without changing this process's environment.
    os.execvp("env", ["env", *variables, sys.executable, "-m", _GUARDED, *served])  # noqa: S606, S607 - `env` is POSIX, and no shell is needed
