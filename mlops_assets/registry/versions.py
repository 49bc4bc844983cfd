"""Versions of the registered model: create once, verify, and move aliases.

What belongs here: all calls of the MLflow registry. What does not: the promotion rule (`gate`), Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import TrackingError

if TYPE_CHECKING:
    from mlops_assets.tracking.store import Store
    from mlops_assets.training.matrix import Matrix

CHALLENGER = "challenger"
CHAMPION = "champion"
SCORES_REPRODUCED = "scores_reproduced"
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Version:
    """A version in the registry."""

    name: str
    number: int
    run_id: str


def register_once(store: Store, name: str, run_id: str, model_uri: str) -> Version:
    """Register a run's model, or return its existing version: running again adds nothing."""
    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Unity Catalog's registry accepts only one condition in a filter.
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name:
            return Version(name, int(version.version), run_id)
    with store.selected():
        created = client.create_model_version(
            name, model_uri, run_id=run_id, model_id=model_uri.removeprefix("models:/")
        )
    return Version(name, int(created.version), run_id)


def by_alias(store: Store, name: str, alias: str) -> Version | None:
    """Return the version with an alias, or None."""
    try:
        version = store.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Version(name, int(version.version), version.run_id)


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
