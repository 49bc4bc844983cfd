"""Versions of the registered model: create once, verify, and move aliases.

What belongs here: all calls of the MLflow registry. What does not: the promotion rule (`gate`), Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import TrackingError
from mlops_assets.lineage import (
    FILES_SHA256_TAG,
    MODEL_SHA256_TAG,
    MODEL_URI_TAG,
    POLICY_TAG,
    PRODUCTION_MODEL_URI_TAG,
    REGISTERED_BY_TAG,
)
from mlops_assets.registry.verified import BOOSTER_FILE, BrokenVersionError, digests, note_of, read_files
from mlops_assets.tracking.error_codes import exists_already, is_missing
from mlops_assets.tracking.provenance import this_actor
from mlops_assets.training.objective import predict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlflow.entities.model_registry import ModelVersion

    from mlops_assets.registry.verified import VerifiedModel
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
        sha256: Digest of its booster; empty if it was registered before that was noted.
        policy: Which policy is in force, as its tag says; empty if it was registered before there were policies.
    """

    name: str
    number: int
    run_id: str
    production: bool = False
    created: float = field(default=0.0, compare=False)
    sha256: str = field(default="", compare=False)
    policy: str = field(default="", compare=False)


def register_once(store: Store, name: str, run_id: str, model_uri: str, production_uri: str = "") -> Version:
    """Register what a run has for service, or return the version that it is already.

    Running again adds nothing, and neither does another run that ended at the same booster: two runs of one search can
    (one may have taken over what the other had finished), and a copy of a version is no news.

    Args:
        store: The registry.
        name: Name of the registered model.
        run_id: The run.
        model_uri: Its evaluated model.
        production_uri: Its production model, which is then what is registered; empty if there is none.

    Raises:
        BrokenVersionError: The model's files are not those of the model that was trained.
        TrackingError: The artifact store can't be reached.
    """
    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if not exists_already(error):
            raise
    uri = production_uri or model_uri
    # Unity Catalog's registry accepts only one condition in a filter.
    for found in client.search_model_versions(f"run_id = '{run_id}'"):
        if found.name == name:
            version = _version(_with_tags(store, found))
            if version.production == bool(production_uri):
                return version
    files = read_files(store, uri, where=f"model {uri} of MLflow run {run_id}")
    digest = digests(files)[BOOSTER_FILE]
    _require_trained(store, uri, digest)
    same = [version for version in all_versions(store, name) if version.sha256 == digest]
    if same:
        return min(same, key=lambda version: version.number)
    tags = {
        MODEL_URI_TAG: model_uri,
        MODEL_SHA256_TAG: digest,
        FILES_SHA256_TAG: note_of(files),
        REGISTERED_BY_TAG: this_actor(),
    }
    if production_uri:
        tags[PRODUCTION_MODEL_URI_TAG] = production_uri
    with store.selected():
        created = client.create_model_version(
            name, uri, run_id=run_id, model_id=uri.removeprefix("models:/"), tags=tags
        )
    return replace(_version(created), production=bool(production_uri), sha256=digest)


def all_versions(store: Store, name: str) -> Iterator[Version]:
    """Yield the versions of a model, newest first; none if there is no such model."""
    return map(_version, registered(store, name))


def registered(store: Store, name: str) -> Iterator[ModelVersion]:
    """Yield the registry's entries of a model, newest first, with their tags; none if there is no such model."""
    token = None
    while True:
        try:
            page = store.client.search_model_versions(f"name = '{name}'", page_token=token)
        except MlflowException as error:
            if is_missing(error):  # Unity Catalog has no such model yet
                return
            raise
        yield from (_with_tags(store, found) for found in page)
        token = page.token
        if not token:
            return


def _with_tags(store: Store, found: ModelVersion) -> ModelVersion:
    """Return what a search found, with its tags.

    In Unity Catalog it has a method in place of them, which raises an error
    (`mlflow.entities.model_registry.model_version_search`).
    """
    return found if isinstance(found.tags, dict) else store.client.get_model_version(found.name, found.version)


def _require_trained(store: Store, uri: str, digest: str) -> None:
    """Refuse a booster that is not the one whose digest the tracking store noted before the file was written."""
    trained = store.client.get_logged_model(uri.removeprefix("models:/")).tags.get(MODEL_SHA256_TAG, digest)
    if trained != digest:
        raise BrokenVersionError(
            f"{BOOSTER_FILE} is not the model that was trained: SHA-256 {digest} instead of {trained}",
            where=uri,
            fix="materialize `tuned_model` again, and find out who can write to the artifact store",
        )


def by_alias(store: Store, name: str, alias: str) -> Version | None:
    """Return the version with an alias, or None."""
    try:
        version = store.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if is_missing(error) or error.error_code == "INVALID_PARAMETER_VALUE":
            return None
        raise
    return _version(version)


def by_number(store: Store, name: str, number: int) -> Version:
    """Return a version by its number."""
    return _version(store.client.get_model_version(name, str(number)))


def _version(found: ModelVersion) -> Version:
    return Version(
        found.name,
        int(found.version),
        found.run_id,
        production=PRODUCTION_MODEL_URI_TAG in found.tags,
        created=found.creation_timestamp / 1000,
        sha256=found.tags.get(MODEL_SHA256_TAG, ""),
        policy=found.tags.get(POLICY_TAG, ""),
    )


def set_alias(store: Store, version: Version, alias: str) -> None:
    """Point an alias at a version."""
    store.client.set_registered_model_alias(version.name, alias, str(version.number))


def score(model: VerifiedModel, rows: Matrix) -> Scores:
    """Score rows with a version; features that it does not have are left out.

    Returns:
        Probability of fraud, float32 [rows].

    Raises:
        TrackingError: The version does not accept these features.
    """
    return predict(model.booster, rows.in_columns(accepted_features(model, rows.features, rows.levels)))


def accepted_features(model: VerifiedModel, features: Collection[str], categories: Collection[str]) -> list[str]:
    """Return the features of a version, in its order, if rows have them.

    Args:
        model: The version.
        features: What the rows have.
        categories: Which of them are text.

    Raises:
        TrackingError: The version does not accept these features.
    """
    wanted = model.booster.feature_names or []
    wrong = sorted(set(wanted) - set(features))
    texts = {name for name, kind in model.inputs.items() if kind == "string"}
    wrong += sorted(texts.symmetric_difference(categories) & set(wanted) & set(features))
    if wrong:
        raise TrackingError(
            f"the version does not accept the features: {', '.join(wrong)} are missing or of another type",
            where=f"{model.name} version {model.number}",
            fix="if the contract has changed, set a new MLOPS_MODEL_NAME; otherwise materialize `tuned_model` again",
        )
    return list(wanted)


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
