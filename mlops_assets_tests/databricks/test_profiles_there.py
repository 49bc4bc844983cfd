"""The shipped profiles against the loopback workspace: a trivial task runs on each of their clusters."""

from __future__ import annotations

from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import ClusterSpec as NewCluster
from databricks.sdk.service.compute import Library
from databricks.sdk.service.iam import AccessControlRequest
from databricks.sdk.service.jobs import JobAccessControlRequest, Run

from databricks_loopback import Workspace
from databricks_loopback.driving import (
    SUCCESS,
    cluster_id,
    output,
    python_task,
    states,
    submit,
    wait_for_end,
)
from mlops_assets.databricks.libraries import cluster_libraries
from mlops_assets.databricks.profile import SHIPPED
from mlops_assets_tests.databricks.conftest import MakeProfile

_TASK = """
    import os
    conf = spark.sparkContext.getConf()
    print(conf.get("spark.task.cpus", "-"), conf.get("spark.master"), os.environ.get("MODE", "-"))
"""


def printed(client: WorkspaceClient, run: Run) -> list[str]:
    """Return the words of the first line of the logs; stderr comes after stdout."""
    return (output(client, run).logs or "").splitlines()[0].split()


@pytest.fixture
def client(workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(host=workspace.host, token=workspace.token)


@pytest.mark.proof  # a task each
@pytest.mark.parametrize("cost_class", ["loader", "trials"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_task_runs_on_every_shipped_cluster(
    client: WorkspaceClient, profile_there: MakeProfile, name: str, cost_class: Any
):
    spec = profile_there(name).cluster(cost_class)
    task = python_task(
        _TASK,
        client,
        new_cluster=NewCluster.from_dict(spec.new_cluster(tags={"asset": "nothing"})),
        libraries=[Library.from_dict(library) for library in cluster_libraries(spec.databricks_runtime)],
    )
    job = [JobAccessControlRequest.from_dict(entry) for entry in spec.access_control()["job"]]
    run = wait_for_end(
        client, submit(client, task, timeout_seconds=spec.timeout_seconds, access_control_list=job), seconds=120
    )
    assert states(run) == SUCCESS, output(client, run).error
    master = "local[*]" if spec.workers == 0 else "local[8]"
    assert printed(client, run) == [str(spec.task_cpus or "-"), master, "-"]
    used = client.clusters.get(cluster_id(run))
    assert used.custom_tags is not None
    assert {"cost_centre", "asset"} <= set(used.custom_tags)
    assert used.num_workers == spec.workers


def test_access_lists_of_users_groups_and_service_principals_are_taken(
    client: WorkspaceClient, profile_there: MakeProfile
):
    who = (
        '{"job": [{"level": "CAN_VIEW", "group": "users"}, {"level": "CAN_MANAGE_RUN", "service_principal": "app"}],'
        ' "cluster": [{"level": "CAN_RESTART", "user": "a@b.c"}, {"level": "CAN_ATTACH_TO", "service_principal": "x"}]}'
    )
    spec = profile_there("dev", CLUSTERS__LOADER__PERMISSIONS=who).clusters.loader
    lists = spec.access_control()
    task = python_task("print(1)", client, new_cluster=NewCluster.from_dict(spec.new_cluster(tags={})))
    job = [JobAccessControlRequest.from_dict(entry) for entry in lists["job"]]
    run = wait_for_end(client, submit(client, task, access_control_list=job))
    assert states(run) == SUCCESS
    cluster = [AccessControlRequest.from_dict(entry) for entry in lists["cluster"]]
    client.permissions.update("clusters", cluster_id(run), access_control_list=cluster)
    granted = client.permissions.get("clusters", cluster_id(run)).access_control_list or []
    assert {("a@b.c", None), (None, "x")} <= {(entry.user_name, entry.service_principal_name) for entry in granted}
    granted = client.permissions.get("jobs", str(run.job_id)).access_control_list or []
    assert {("users", None), (None, "app")} <= {(entry.group_name, entry.service_principal_name) for entry in granted}


def test_both_pools_and_a_policy_are_taken(client: WorkspaceClient, workspace: Workspace, profile_there: MakeProfile):
    pools = [workspace.pools.add(name, "i3.xlarge") for name in ("workers", "driver")]
    rules: dict[str, dict[str, Any]] = {
        "data_security_mode": {"type": "fixed", "value": "SINGLE_USER"},
        "num_workers": {"type": "range", "maxValue": 2},
    }
    policy = workspace.policies.add("team", rules, creator="admin@example.com")
    spec = profile_there(
        "dev",
        CLUSTERS__TRIALS__NODE_TYPE="null",
        CLUSTERS__TRIALS__SPOT="false",
        CLUSTERS__TRIALS__INSTANCE_POOL_ID=pools[0],
        CLUSTERS__TRIALS__DRIVER_INSTANCE_POOL_ID=pools[1],
        CLUSTERS__TRIALS__POLICY_ID=policy,
    ).clusters.trials
    task = python_task("print(1)", client, new_cluster=NewCluster.from_dict(spec.new_cluster(tags={})))
    run = wait_for_end(client, submit(client, task))
    assert states(run) == SUCCESS
    used = client.clusters.get(cluster_id(run))
    assert (used.instance_pool_id, used.driver_instance_pool_id, used.policy_id) == (pools[0], pools[1], policy)


def test_a_secret_reaches_the_cluster_by_reference(
    client: WorkspaceClient, workspace: Workspace, profile_there: MakeProfile
):
    workspace.secrets.put("team", "mode", "from-the-scope")
    spec = profile_there("dev", CLUSTERS__LOADER__SPARK_ENV_VARS="{MODE: '{{secrets/team/mode}}'}").clusters.loader
    task = python_task(_TASK, client, new_cluster=NewCluster.from_dict(spec.new_cluster(tags={})))
    run = wait_for_end(client, submit(client, task), seconds=120)
    assert states(run) == SUCCESS
    assert printed(client, run)[-1] == "from-the-scope"
