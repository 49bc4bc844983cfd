"""Connecting to an experiment in MLflow, with early and clear errors.

What belongs here: valid names of models, reachability, retries, creating the experiment. What does not: where the
values come from (`resources/tracking`), writing (`store`, `runs`), Dagster.
"""

from __future__ import annotations

import logging
import re
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from mlflow import MlflowClient, environment_variables
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError  # what an embedded store raises below MLflow

from mlops_assets.errors import StorageError, TrackingError
from mlops_assets.tracking.error_codes import exists_already
from mlops_assets.tracking.store import Store, without_credentials
from mlops_assets.tracking.throttling import is_transient

_PROBE_SECONDS = 5.0
# Retries of MLflow's client when a server disappears during a run, unless the user's environment sets others: a run
# survives a restart of 15 seconds, after that it fails. With MLflow's defaults each request retries for four minutes
# when the port is closed, and for sixteen when the server hangs.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 4,
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 1,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": 30,
}
_SQLITE = "sqlite:///"
# A model's name: three levels in Unity Catalog (Databricks documentation, "Names"), one in MLflow's own registry.
_THREE_LEVELS = re.compile(r"([^\s./:\x00-\x1f\x7f]{1,255}\.){2}[^\s./:\x00-\x1f\x7f]{1,255}")
_ONE_LEVEL = re.compile(r"[^/:\x00-\x1f\x7f]*[^/:\s\x00-\x1f\x7f][^/:\x00-\x1f\x7f]*")


@dataclass(frozen=True)
class Address:
    """Where an experiment is, and its registry.

    Attributes:
        experiment: Its name; it is created if it does not exist.
        uri: Tracking store or server.
        registry_uri: Registry.
        artifact_root: Folder for the artifacts of an embedded store; None leaves it to the server.
    """

    experiment: str
    uri: str
    registry_uri: str
    artifact_root: str | None = None

    @property
    def is_server(self) -> bool:
        """Whether the store is behind HTTP."""
        return urlsplit(self.uri).scheme in ("http", "https")


def connect(address: Address) -> Store:
    """Return the experiment; create it if it does not exist.

    Raises:
        TrackingError: The store can't be reached, or rejects a request.
        StorageError: The folder of an embedded store is not writable.
    """
    # Otherwise MLflow prints a progress bar per artifact into the run's log.
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    # Otherwise MLflow makes a second request at the end of each run, only to print an address.
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    _require_reachable(address)
    if address.is_server:
        for name, value in _PATIENCE.items():
            variable = getattr(environment_variables, name)
            if not variable.defined:
                variable.set(value)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.models.model", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a new store logs about fifty migration lines
    try:
        with _creating(address.uri):
            client = MlflowClient(address.uri, address.registry_uri)
            experiment_id = _experiment(client, address)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"the MLflow store rejected a request: {without_credentials(str(error))}",
            where=without_credentials(address.uri),
            fix=_fix(address.uri),
            transient=is_transient(error),
        ) from None
    return Store(client, experiment_id, address.uri, address.registry_uri)


def require_model_name(name: str, registry_uri: str) -> None:
    """Reject an invalid name before the search runs, because the registry would reject it only afterwards.

    Raises:
        TrackingError: The registry does not accept the name.
    """
    in_unity = registry_uri.startswith("databricks-uc")
    if (_THREE_LEVELS if in_unity else _ONE_LEVEL).fullmatch(name):
        return
    expected = "catalog.schema.model" if in_unity else "one name without / and :"
    raise TrackingError(
        f"{name!r} is not a valid model name: the registry expects {expected}",
        where=f"registry {registry_uri}" if registry_uri.startswith("databricks") else "resource `tracking`",
        fix="correct MLOPS_MODEL_NAME, and on Databricks MLOPS_DATABRICKS_CATALOG and MLOPS_DATABRICKS_SCHEMA",
    )


def _experiment(client: MlflowClient, address: Address) -> str:
    experiment = client.get_experiment_by_name(address.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(address.experiment, artifact_location=address.artifact_root))
    except MlflowException as error:
        if not exists_already(error):
            raise
        created = client.get_experiment_by_name(address.experiment)  # a concurrent run created it first
        if created is None:
            raise
        return str(created.experiment_id)


def _require_reachable(address: Address) -> None:
    """Probe once, with a short timeout; MLflow's own client would retry silently for minutes."""
    if address.is_server:
        try:
            answer = requests.get(f"{address.uri.rstrip('/')}/health", timeout=_PROBE_SECONDS)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise TrackingError(
                f"the MLflow server does not answer ({type(error).__name__})",
                where=without_credentials(address.uri),
                fix="start it, or correct MLOPS_TRACKING_URI",
                transient=is_transient(error),
            ) from None
    elif address.uri.startswith(_SQLITE):
        _require_not_lost(Path(address.uri.removeprefix(_SQLITE)), address.artifact_root)
        _require_writable(Path(address.uri.removeprefix(_SQLITE)).parent)
    if address.artifact_root is not None:
        _require_writable(Path(address.artifact_root))


def _require_not_lost(database: Path, artifact_root: str | None) -> None:
    """Refuse to begin a new store beside the artifacts of one that is gone.

    In a new, empty store no version would be registered, so upkeep would delete the tables' versions that the lost
    models need.
    """
    if artifact_root is None or (database.is_file() and database.stat().st_size > 0):
        return
    left = next((entry for entry in Path(artifact_root).rglob("*") if entry.is_file()), None)
    if left is not None:
        raise StorageError(
            f"the MLflow store is gone, and artifacts of its runs are still there, such as {left.name}",
            where=str(database),
            fix=f"restore the file from a backup; if its models may go, remove or rename {artifact_root}",
        )


def _require_writable(folder: Path) -> None:
    """Check that the folder is writable before the search runs, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError.not_writable(folder, error) from None


def _fix(uri: str) -> str:
    if uri.startswith("databricks"):
        return (
            "check MLOPS_DATABRICKS_TRACKING_URI; let the identity that runs the cluster create and edit the "
            "experiment (MLOPS_EXPERIMENT, a path in the workspace)"
        )
    return "check MLOPS_TRACKING_URI and the server's own log"


def _creating(uri: str) -> AbstractContextManager[object]:
    """Let one process at a time open an embedded store: two that create its tables at once would corrupt them."""
    return FileLock(f"{uri.removeprefix(_SQLITE)}.lock") if uri.startswith(_SQLITE) else nullcontext()
