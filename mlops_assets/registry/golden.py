"""Golden rows: a few rows with the scores that a version gave them when it was registered.

What belongs here: making them, keeping them, and scoring them again. What does not: which version is champion.

They show that an older version still works, without any table and without Spark. No row is a customer's: each column
is drawn by itself from the test rows.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops_assets.lineage import GOLDEN_FILE, GOLDEN_SHA256_TAG, VERSION_FOLDER
from mlops_assets.registry.verified import BrokenVersionError
from mlops_assets.tracking.artifacts import read_artifact
from mlops_assets.training.categories import for_model

if TYPE_CHECKING:
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.tracking.store import Store
    from mlops_assets.training.matrix import Matrix

_ROWS: Final = 50
# Another processor may add the trees' margins in another order.
_TOLERANCE: Final = 1e-6


class Drawable(Protocol):
    """Rows of which some can be had, in memory or on a cluster."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def at(self, positions: npt.NDArray[np.int64]) -> Matrix:
        """Return the rows at ascending positions."""
        ...


def keep_golden(store: Store, model: VerifiedModel, rows: Drawable) -> None:
    """Keep golden rows of a version, unless it has some.

    Args:
        store: Where the version is.
        model: The version.
        rows: Test rows, with at least the version's features.

    Raises:
        TrackingError: MLflow can't be reached.
    """
    if GOLDEN_SHA256_TAG in model.version.tags:
        return
    features = model.booster.feature_names or []
    random = np.random.default_rng(model.number)
    at = random.integers(0, rows.rows, size=(_ROWS, len(features)))
    positions = np.unique(at)
    mine = rows.at(positions).in_columns(features)
    found = for_model(model.booster, mine.X, mine.features, mine.levels)
    drawn = found[np.searchsorted(positions, at), np.arange(len(features))]
    content = {
        "features": features,
        "rows": [[None if np.isnan(value) else float(value) for value in row] for row in drawn],
        "scores": [float(score) for score in _scores(model.booster, drawn)],
    }
    text = json.dumps(content).encode()
    write_into_version(store, model, {GOLDEN_FILE: text})
    with store.answering():
        digest = hashlib.sha256(text).hexdigest()
        store.client.set_model_version_tag(model.name, str(model.number), GOLDEN_SHA256_TAG, digest)


def require_golden(store: Store, model: VerifiedModel) -> None:
    """Score a version's golden rows again.

    Raises:
        BrokenVersionError: The rows are not those that were kept, there are none, or the scores differ.
        TrackingError: MLflow can't be reached.
    """
    noted = model.version.tags.get(GOLDEN_SHA256_TAG)
    if noted is None:
        raise _broken(model, "it has no golden rows to be tried on")
    text = read_artifact(store, model.version.run_id, f"{folder_of(model.number)}/{GOLDEN_FILE}")
    if hashlib.sha256(text).hexdigest() != noted:
        raise _broken(model, "its golden rows are not those that were kept")
    content = json.loads(text)
    rows = np.array(content["rows"], dtype=np.float32)  # None becomes NaN
    worst = float(np.abs(_scores(model.booster, rows) - np.array(content["scores"], dtype=np.float32)).max())
    if not worst <= _TOLERANCE:
        raise _broken(model, f"it scores its golden rows otherwise, by up to {worst:.2g}")


def folder_of(number: int) -> str:
    """Return the folder of a version among the artifacts of its run."""
    return f"{VERSION_FOLDER}_{number}"


def write_into_version(store: Store, model: VerifiedModel, files: dict[str, bytes]) -> None:
    """Write files into the folder of a version.

    Raises:
        TrackingError: MLflow can't be reached.
    """
    with tempfile.TemporaryDirectory() as scratch, store.answering():
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        store.client.log_artifacts(model.version.run_id, scratch, folder_of(model.number))


def _scores(booster: xgb.Booster, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> np.ndarray:
    data = xgb.DMatrix(rows, feature_names=booster.feature_names, feature_types=booster.feature_types, nthread=1)
    return np.asarray(booster.predict(data), dtype=np.float32)


def _broken(model: VerifiedModel, what: str) -> BrokenVersionError:
    return BrokenVersionError(
        f"the version is broken: {what}",
        where=f"{model.name} version {model.number}",
        fix="choose another version with `mlops rollback --to N`",
    )
