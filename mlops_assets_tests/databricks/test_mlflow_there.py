"""Tracking URI `databricks`, registry `databricks-uc`: what MLflow's own client says to a workspace, end to end.

A real MLflow server answers for tracking; models and files are the loopback workspace's. The same on a cluster, with
the cluster's own identity, is part of the long proofs (`test_main_job`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from mlflow.exceptions import MlflowException

from databricks_loopback import Workspace
from databricks_loopback.api.mlflow_tracking import ARTIFACTS
from mlops_assets.errors import TrackingError
from mlops_assets.registry import versions
from mlops_assets.registry.gate_evidence import gathered
from mlops_assets.registry.verified import load_verified
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.artifacts import read_artifact
from mlops_assets.tracking.runs import TableInput
from mlops_assets.tracking.store import Store
from mlops_assets.training.matrix import Matrix
from mlops_assets_tests.mlflow_server import running_server

SCHEMA = "main.models"
NAME = f"{SCHEMA}.fraud"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    folder = tmp_path_factory.mktemp("server")
    with (
        running_server(folder, ARTIFACTS) as server,
        Workspace(tmp_path_factory.mktemp("workspace"), mlflow_server=server.uri) as made,
    ):
        made.catalog.add_schema(SCHEMA)
        yield made


@pytest.fixture(autouse=True)
def login(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)


def there() -> Tracking:
    return Tracking(mlflow_tracking_uri="databricks", mlflow_registry_uri="databricks-uc", experiment_folder="/Shared/")


@pytest.fixture(scope="module")
def trained() -> tuple[xgb.Booster, Matrix]:
    random = np.random.default_rng(1)
    features = random.normal(size=(40, 2)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.uint8)
    data = xgb.DMatrix(features, labels, feature_names=["a", "b"])
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 2}, data, 3)
    return booster, Matrix(("a", "b"), features, labels, np.zeros(40, np.int64), None)


def record(store: Store, booster: xgb.Booster, matrix: Matrix) -> tuple[str, str]:
    """Write a run with all that a search writes; return its id and the model's URI."""
    with store.open_run("search", {"database": "x"}) as run:
        run.log_inputs([TableInput("train_set", "main.models.train_set", 4, "training")])
        run.log_files({"scores.bin": b"\1\2"}, "evaluation")
        example = pd.DataFrame(matrix.X[:3].astype("float64"), columns=list(matrix.features))
        uri = run.log_model(booster, example, {"max_depth": 2})
        run.log(params={"p": 1}, metrics={"m": 0.5}, tags={"t": "v"})
    return run.run_id, uri


@pytest.mark.proof  # a search
def test_a_search_and_its_version_come_back(workspace: Workspace, trained: tuple[xgb.Booster, Matrix]):
    booster, matrix = trained
    store = there().connect()
    run_id, uri = record(store, booster, matrix)

    found = store.client.get_run(run_id)
    assert (found.info.status, found.data.metrics["m"], found.data.params["p"]) == ("FINISHED", 0.5, "1")
    assert store.latest_search({"database": "x"}) == run_id
    assert read_artifact(store, run_id, "evaluation/scores.bin") == b"\1\2"
    (source,) = found.inputs.dataset_inputs
    assert '"delta_table_name": "main.models.train_set"' in source.dataset.source

    version = versions.register_once(store, NAME, run_id, uri)
    assert versions.register_once(store, NAME, run_id, uri) == version, "again adds nothing"
    assert (version.name, version.number) == (NAME, 1)
    assert versions.by_alias(store, NAME, "champion") is None
    versions.set_alias(store, version, "champion")
    assert versions.by_alias(store, NAME, "champion") == version
    expected = booster.predict(xgb.DMatrix(matrix.X, feature_names=["a", "b"]))
    assert (versions.score(load_verified(store, NAME, version.number), matrix) == expected).all()

    other, other_uri = record(store, booster, matrix)
    assert versions.register_once(store, NAME, other, other_uri) == version, "the same booster is no news"
    other, other_uri = record(store, booster[:2], matrix)
    second = versions.register_once(store, NAME, other, other_uri)
    assert second.number == 2
    versions.set_alias(store, second, "champion")
    assert versions.by_alias(store, NAME, "champion") == second
    assert [found.number for found in versions.all_versions(store, NAME)] == [2, 1]
    assert gathered(store, NAME, 1, 0, 2).gates == 0


@pytest.mark.proof  # a search
def test_files_lie_where_the_platform_keeps_them(workspace: Workspace, trained: tuple[xgb.Booster, Matrix]):
    store = there().connect()
    run_id, uri = record(store, *trained)
    versions.register_once(store, f"{SCHEMA}.placed", run_id, uri)

    kept = {path.relative_to(workspace.storage.internal).as_posix() for path in workspace.storage.internal.rglob("*")}
    runs = f"WorkspaceInternal/Mlflow/Artifacts/{store.experiment_id}"
    assert f"{runs}/Runs/{run_id}/artifacts/evaluation/scores.bin" in kept
    assert [path for path in kept if path.startswith(f"{runs}/LoggedModels/") and path.endswith("/MLmodel")] != []
    assert "Models/main/models/placed/1/MLmodel" in kept


@pytest.mark.proof  # waits for a trained model
def test_a_schema_that_is_not_there_is_said(trained: tuple[xgb.Booster, Matrix]):
    store = there().connect()
    run_id, uri = record(store, *trained)

    with pytest.raises(TrackingError, match=r"Schema 'main\.nowhere' does not exist"), store.answering():
        versions.register_once(store, "main.nowhere.fraud", run_id, uri)


def test_an_experiment_is_a_path_in_the_workspace():
    with pytest.raises(TrackingError, match="absolute path within the Databricks workspace") as caught:
        there().model_copy(update={"experiment_folder": ""}).connect()
    assert "MLOPS_EXPERIMENT" in caught.value.fix


def test_without_credentials_it_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(TrackingError, match="the MLflow store rejected a request"):
        there().connect()


def test_the_emulated_registry_refuses_what_unity_catalog_refuses(workspace: Workspace):
    """Else the tests above would pass on calls that fail there."""
    client = there().connect().client
    with pytest.raises(MlflowException, match="all three levels"):
        client.create_registered_model("models.fraud")
    with pytest.raises(MlflowException, match="only one of name"):
        client.search_model_versions(f"name = '{NAME}' and run_id = 'x'")
    with pytest.raises(MlflowException, match="does not exist"):
        client.get_model_version(f"{SCHEMA}.never", "1")
