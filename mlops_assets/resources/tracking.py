"""Experiment tracking and the model registry: MLflow, configured like dagster-mlflow.

What belongs here: the fields, and their validation by dagster-mlflow. What does not: connecting
(`tracking/connection`), writing (`tracking/runs`, `registry/versions`).

Only the configuration schema comes from dagster-mlflow. Its resource opens one run when it is built, names it after the
job and leaves it open with parallel assets (dagster #21872, #3970), but we need one run per materialization.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from mlops_assets.deployment import MLFLOW_UI
from mlops_assets.errors import TrackingError
from mlops_assets.resources.connection import Connection
from mlops_assets.spec import DEFAULT_EXPERIMENT, FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.tracking.pages import Pages
    from mlops_assets.tracking.provenance import Origin
    from mlops_assets.tracking.store import Store


class Tracking(Connection):
    """An MLflow store and registry, shared by all models.

    Fields shared with dagster-mlflow's `mlflow_tracking` resource have the same names and meanings.

    Attributes:
        mlflow_tracking_uri: Store or server.
        mlflow_registry_uri: Registry, if it is not the tracking store (`databricks-uc`).
        extra_tags: Tags put on every parent run.
        artifact_root: Folder for the artifacts of an embedded store; None leaves it to the server.
        experiment_folder: Put before the names of experiments, which on Databricks are paths in the workspace.
        registry_prefix: Put before the names of models: `catalog.schema.` in Unity Catalog.
        dagster_url: Base address of the Dagster UI, for links from MLflow runs.
        runtime_version: The Databricks Runtime that this process runs on; empty anywhere else.
        ui: Address of MLflow's UI, for links from Dagster.
    """

    mlflow_tracking_uri: str
    mlflow_registry_uri: str = ""
    extra_tags: dict[str, str] = Field(default_factory=dict)
    artifact_root: str | None = None
    experiment_folder: str = ""
    registry_prefix: str = ""
    dagster_url: str = "http://127.0.0.1:3000"
    runtime_version: str = ""
    ui: str = MLFLOW_UI

    _stores: dict[str, Any] = PrivateAttr(default_factory=dict)

    def connect(self, experiment: str = DEFAULT_EXPERIMENT) -> Store:
        """Return an experiment; the first call checks that the store responds, and creates a missing experiment.

        Args:
            experiment: Its name.

        Raises:
            TrackingError: The store can't be reached or rejects a request.
            StorageError: The folder of an embedded store is not writable.
        """
        if experiment not in self._stores:
            from mlops_assets.tracking.connection import Address, connect

            path = experiment if experiment.startswith("/") else f"{self.experiment_folder}{experiment}"
            config = self.dagster_mlflow_config(path)
            address = Address(
                config["experiment_name"], config["mlflow_tracking_uri"], self.registry_uri, self.artifact_root
            )
            self._stores[experiment] = connect(address)
        store: Store = self._stores[experiment]
        return store

    def model(self, name: str) -> str:
        """Return the name that a model has in the registry.

        Args:
            name: Its name in the spec.

        Raises:
            TrackingError: The registry does not accept the name.
        """
        from mlops_assets.tracking.connection import require_model_name

        full = f"{self.registry_prefix}{name}"
        require_model_name(full, self.registry_uri)
        return full

    def retired_since(self, spec: FraudModelSpec) -> str:
        """Return since when a model is retired, as in `registry.retirement`; empty if it is active.

        Raises:
            TrackingError: The registry can't be reached.
            StorageError: The folder of an embedded store is not writable.
        """
        from mlops_assets.registry.retirement import retirement

        mark = retirement(self.connect(spec.experiment), self.model(spec.registered_model))
        return "" if mark is None else mark.since

    def dagster_mlflow_config(self, experiment: str) -> dict[str, Any]:
        """Return the fields shared with dagster-mlflow, validated and completed by its own schema.

        Args:
            experiment: The experiment's name there.

        Raises:
            TrackingError: The configuration does not match dagster-mlflow's schema.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # about a hook that we do not use
            from dagster_mlflow import mlflow_tracking

        validated = dg.ResourceDefinition(
            lambda context: dict(context.resource_config), config_schema=mlflow_tracking.config_schema
        )
        config = {
            "experiment_name": experiment,
            "mlflow_tracking_uri": self.mlflow_tracking_uri,
            "env": {},
            "extra_tags": self.extra_tags,
        }
        try:
            with dg.build_resources({"mlflow": validated}, resource_config={"mlflow": {"config": config}}) as built:
                return dict(built.mlflow)
        except dg.DagsterInvalidConfigError as error:
            problems = "; ".join(problem.message for problem in error.errors)
            raise TrackingError(
                problems, where="resource `tracking`", fix="set the fields that dagster-mlflow's schema requires"
            ) from None

    def origin(self, dagster_run: str) -> Origin:
        """Return the id of a Dagster run and the link to its page, for tags in MLflow."""
        from mlops_assets.tracking.provenance import Origin

        return Origin(dagster_run, f"{self.dagster_url.rstrip('/')}/runs/{dagster_run}", self.runtime_version)

    @property
    def pages(self) -> Pages:
        """The pages of MLflow's UI."""
        from mlops_assets.tracking.pages import Pages

        return Pages(self.ui)

    @property
    def registry_uri(self) -> str:
        """The registry; defaults to the tracking store."""
        return self.mlflow_registry_uri or self.mlflow_tracking_uri
