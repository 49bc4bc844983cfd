"""The loading asset through Pipes, with Spark and Delta on the loopback workspace, against the same asset here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.data.contract import load_contract
from mlops_assets.databricks.profile import DatabricksProfile, load_profile
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.resources.lakehouse import Lakehouse
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import SyntheticTransactions
from mlops_assets.settings import Settings
from mlops_assets_tests.databricks.pipes_probe.raw import piped_transactions
from mlops_assets_tests.databricks_workspace import Workspace

SMALL = {"rows": 3_000, "days": 6.0, "fraud_rate": 0.03, "seed": 3}


@pytest.fixture
def workspace(tmp_path: Path, shared_home: Path) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with Workspace(tmp_path / "workspace", delta_jars=ensure_delta_jars(shared_home / "jars")) as made:
        made.clusters.node_types.add("Standard_D4ds_v5")
        made.catalog.add_schema("main.probe")
        for volume in ("staging", "tables"):
            made.catalog.add_volume(f"main.probe.{volume}")
        yield made


def profile(workspace: Workspace) -> DatabricksProfile:
    overrides = {
        "HOST": workspace.host,
        "STAGING_PATH": "/Volumes/main/probe/staging",
        "TABLES": "path",
        "TABLE_ROOT": "/Volumes/main/probe/tables",
        "LAUNCHER": "pipes",
    }
    return load_profile("dev", {f"MLOPS_DATABRICKS_{name}": value for name, value in overrides.items()})


def by_setting(workspace: Workspace) -> StepLauncherResource:
    """Return the resource as the binding place makes it, with the test's own asset among what travels."""
    chosen = profile(workspace)
    settings = Settings(target="databricks", databricks_profile=chosen.model_dump_json(by_alias=True))
    return StepLauncherResource(
        cost_class="loader",
        profile=chosen.model_dump(mode="json", by_alias=True),
        token=workspace.token,
        env=settings.for_cluster(),
        packages=["mlops_assets", "mlops_assets_tests.databricks.pipes_probe"],
    )


def load(
    cluster: StepLauncherResource, lakehouse: Lakehouse, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [piped_transactions],
        instance=instance,
        resources={
            "source": SyntheticTransactions(),
            "contract": ContractResource(yaml_text=load_contract("creditcard").to_yaml()),
            "lakehouse": lakehouse,
            "loader_cluster": cluster,
        },
        run_config={"resources": {"source": {"config": SMALL}}},
        raise_on_error=False,
    )


def told(result: dg.ExecuteInProcessResult) -> tuple[dict[str, Any], dict[str, Any]]:
    assert result.success
    events = {str(event.asset_key): event for event in result.get_asset_materialization_events()}
    assert set(events) == {str(dg.AssetKey(RAW)), str(dg.AssetKey(QUARANTINED))}
    metadata = dict(events[str(dg.AssetKey(RAW))].materialization.metadata)
    checks = {
        found.check_name: (found.passed, found.description, found.metadata)
        for found in result.get_asset_check_evaluations()
    }
    return metadata, checks


def test_loaded_through_pipes_is_as_loaded_here(
    workspace: Workspace, lakehouse: Lakehouse, instance: dg.DagsterInstance
):
    # First: the launching side needs no Spark of its own.
    result = load(by_setting(workspace), lakehouse, instance)
    there, checks = told(result)
    here, expected_checks = told(load(StepLauncherResource(cost_class="loader", active=False), lakehouse, instance))
    table = there.pop("table").value
    assert table.startswith("/Volumes/main/probe/tables/")
    assert here.pop("table").value.endswith("/raw_transactions")
    assert there == here
    assert checks == expected_checks
    assert there["dagster/row_count"].value == 3_000
    written = DeltaTable(str(workspace.storage.in_volumes(table)))
    assert written.version() == 0
    assert f'"dagster_run": "{result.run_id}"' in written.history(1)[0]["userMetadata"]
    left = [path for path in workspace.storage.in_volumes("/Volumes/main/probe/staging").rglob("*") if path.is_file()]
    assert left == [], "the resource removes at the end of the run what the runner has staged"
