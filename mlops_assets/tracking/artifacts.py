"""Artifacts of an MLflow run that a later step reads: files, and scores without pickle.

What belongs here: reading, the file format of scores, and the digest of a model. What does not: writing files into a
run (`runs`), names of artifacts (`mlops_assets/lineage`).
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.tracking.throttling import is_transient

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops_assets.tracking.store import Store

Scores = npt.NDArray[np.float32]


def read_artifact(store: Store, run_id: str, path: str) -> bytes:
    """Return the content of an artifact.

    Raises:
        TrackingError: The run does not have this artifact, or the store can't be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return Path(store.client.download_artifacts(run_id, path, scratch)).read_bytes()
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"artifact {path} can't be read: {error}",
                where=f"MLflow run {run_id}",
                fix="materialize `tuned_model` again",
                transient=is_transient(error),
            ) from None


def sha256_of(booster: xgb.Booster) -> str:
    """Return the digest of a model's own bytes: two boosters with the same one are the same model."""
    return hashlib.sha256(booster.save_raw()).hexdigest()


def scores_to_bytes(scores: Scores) -> bytes:
    """Return scores in NumPy's own file format, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, scores.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def scores_from_bytes(content: bytes) -> Scores:
    """Read what `scores_to_bytes` wrote; raise TrackingError for anything else, in particular a pickle."""
    try:
        scores: Scores = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TrackingError(
            f"the file is not an array of scores: {error}",
            where="artifact test_scores.npy",
            fix="the file was replaced; materialize `tuned_model` again",
        ) from None
    return scores
