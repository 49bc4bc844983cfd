"""Versions of the registered model: create once, verify, and move aliases.

What belongs here: all calls of the MLflow registry. What does not: the promotion rule (`gate`), Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import TrackingError
from mlops_assets.lineage import MODEL_URI_TAG, PRODUCTION_MODEL_URI_TAG

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from mlops_assets.tracking.store import Store
    from mlops_assets.training.matrix import Matrix

CHALLENGER = "challenger"
CHAMPION = "champion"
SCORES_REPRODUCED = "scores_reproduced"
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Version:
    """A version in the registry.

    Attributes:
        name: Name of the registered model.
        number: Its number.
        run_id: MLflow run that made it.
        production: Whether it serves the run's production model instead of the evaluated one.
        created: When it was registered, seconds since 1970.
    """

    name: str
    number: int
    run_id: str
    production: bool = False
    created: float = field(default=0.0, compare=False)


def register_once(store: Store, name: str, run_id: str, model_uri: str, production_uri: str = "") -> Version:
    """Register what a run has for service, or return its existing version: running again adds nothing.

    Args:
        store: The registry.
        name: Name of the registered model.
        run_id: The run.
        model_uri: Its evaluated model.
        production_uri: Its production model, which is then what is registered; empty if there is none.
    """
    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Unity Catalog's registry accepts only one condition in a filter.
    for found in client.search_model_versions(f"run_id = '{run_id}'"):
        if found.name == name:
            version = _version(client.get_model_version(name, found.version))  # a search may leave the tags out
            if version.production == bool(production_uri):
                return version
    uri = production_uri or model_uri
    tags = {MODEL_URI_TAG: model_uri} | ({PRODUCTION_MODEL_URI_TAG: production_uri} if production_uri else {})
    with store.selected():
        created = client.create_model_version(
            name, uri, run_id=run_id, model_id=uri.removeprefix("models:/"), tags=tags
        )
    return replace(_version(created), production=bool(production_uri))


def by_alias(store: Store, name: str, alias: str) -> Version | None:
    """Return the version with an alias, or None."""
    try:
        version = store.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _version(version)


def _version(found: ModelVersion) -> Version:
    return Version(
        found.name,
        int(found.version),
        found.run_id,
        production=PRODUCTION_MODEL_URI_TAG in found.tags,
        created=found.creation_timestamp / 1000,
    )


def set_alias(store: Store, version: Version, alias: str) -> None:
    """Point an alias at a version."""
    store.client.set_registered_model_alias(version.name, alias, str(version.number))


def score(store: Store, version: Version, rows: Matrix) -> Scores:
    """Score rows with the version as a caller does: loaded from the registry, through its signature.

    Returns:
        Probability of fraud, float32 [rows].

    Raises:
        TrackingError: The version can't be loaded, or does not accept these features.
    """
    where = f"{version.name} version {version.number}"
    frame = pd.DataFrame(rows.X.astype(np.float64), columns=list(rows.features))
    try:
        with store.selected():
            model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.number}")
        scores: Any = model.predict(frame)
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"the version can't be loaded or does not accept the features: {str(error).splitlines()[0]}",
            where=where,
            fix="if the contract has changed, set a new MLOPS_MODEL_NAME; otherwise materialize `tuned_model` again",
        ) from None
    return np.asarray(scores, dtype=np.float32)


def booster_bytes(store: Store, version: Version) -> bytes:
    """Return the version's booster in XGBoost's own format; equal for equal boosters."""
    with store.selected():
        booster = mlflow.xgboost.load_model(f"models:/{version.name}/{version.number}")
    return bytes(booster.save_raw())


def judge_served_scores(version: Version, trained: Scores, served: Scores) -> CheckOutcome:
    """Check that the registered version gives the trained model's scores on the test rows, bit for bit."""
    same_shape = trained.shape == served.shape
    different = int((trained.view(np.uint32) != served.view(np.uint32)).sum()) if same_shape else len(trained)
    text = f"{len(trained):,} scores of version {version.number}, {different:,} differ from the trained model's"
    if different:
        text += ": the artifact is corrupt or was replaced; materialize `tuned_model` again"
    return CheckOutcome(
        SCORES_REPRODUCED,
        passed=different == 0,
        description=text,
        details={"rows": len(trained), "different": different},
    )
