"""Artifacts of an MLflow run that a later step reads: files, and scores without pickle.

What belongs here: reading, the file format of scores, and the digest of a model. What does not: writing files into a
run (`runs`), names of artifacts (`mlops_assets/lineage`).
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from mlops_assets.errors import TrackingError
from mlops_assets.tracking.throttling import is_transient

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops_assets.tracking.store import Store

Scores = npt.NDArray[np.float32]
# Scores of sixty million rows; reports are a few kB.
_MAX_BYTES: Final = 1 << 28
_NPY_VERSION: Final = (1, 0)


def read_artifact(store: Store, run_id: str, path: str) -> bytes:
    """Return the content of an artifact, a plain file of a bounded size.

    Raises:
        TrackingError: The run does not have this artifact, or the store can't be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            listed = {entry.path: entry for entry in store.client.list_artifacts(run_id, str(PurePath(path).parent))}
            # A store may not say how large a file is, and a run may be of an earlier release.
            if path in listed and (listed[path].file_size or 0) > _MAX_BYTES:
                raise _unreadable(path, run_id, f"it has {listed[path].file_size:,} bytes")
            if odd := odd_files(store.client.get_run(run_id).info.artifact_uri, path):
                raise _unreadable(path, run_id, f"{odd[0]} is not a plain file")
            return Path(store.client.download_artifacts(run_id, path, scratch)).read_bytes()
        except (MlflowException, OSError) as error:
            raise _unreadable(path, run_id, str(error), transient=is_transient(error)) from None


def read_json(store: Store, run_id: str, path: str) -> Any:
    """Return what a JSON artifact holds.

    Raises:
        TrackingError: The run does not have this artifact, it is no JSON, or the store can't be read.
    """
    try:
        return json.loads(read_artifact(store, run_id, path))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, run_id, f"it is no JSON ({type(error).__name__})") from None


def odd_files(artifacts: str, path: str = "") -> list[str]:
    """Return the links, pipes and devices at or below a path of a store; a local store's copy would follow them.

    Args:
        artifacts: The store's address.
        path: The path in it.
    """
    if not is_local_uri(artifacts):
        return []
    root = Path(local_file_uri_to_path(artifacts)) / path
    return sorted(
        found.name
        for found in (root, *root.rglob("*"))
        if found.is_symlink() or (found.exists() and not (found.is_file() or found.is_dir()))
    )


def _unreadable(path: str, run_id: str, why: str, *, transient: bool = False) -> TrackingError:
    return TrackingError(
        f"artifact {path} can't be read: {why}",
        where=f"MLflow run {run_id}",
        fix="materialize `tuned_model` again",
        transient=transient,
    )


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
        return _scores(content)
    except (ValueError, EOFError) as error:
        raise TrackingError(
            f"the file is not an array of scores: {error}",
            where="artifact test_scores.npy",
            fix="the file was replaced; materialize `tuned_model` again",
        ) from None


def _scores(content: bytes) -> Scores:
    """Read scores; NumPy's own reader takes the memory that a header claims before it reads."""
    buffer = io.BytesIO(content)
    if np.lib.format.read_magic(buffer) != _NPY_VERSION:
        raise ValueError("another version of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(buffer)
    held = len(content) - buffer.tell()
    if dtype != np.float32 or len(shape) != 1 or shape[0] * dtype.itemsize != held:
        raise ValueError(f"{shape} of {dtype} in {held:,} bytes")
    scores: Scores = np.frombuffer(content, np.float32, offset=buffer.tell())
    return scores
