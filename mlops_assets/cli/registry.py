"""The registry of a deployment, opened without Dagster.

What belongs here: addresses and names that follow from the settings; they are those of `fraud_model/shared`. What does
not: what is read from the registry (`serving/following`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.serving.from_registry import Source
from mlops_assets.tracking.connection import Address, connect

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment
    from mlops_assets.spec import FraudModelSpec


def open_source(deployment: Deployment, spec: FraudModelSpec) -> Source:
    """Return the registry of a model, without Dagster.

    Args:
        deployment: Where everything is.
        spec: The model.

    Raises:
        TrackingError: The registry can't be reached.
        SettingsError: The Databricks profile is invalid.
    """
    prefix = f"{deployment.branch}_" if deployment.branch else ""
    if deployment.target == "databricks":
        profile = deployment.profile()
        folder = "/Shared/" if profile.tracking_uri.startswith("databricks") else ""
        in_unity = profile.registry_uri.startswith("databricks-uc")
        registered = f"{profile.three_level('') if in_unity else prefix}{spec.registered_model}"
        address = Address(f"{folder}{prefix}{spec.experiment}", profile.tracking_uri, profile.registry_uri)
    else:
        registered = f"{prefix}{spec.registered_model}"
        artifacts = deployment.mlflow_artifacts
        root = None if artifacts is None else str(artifacts)
        uri = deployment.mlflow_uri
        address = Address(f"{prefix}{spec.experiment}", uri, uri, root)
    return Source(connect(address), registered, spec.contract)
