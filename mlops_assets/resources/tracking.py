"""Experiment tracking and the model registry: MLflow, configured the way dagster-mlflow is.

What belongs here: the fields, and their validation by dagster-mlflow. What does not: connecting
(`tracking/connection`), what is written (`tracking/runs`, `registry/versions`).

dagster-mlflow supplies the configuration schema only: its resource opens one run when it is built, names it after the
job and leaves it open with parallel assets (dagster #21872, #3970), while we need one run per materialization.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from mlops_assets.errors import TrackingError

if TYPE_CHECKING:
    from mlops_assets.tracking.provenance import Origin
    from mlops_assets.tracking.store import Store


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
            from mlops_assets.tracking.connection import Address, connect, require_model_name

            config = self.dagster_mlflow_config()
            require_model_name(self.registered_model, self.registry_uri)
            address = Address(
                config["experiment_name"], config["mlflow_tracking_uri"], self.registry_uri, self.artifact_root
            )
            self._store = connect(address)
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

    def origin(self, dagster_run: str) -> Origin:
        """Return what names a Dagster run in MLflow, with a link to its page."""
        from mlops_assets.tracking.provenance import Origin

        return Origin(dagster_run, f"{self.dagster_url.rstrip('/')}/runs/{dagster_run}")

    @property
    def registry_uri(self) -> str:
        """The registry: the tracking store where no other is named."""
        return self.mlflow_registry_uri or self.mlflow_tracking_uri
