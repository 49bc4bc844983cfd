"""The shipped profiles against dagster-databricks' own config schema, and what that schema can't say.

Our launcher talks to the Jobs API itself; the schema is asked because it is a second opinion on every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from dagster_databricks import databricks_pyspark_step_launcher
from databricks.sdk.service.compute import AzureAvailability

from mlops_assets.databricks.cluster import ClusterSpec
from mlops_assets.databricks.libraries import cluster_libraries
from mlops_assets.databricks.profile import SHIPPED, load_profile

HOST = "https://dbc-a1b2c3d4-e5f6.cloud.databricks.com"
AZURE = "https://adb-1234567890123456.7.azuredatabricks.net"
GCP = "https://1234567890123456.7.gcp.databricks.com"


@dg.op(required_resource_keys={"launcher"})
def _step() -> None:
    """Do nothing: only the launcher's config is looked at."""


@dg.job(resource_defs={"launcher": databricks_pyspark_step_launcher})
def _launched() -> None:
    _step()


def accept(cluster: Mapping[str, Any], *, permissions: Mapping[str, Any] | None = None, **run: Any) -> None:
    """Hand a cluster to the schema, which raises when it refuses it."""
    config = {
        "run_config": {"cluster": {"new": stock_form(cluster)}, **run},
        "permissions": dict(permissions or {}),
        "databricks_host": HOST,
        "databricks_token": "x",
        "local_dagster_job_package_path": "/x",
        "secrets_to_env_variables": [],
    }
    dg.validate_run_config(_launched, {"resources": {"launcher": {"config": config}}})


def stock_form(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a `new_cluster` of the Jobs API into the form of dagster-databricks: size, nodes and tags are nested."""
    rest = dict(cluster)
    size = {name: rest.pop(name) for name in ("num_workers", "autoscale") if name in rest}
    pools = {name: rest.pop(name) for name in ("instance_pool_id", "driver_instance_pool_id") if name in rest}
    types = {name: rest.pop(name) for name in ("node_type_id", "driver_node_type_id") if name in rest}
    tags = [{"key": name, "value": value} for name, value in rest.pop("custom_tags", {}).items()]
    return {**rest, "size": size, "nodes": pools if pools else {"node_types": types}, "custom_tags": tags}


def stock_permissions(spec: ClusterSpec) -> dict[str, Any]:
    """Turn access lists into the form of dagster-databricks: accessors by level."""
    lists = {f"{kind}_permissions": entries for kind, entries in spec.access_control().items()}
    return {
        kind: {
            level: [
                {name: value for name, value in entry.items() if name != "permission_level"}
                for entry in entries
                if entry["permission_level"] == level
            ]
            for level in {entry["permission_level"] for entry in entries}
        }
        for kind, entries in lists.items()
        if entries
    }


@pytest.mark.parametrize("cost_class", ["loader", "trials"])
@pytest.mark.parametrize("host", [HOST, AZURE, GCP])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_cluster_is_accepted(name: str, host: str, cost_class: Any):
    spec = load_profile(name, {"MLOPS_DATABRICKS_HOST": host}).cluster(cost_class)
    cluster = spec.new_cluster(tags={"asset": "tuned_model"})
    if "azure_attributes" in cluster:  # see test_it_knows_no_fallback_on_azure_and_we_do
        cluster["azure_attributes"]["availability"] = "SPOT_AZURE"
    accept(
        cluster,
        permissions=stock_permissions(spec),
        libraries=cluster_libraries(spec.databricks_runtime),
        install_default_libraries=False,
        timeout_seconds=spec.timeout_seconds,
    )


def test_the_schema_does_look():
    cluster = load_profile("dev", {"MLOPS_DATABRICKS_HOST": HOST}).clusters.loader.new_cluster(tags={})
    accept(cluster)
    with pytest.raises(dg.DagsterInvalidConfigError, match="data_security_mode"):
        accept(cluster | {"data_security_mode": "WRONG"})
    with pytest.raises(dg.DagsterInvalidConfigError, match="spark_verzion"):
        accept(cluster | {"spark_verzion": "1"})


def made(**fields: Any) -> ClusterSpec:
    return ClusterSpec.model_validate({"runtime": "18", "cost_class": "loader", "workers": 1} | fields)


def test_it_knows_no_fallback_on_azure_and_we_do():
    # Its list is that of instance pools, which can't fall back; clusters can (`compute.AzureAvailability`).
    cluster = made(node_type="Standard_D4ds_v5", spot=True, cloud="azure").new_cluster(tags={})
    AzureAvailability(cluster["azure_attributes"]["availability"])
    with pytest.raises(dg.DagsterInvalidConfigError, match="SPOT_WITH_FALLBACK_AZURE"):
        accept(cluster)
    accept(made(node_type="i3.xlarge", spot=True, cloud="aws").new_cluster(tags={}))


def test_it_has_no_place_for_two_pools_and_we_do():
    one = made(instance_pool_id="pool-1").new_cluster(tags={})
    accept(one)
    two = made(instance_pool_id="pool-1", driver_instance_pool_id="pool-2").new_cluster(tags={})
    assert two["driver_instance_pool_id"] == "pool-2"
    with pytest.raises(dg.DagsterInvalidConfigError, match="instance_pool_id"):
        accept(two)


def test_it_has_no_service_principals_in_permissions_and_we_do():
    def spec(**who: str) -> ClusterSpec:
        permissions = {"job": [{"level": "CAN_VIEW", **who}], "cluster": [{"level": "CAN_RESTART", **who}]}
        return made(node_type="i3.xlarge", permissions=permissions)

    group, principal = spec(group="users"), spec(service_principal="app-id")
    accept(group.new_cluster(tags={}), permissions=stock_permissions(group))
    entry = {"service_principal_name": "app-id", "permission_level": "CAN_VIEW"}
    assert principal.access_control()["job"] == [entry]
    with pytest.raises(dg.DagsterInvalidConfigError, match="service_principal_name"):
        accept(principal.new_cluster(tags={}), permissions=stock_permissions(principal))
