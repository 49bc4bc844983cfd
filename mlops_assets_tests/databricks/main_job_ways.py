"""Ways to run the main job on a loopback workspace, and what each has in common with the same job on embedded Spark.

Same rows, same versions, same cut, same best point, same metrics, same metadata and checks: parallelism is 1.

What belongs here: the comparison, which the proofs of both launchers make. What does not: running a job (`main_job`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from databricks_loopback import Workspace
from databricks_loopback.api.mlflow_tracking import ARTIFACTS
from mlops_assets.lakehouse.tables import PathTables, Tables
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets_tests.databricks.main_job import OWN, SEARCHED_AGAIN, SMALL, Finished, outcome, run_main_job
from mlops_assets_tests.mlflow_server import running_server

TABLES = ("raw_transactions", "quarantined_transactions", "train_set", "validation_set", "test_set")
MODEL = "fraud_creditcard_synthetic"


def run_here(home: Path, shared_home: Path) -> Finished:
    """Run the job on this machine's embedded Spark, which each other way must equal."""
    home.mkdir()
    (home / "jars").symlink_to(shared_home / "jars")
    finished = run_main_job(home, {"MLOPS_TARGET": "local"})
    assert finished.succeeded, finished.log[-8_000:]
    return finished


@dataclass(frozen=True)
class Way:
    """One way to run on Databricks.

    Attributes:
        launcher: `step` or `pipes`.
        catalog: Catalog of tables and model, with MLflow as `databricks` and `databricks-uc`; `spark_catalog`, the
            metastore of open-source Spark, stands for one of Unity Catalog. Empty for tables in folders of a volume,
            and an MLflow server of one's own.
        serverless: Whether the loader's steps run on serverless compute.
    """

    launcher: str
    catalog: str
    serverless: bool = False

    @contextmanager
    def workspace(self, folder: Path, home: Path, server: str) -> Iterator[Workspace]:
        """Run a workspace with all that a user must have made in it, and Delta on its clusters."""
        if sys.platform != "linux":
            pytest.skip("the machines of a loopback cluster need Linux namespaces")
        folder.mkdir()
        with Workspace(
            folder,
            delta_jars=ensure_delta_jars(home / "jars"),
            cores=2,
            metastore=bool(self.catalog),
            mlflow_server=server if self.catalog else None,
            limit_rates=True,
        ) as made:
            catalog = self.catalog or "main"
            made.catalog.add_schema(f"{catalog}.mlops_assets_dev")
            made.catalog.add_volume(f"{catalog}.mlops_assets_dev.staging")
            yield made

    def variables(self, workspace: Workspace, server: str) -> dict[str, str]:
        """Return the launching side's environment."""
        by_path = {
            "TABLES": "path",
            "TABLE_ROOT": self.table_root,
            "TRACKING_URI": server,
            "REGISTRY_URI": server,
        }
        fields = {
            "HOST": workspace.host,
            "LAUNCHER": self.launcher,
            "CLUSTERS__TRIALS__TASK_CPUS": "1",
            **({"CATALOG": self.catalog} if self.catalog else by_path),
            **({"CLUSTERS__LOADER__REUSE_MINUTES": "20"} if self.reuses_clusters else {}),
            **({"CLUSTERS__LOADER": "{compute: serverless}"} if self.serverless else {}),
        }
        login = {"MLOPS_TARGET": "databricks", "DATABRICKS_TOKEN": workspace.token}
        return login | {f"MLOPS_DATABRICKS_{name}": value for name, value in fields.items()}

    @property
    def reuses_clusters(self) -> bool:
        """Whether the loader's steps share a cluster; only one of the ways, so that the others show that it is off.

        The loopback's metastore serves one cluster at a time, so it is not one with names.
        """
        return self.launcher == "step" and not self.catalog

    @property
    def starts(self) -> list[str]:
        """Cost classes of the clusters that a run starts, in their order."""
        if self.serverless:
            return ["trials"]
        return ["loader", "trials"] if self.reuses_clusters else ["loader", "loader", "trials", "loader"]

    @property
    def table_root(self) -> str:
        return "dbfs:/mlops_assets/tables"

    def tables(self, workspace: Workspace) -> Tables:
        """Return the tables as they lie in the workspace's storage."""
        if self.catalog:
            return PathTables(str(workspace.storage.dbfs / "user/hive/warehouse/mlops_assets_dev.db"))
        return PathTables(str(workspace.storage.in_dbfs(f"{self.table_root}/creditcard_synthetic")))

    def address(self, table: str) -> str:
        """Return what the table is called."""
        return (
            f"{self.catalog}.mlops_assets_dev.{table}"
            if self.catalog
            else f"dbfs:/mlops_assets/tables/creditcard_synthetic/{table}"
        )


def check_the_main_job(tmp_path: Path, here: Finished, shared_home: Path, way: Way) -> None:
    """Run the main job in one way, twice unless it is serverless, and compare it with the run here."""
    with (
        running_server(tmp_path, ARTIFACTS if way.catalog else "") as running,
        way.workspace(tmp_path / "workspace", shared_home, running.uri) as workspace,
    ):
        server = running.uri
        there = run_main_job(tmp_path / "launching", way.variables(workspace, server))
        assert there.succeeded, there.log[-8_000:]
        addresses = same_tables(way, workspace, here)
        # Same best point, same metrics, one version that is champion.
        remote = MlflowClient(server, server)
        uri = f"sqlite:///{here.home / 'mlflow' / 'mlflow.db'}"
        found, expected = outcome(remote), outcome(MlflowClient(uri, uri))
        # Sums of money depend in their last digit on the order in which Spark reads a set.
        assert found.pop("metrics") == pytest.approx(expected.pop("metrics"), rel=1e-12)
        assert found == expected
        if way.catalog:
            model = f"{way.catalog}.mlops_assets_dev.{MODEL}"
            assert workspace.models.by_alias(model, "champion")["version"] == "1"
            tagged = workspace.table_tags
            assert set(addresses.values()) <= set(tagged)
            assert {tags["mlops_assets_model"] for tags in tagged.values()} == {"creditcard_synthetic"}
        else:
            model = MODEL
            assert int(remote.get_model_version_by_alias(model, "champion").version) == 1
        started = [cluster.spec["custom_tags"]["cost_class"] for cluster in workspace.clusters.all()]
        callers = {call.user for call in workspace.calls.matching("*", "/api/2.0/mlflow/*")}
        if not way.serverless:
            # Once more: its model is registered beside the first, whose name is there already.
            again = run_main_job(tmp_path / "launching", way.variables(workspace, server), SEARCHED_AGAIN)
            assert again.succeeded, again.log[-8_000:]
            assert versions_of(way, workspace, remote, model) == ["1", "2"]
            same_tables(way, workspace, here)

    # Each asset was a launch of its own, unless they share clusters, and the search reported while it ran.
    assert started == way.starts
    assert not any(run.is_active for run in workspace.runs)
    assert there.log.index("trial 4 of 4 done") < there.log.index('Finished execution of step "tuned_model"')
    # The token that launched is nowhere in what was sent, and MLflow was called with the clusters' own identity.
    assert workspace.token not in json.dumps(
        [call.body for call in workspace.calls.matching("POST", "/api/*")], default=str
    )
    assert len(callers) == (2 if way.catalog else 0), "search and registration"
    assert [user for user in callers if " on cluster " not in user] == []
    # Same metadata and checks in Dagster, but for names of runs and places.
    assert {asset: without_own(told) for asset, told in there.materialized.items()} == {
        asset: without_own(told) for asset, told in here.materialized.items()
    }
    assert {key: _rounded(repr(told)) for key, told in there.checks.items()} == {
        key: _rounded(repr(told)) for key, told in here.checks.items()
    }
    for ran in (there, here):
        run_id = json.loads(ran.materialized["tuned_model"]["mlflow_run_id"])["text"]
        named = {"model": "creditcard_synthetic", "raw_version": "0", "mlflow_run": run_id}
        assert ran.tags == {f"mlops_assets/{name}": tag for name, tag in named.items()}
    tables = {asset: told["table"] for asset, told in there.materialized.items() if "table" in told}
    assert set(tables) == set(addresses)
    for asset, text in tables.items():
        address = addresses[asset].replace(".", "/") if way.catalog else addresses[asset]
        assert json.loads(text)["url"].endswith(address)
    assert json.loads(there.materialized["registered_model"]["model"])["text"] == model


def check_that_a_blocking_check_stops_what_follows(tmp_path: Path, shared_home: Path, launcher: str) -> None:
    """Refuse the sets: nothing after them is launched, and the reason is the one that is told here."""
    config = {**SMALL, "ops": {"splits": {"config": {"min_rows": 100_000}}}}
    local, way, nobody = tmp_path / "local", Way(launcher, ""), "http://127.0.0.1:9"
    local.mkdir()
    (local / "jars").symlink_to(shared_home / "jars")
    here = run_main_job(local, {"MLOPS_TARGET": "local"}, config)
    with way.workspace(tmp_path / "workspace", shared_home, nobody) as workspace:
        there = run_main_job(tmp_path / "launching", way.variables(workspace, nobody), config)
        assert {cluster.state for cluster in workspace.clusters.all()} == {"TERMINATED"}

    assert not there.succeeded
    assert not here.succeeded
    assert set(there.materialized) == {"raw_transactions", "quarantined_transactions"}
    assert there.checks == here.checks
    assert [name for (_, name), told in there.checks.items() if not told[0]] != []
    assert list(there.failures) == ["splits"]
    assert there.failures["splits"].startswith(here.failures["splits"])
    assert len(workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit")) == (1 if way.reuses_clusters else 2)


def versions_of(way: Way, workspace: Workspace, client: MlflowClient, model: str) -> list[str]:
    """Return the versions of the registered model, oldest first."""
    if way.catalog:
        return sorted(str(version["version"]) for version in workspace.models.search(f"name='{model}'"))
    return sorted(str(version.version) for version in client.search_model_versions(f"name = '{model}'"))


def same_tables(way: Way, workspace: Workspace, here: Finished) -> dict[str, str]:
    """Check that rows, versions and cut are those of the run here, and return what the tables are called."""
    local = PathTables(str(here.home / "lakehouse" / "creditcard_synthetic"))
    for table in TABLES:
        one, two = way.tables(workspace).newest(table), local.newest(table)
        assert one is not None
        assert two is not None
        assert one.version == two.version == 0
        assert one.metadata.get("split_id") == two.metadata.get("split_id")
    return {table: way.address(table) for table in TABLES}


def without_own(told: dict[str, str]) -> dict[str, str]:
    """Return metadata without what is a run's own, numbers without the last digits, as for metrics."""
    return {name: _rounded(value) for name, value in told.items() if name not in OWN}


def _rounded(text: str) -> str:
    return re.sub(r"\d+\.\d{9,}(?:e-?\d+)?", lambda found: f"{float(found[0]):.9g}", text)
