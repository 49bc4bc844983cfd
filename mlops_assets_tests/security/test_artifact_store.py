"""Whoever can write to the artifact store runs no code and takes no memory; `registry/test_verified.py` has more."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from mlops_assets.errors import TrackingError
from mlops_assets.registry.verified import load_verified
from mlops_assets.tracking import artifacts
from mlops_assets.tracking.artifacts import read_artifact, read_json, scores_from_bytes, scores_to_bytes
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_verified import NAME, folder_of, registered, store_in


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Store:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    return store_in(folder)


@pytest.fixture(scope="module")
def run_id(store: Store) -> str:
    with store.open_run("search", {}) as run:
        store.client.log_text(run.run_id, '{"metrics": {}}', "evaluation.json")
        return run.run_id


@pytest.fixture
def artifact(store: Store, run_id: str) -> Path:
    """The file that a stranger can change; as it was before each test."""
    path = Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / "evaluation.json"
    path.unlink(missing_ok=True)
    path.write_text('{"metrics": {}}')
    return path


def test_an_artifact_as_it_was_written_is_read(store: Store, run_id: str, artifact: Path):
    assert read_json(store, run_id, artifact.name) == {"metrics": {}}


@pytest.mark.parametrize("is_in_store", [False, True], ids=["of this machine", "of the run"])
def test_an_artifact_that_is_a_link_is_refused(
    store: Store, run_id: str, artifact: Path, tmp_path: Path, is_in_store: bool
):
    """MLflow itself follows a link within the run's folder."""
    private = (artifact.parent if is_in_store else tmp_path) / "private"
    private.write_text('{"of": "this machine"}')
    artifact.unlink()
    artifact.symlink_to(private)

    with pytest.raises(TrackingError, match=r"evaluation\.json is not a plain file"):
        read_artifact(store, run_id, artifact.name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "\x00", '{"metrics": '])
def test_a_report_that_is_none_is_a_readable_error(store: Store, run_id: str, artifact: Path, text: str):
    artifact.write_text(text)

    with pytest.raises(TrackingError, match="it is no JSON"):
        read_json(store, run_id, artifact.name)


def test_a_huge_artifact_is_not_downloaded(store: Store, run_id: str, artifact: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(artifacts, "_MAX_BYTES", 10)
    with artifact.open("wb") as file:
        file.truncate(11)

    with pytest.raises(TrackingError, match="it has 11 bytes"):
        read_artifact(store, run_id, artifact.name)


def npy(claims: str) -> bytes:
    header = f"{{'descr': {claims}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        npy("'<f4', 'fortran_order': False, 'shape': (1000000000000,)"),  # takes 4 TB of memory before it reads
        npy("'|S1000000', 'fortran_order': False, 'shape': (1,)"),
        npy("'|O', 'fortran_order': False, 'shape': (1,)") + b"cos\nsystem\n",
        b"\x93NUMPY\x03\x00",
        scores_to_bytes(np.zeros(3, np.float32))[:-1],
        b"",
    ],
)
def test_scores_that_claim_more_than_there_is_are_refused(content: bytes):
    with pytest.raises(TrackingError, match="not an array of scores"):
        scores_from_bytes(content)


def test_scores_as_they_were_written_are_read():
    scores = np.linspace(0, 1, 7, dtype=np.float32)
    buffer = io.BytesIO(scores_to_bytes(scores))

    assert np.array_equal(scores_from_bytes(buffer.getvalue()), scores)
    assert np.array_equal(np.load(buffer, allow_pickle=False), scores)


def test_only_the_files_of_a_model_are_downloaded(store: Store, monkeypatch: pytest.MonkeyPatch):
    """What MLflow's own clients leave beside a model is not looked at, and may be of any size."""
    version = registered(store)
    beside = folder_of(store, version) / "metadata"
    beside.mkdir()
    (beside / "huge").write_bytes(b"x" * 100)
    fetched: list[str] = []
    download = LocalArtifactRepository.download_artifacts

    def noting(self: LocalArtifactRepository, artifact_path: str, *rest: Any, **options: Any) -> str:
        fetched.append(artifact_path)
        return str(download(self, artifact_path, *rest, **options))

    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", noting)
    load_verified(store, NAME, 1)

    assert set(fetched) >= {"model.ubj", "MLmodel"}
    assert not {"", "metadata", "metadata/huge"} & set(fetched)
