"""The main job through real step launchers on the loopback workspace, against the same job on embedded Spark."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.resources.tables import PathTables
from mlops_assets.training.runs import STAGE
from mlops_assets_tests.databricks_workspace import Workspace

CHECKOUT = Path(__file__).resolve().parents[2]
SCHEMA, VOLUME = "main.mlops_assets_dev", "main.mlops_assets_dev.staging"
TABLE_ROOT = "/Volumes/main/mlops_assets_dev/staging/tables"
CONFIG = {
    "resources": {"source": {"config": {"rows": 4_000, "days": 6, "fraud_rate": 0.03, "seed": 3}}},
    "ops": {"tuned_model": {"config": {"trials": 4, "parallelism": 1, "replicates": 50}}},
}


@pytest.fixture
def workspace(tmp_path: Path, shared_home: Path) -> Iterator[Workspace]:
    """A workspace of its own, whose clusters have Delta."""
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    folder = tmp_path / "workspace"
    folder.mkdir()
    with Workspace(folder, delta_jars=ensure_delta_jars(shared_home / "jars"), cores=2) as made:
        yield made


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server, which both sides can reach."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/ml.db", "--artifacts-destination", str(tmp_path / "art")]
    with (tmp_path / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    for _ in range(240):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.5)
    else:
        pytest.fail((tmp_path / "mlflow.log").read_text())
    yield f"http://127.0.0.1:{port}"
    os.killpg(server.pid, 15)
    server.wait(timeout=20)


def run_main_job(home: Path, variables: dict[str, str]) -> str:
    home.mkdir(exist_ok=True)
    (home / "dagster").mkdir()
    (home / "config.yaml").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "main"]
    done = subprocess.run(
        [*command, "-c", str(home / "config.yaml")],
        cwd=CHECKOUT,
        env={**os.environ, "MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-8_000:]
    return done.stderr


def outcome(client: MlflowClient) -> dict[str, Any]:
    """Return what a search found, without what differs between two runs of it."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"tags.`{STAGE}` = 'search'")
    assert run.info.status == "FINISHED"
    measured = {name: value for name, value in run.data.metrics.items() if "seconds" not in name}
    return {"params": run.data.params, "metrics": measured, "raw_version": run.data.tags["mlops_assets.raw_version"]}


@pytest.mark.timeout(900)
def test_the_main_job_is_the_same_through_step_launchers(
    tmp_path: Path, workspace: Workspace, mlflow_server: str, shared_home: Path
):
    workspace.catalog.add_schema(SCHEMA)
    workspace.catalog.add_volume(VOLUME)
    local = tmp_path / "local"
    local.mkdir()
    (local / "jars").symlink_to(shared_home / "jars")

    log = run_main_job(
        tmp_path / "launching",
        {
            "MLOPS_TARGET": "databricks",
            "DATABRICKS_TOKEN": workspace.token,
            "MLOPS_DATABRICKS_HOST": workspace.host,
            "MLOPS_DATABRICKS_TABLES": "path",
            "MLOPS_DATABRICKS_TABLE_ROOT": TABLE_ROOT,
            "MLOPS_DATABRICKS_TRACKING_URI": mlflow_server,
            "MLOPS_DATABRICKS_REGISTRY_URI": mlflow_server,
            "MLOPS_DATABRICKS_CLUSTERS__TRIALS__TASK_CPUS": "1",
        },
    )
    run_main_job(local, {"MLOPS_TARGET": "local"})

    # Each asset was a launch of its own, and the search reported while it ran.
    assert len(workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit")) == 4
    assert log.index("trial 4 of 4 done") < log.index('Finished execution of step "tuned_model"')
    # Same rows, same versions, same cut.
    volumes = Path(str(workspace.storage.volumes))
    there = PathTables(str(volumes / TABLE_ROOT.removeprefix("/Volumes/") / "creditcard_synthetic"))
    here = PathTables(str(local / "lakehouse" / "creditcard_synthetic"))
    for table in ("raw_transactions", "train_set", "validation_set", "test_set"):
        one, two = there.newest(table), here.newest(table)
        assert one is not None
        assert two is not None
        assert one.version == two.version == 0
        assert one.note.get("split_id") == two.note.get("split_id")
    # Same best point, same metrics, one version that is champion.
    remote = MlflowClient(mlflow_server, mlflow_server)
    uri = f"sqlite:///{local / 'mlflow' / 'mlflow.db'}"
    assert outcome(remote) == outcome(MlflowClient(uri, uri))
    champion = remote.get_model_version_by_alias("fraud_creditcard_synthetic", "champion")
    assert int(champion.version) == 1
    # The token that launched is nowhere in what was sent.
    assert workspace.token not in json.dumps(
        [call.body for call in workspace.calls.matching("POST", "/api/*")], default=str
    )
