"""Experiment tracking and the model registry: MLflow, configured the way dagster-mlflow is.

What belongs here: connecting to a store and failing early when it can't be reached. What does not: what is written
(`tracking/store`, `registry/versions`).

dagster-mlflow supplies the configuration schema only: its resource opens one run when it is built, names it after the
job and leaves it open with parallel assets (dagster #21872, #3970), while we need one run per materialization.
"""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field, PrivateAttr

from mlops_assets.errors import StorageError, TrackingError

if TYPE_CHECKING:
    from mlops_assets.tracking.store import Store

_PROBE_SECONDS = 5.0
# What MLflow's client does when a server goes away in the middle of a run, unless the user's environment says
# otherwise: a restart of a quarter of a minute is survived, then the run fails. By its own defaults each request tries
# for four minutes when the port is closed, and for sixteen when the server hangs.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 4,
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 1,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": 30,
}
_SQLITE = "sqlite:///"
# A model's name: three levels in Unity Catalog (Databricks documentation, "Names"), one in MLflow's own registry.
_THREE_LEVELS = re.compile(r"([^\s./:\x00-\x1f\x7f]{1,255}\.){2}[^\s./:\x00-\x1f\x7f]{1,255}")
_ONE_LEVEL = re.compile(r"[^/:\x00-\x1f\x7f]*[^/:\s\x00-\x1f\x7f][^/:\x00-\x1f\x7f]*")


class Tracking(dg.ConfigurableResource[Any]):
    """An MLflow experiment and registry.

    The fields that dagster-mlflow's `mlflow_tracking` resource has too carry its names and its meaning.

    Attributes:
        experiment_name: MLflow experiment; created when it is not there.
        mlflow_tracking_uri: Store or server.
        mlflow_registry_uri: Registry, where it is not the tracking store (`databricks-uc`).
        extra_tags: Tags put on every parent run.
        artifact_root: Folder for the artifacts of an embedded store; None leaves it to the server.
        registered_model: Name of the model in the registry; `catalog.schema.model` in Unity Catalog.
        dagster_url: Base address of the Dagster UI, for links from MLflow runs.
    """

    experiment_name: str
    mlflow_tracking_uri: str
    mlflow_registry_uri: str = ""
    extra_tags: dict[str, str] = Field(default_factory=dict)
    artifact_root: str | None = None
    registered_model: str
    dagster_url: str = "http://127.0.0.1:3000"

    _store: Any = PrivateAttr(default=None)

    def connect(self) -> Store:
        """Return the experiment, created when it is not there; the first call checks that the store answers.

        Raises:
            TrackingError: The store can't be reached or refuses, or the registry has no such names.
            StorageError: The folder of an embedded store can't be written.
        """
        if self._store is None:
            self._store = self._connect()
        store: Store = self._store
        return store

    def dagster_mlflow_config(self) -> dict[str, Any]:
        """Return the part that dagster-mlflow has too, as its own schema validates and completes it.

        Raises:
            TrackingError: dagster-mlflow would refuse the configuration.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # about a hook that is not used here
            from dagster_mlflow import mlflow_tracking

        validated = dg.ResourceDefinition(
            lambda context: dict(context.resource_config), config_schema=mlflow_tracking.config_schema
        )
        config = {
            "experiment_name": self.experiment_name,
            "mlflow_tracking_uri": self.mlflow_tracking_uri,
            "env": {},
            "extra_tags": self.extra_tags,
        }
        try:
            with dg.build_resources({"mlflow": validated}, resource_config={"mlflow": {"config": config}}) as built:
                return dict(built.mlflow)
        except dg.DagsterInvalidConfigError as error:
            problems = "; ".join(found.message for found in error.errors)
            raise TrackingError(
                problems, where="resource `tracking`", fix="give it what dagster-mlflow's schema asks for"
            ) from None

    def _connect(self) -> Store:
        from mlflow import MlflowClient, environment_variables
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError  # what an embedded store raises below MLflow

        from mlops_assets.tracking.store import Store, without_credentials

        # Else there is a bar per artifact, in the middle of a run's log.
        environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        # Else ending a run costs a second request, only to print an address for each trial.
        environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        config = self.dagster_mlflow_config()
        registry = self.mlflow_registry_uri or self.mlflow_tracking_uri
        self._require_name(registry)
        self._require_reachable()
        if _is_server(self.mlflow_tracking_uri):
            for name, value in _PATIENCE.items():
                variable = getattr(environment_variables, name)
                if not variable.defined:
                    variable.set(value)
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.models.model", "mlflow.tracking.fluent"):
            logging.getLogger(name).setLevel(logging.WARNING)  # a fresh store logs some fifty migration lines
        try:
            with _creating(config["mlflow_tracking_uri"]):
                client = MlflowClient(config["mlflow_tracking_uri"], registry)
                experiment_id = self._experiment(client)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(
                f"the MLflow store refuses: {without_credentials(str(error))}",
                where=without_credentials(self.mlflow_tracking_uri),
                fix=_mend(self.mlflow_tracking_uri),
            ) from None
        return Store(client, experiment_id, self.mlflow_tracking_uri, registry)

    def _experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment_name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(self.experiment_name, artifact_location=self.artifact_root))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(client.get_experiment_by_name(self.experiment_name).experiment_id)  # a parallel run was faster

    def _require_name(self, registry: str) -> None:
        """Refuse a name before the search is paid for: the registry would refuse it after."""
        in_unity = registry.startswith("databricks-uc")
        if (_THREE_LEVELS if in_unity else _ONE_LEVEL).fullmatch(self.registered_model):
            return
        wanted = "catalog.schema.model" if in_unity else "one name without / and :"
        raise TrackingError(
            f"{self.registered_model!r} can't be a model's name: the registry wants {wanted}",
            where=f"registry {registry}" if registry.startswith("databricks") else "resource `tracking`",
            fix="correct MLOPS_MODEL_NAME, and on Databricks MLOPS_DATABRICKS_CATALOG and MLOPS_DATABRICKS_SCHEMA",
        )

    def _require_reachable(self) -> None:
        """Ask once, with a short timeout; MLflow's own client would try for minutes before it says anything."""
        import requests

        from mlops_assets.tracking.store import without_credentials

        uri = self.mlflow_tracking_uri
        if _is_server(uri):
            try:
                answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS)
                answer.raise_for_status()
            except requests.RequestException as error:
                raise TrackingError(
                    f"the MLflow server does not answer ({type(error).__name__})",
                    where=without_credentials(uri),
                    fix="start it, or correct MLOPS_TRACKING_URI",
                ) from None
        elif uri.startswith(_SQLITE):
            _require_writable(Path(uri.removeprefix(_SQLITE)).parent)
        if self.artifact_root is not None:
            _require_writable(Path(self.artifact_root))


def _require_writable(folder: Path) -> None:
    """Write there before the search is paid for, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"folder can't be written: {error.strerror}",
            where=str(folder),
            fix="set MLOPS_HOME to a writable folder",
        ) from None


def _mend(uri: str) -> str:
    if uri.startswith("databricks"):
        return (
            "check MLOPS_DATABRICKS_TRACKING_URI, and that who runs the cluster may create and edit the experiment "
            "(MLOPS_EXPERIMENT, a path in the workspace)"
        )
    return "check MLOPS_TRACKING_URI and the server's own log"


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _creating(uri: str) -> AbstractContextManager[object]:
    """Let one at a time open an embedded store: the first creates its tables, and two who do so spoil them."""
    from filelock import FileLock

    return FileLock(f"{uri.removeprefix(_SQLITE)}.lock") if uri.startswith(_SQLITE) else nullcontext()
