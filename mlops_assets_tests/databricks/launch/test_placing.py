"""Where assets run when the profile places them elsewhere than they say, with both launchers."""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from databricks_loopback import Workspace
from mlops_assets.settings import Settings
from mlops_assets_tests.databricks.conftest import profile_of
from mlops_assets_tests.databricks.launch.driving import CHECKOUT, IN_PROCESS, PATHS

MODULE = "mlops_assets_tests.databricks.launch.placed_location"
SUBMIT = "/api/2.2/jobs/runs/submit"


def run(
    asset: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, **overrides: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run an asset's job; return the metadata it reported and the clusters it asked for."""
    fields = {
        "STAGING_PATH": PATHS["volume"],
        "POLL_SECONDS": "0.5",
        "CLUSTERS__TRIALS__TASK_CPUS": "1",
        **overrides,
    }
    document = profile_of(workspace, **fields).model_dump_json(by_alias=True, exclude_none=True)
    monkeypatch.setenv("PLACED_PROFILE", document)
    monkeypatch.setenv("PLACED_TOKEN", workspace.token)
    settings = Settings(target="databricks", databricks_profile=document)
    monkeypatch.setenv("PLACED_ENV", json.dumps(settings.for_cluster()))
    # The location reads the variables when it is imported, and Dagster keeps the job of an equal repository.
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    repository = ReconstructableRepository(
        ModuleCodePointer(MODULE, "location", str(CHECKOUT)), container_image=uuid.uuid4().hex
    )
    job = ReconstructableJob(repository, f"{asset}_job")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.execute_job(job, instance, run_config=IN_PROCESS) as result,
    ):
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        (event,) = result.get_asset_materialization_events()
        metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    bodies = [call.body or {} for call in workspace.calls.matching("POST", SUBMIT)]
    return metadata, [body["tasks"][0]["new_cluster"] for body in bodies]


@pytest.fixture(params=["step", "pipes"])
def launcher(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    workspace.clusters.node_types.add("Standard_D4ds_v5")
    return str(request.param)


def test_an_asset_runs_on_the_cluster_that_it_names(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, launcher: str
):
    metadata, (cluster,) = run("small", workspace, monkeypatch, LAUNCHER=launcher)
    assert metadata["runtime"].startswith("18")
    assert (cluster["num_workers"], cluster["custom_tags"]["cost_class"]) == (0, "loader")
    assert cluster["custom_tags"]["asset"] == "small"
    assert cluster["custom_tags"]["dagster_job"] == "small_job"
    assert {"dagster_run", "dagster_step", "cost_centre"} <= cluster["custom_tags"].keys()


def test_the_profile_moves_an_asset_to_the_other_class(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, launcher: str
):
    metadata, (cluster,) = run("small", workspace, monkeypatch, LAUNCHER=launcher, PLACEMENT="{small: trials}")
    assert metadata["runtime"].startswith("18")
    assert (cluster["num_workers"], cluster["custom_tags"]["cost_class"]) == (2, "trials")
    assert cluster["spark_conf"]["spark.task.cpus"] == "1"


@pytest.mark.parametrize("asset", ["small", "large"])
def test_the_profile_keeps_an_asset_here(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, launcher: str, asset: str
):
    placement = f"{{{asset}: local}}"
    metadata, clusters = run(asset, workspace, monkeypatch, LAUNCHER=launcher, PLACEMENT=placement)
    assert metadata["runtime"] == "none"
    assert clusters == []
    assert workspace.calls.matching("*", "/api/*") == []
