"""Clusters, policies, pools and permissions through the SDK."""

from __future__ import annotations

from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, InvalidState, ResourceDoesNotExist
from databricks.sdk.service.compute import State, TerminationReasonCode, TerminationReasonType
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel

from databricks_loopback import Workspace

SMALL: dict[str, Any] = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 1}


def test_life_of_an_all_purpose_cluster(client: WorkspaceClient):
    made = client.clusters.create(cluster_name="shared", custom_tags={"team": "fraud"}, **SMALL).result()
    assert made.cluster_id is not None
    assert (made.state, made.cluster_name, made.custom_tags) == (State.RUNNING, "shared", {"team": "fraud"})
    assert made.driver_node_type_id == "i3.xlarge"
    assert made.cluster_id in [cluster.cluster_id for cluster in client.clusters.list()]
    with pytest.raises(InvalidState, match="unexpected state Running"):
        client.clusters.start(made.cluster_id)
    ended = client.clusters.delete(made.cluster_id).result()
    assert ended.termination_reason is not None
    assert ended.termination_reason.code == TerminationReasonCode.USER_REQUEST
    assert ended.termination_reason.type == TerminationReasonType.SUCCESS
    assert client.clusters.start(made.cluster_id).result().state == State.RUNNING
    client.clusters.permanent_delete(made.cluster_id)
    with pytest.raises(ResourceDoesNotExist, match=f"Cluster {made.cluster_id} does not exist"):
        client.clusters.get(made.cluster_id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spark_version": "99"}, "Invalid spark version 99"),
        ({"spark_version": "18.7.x-scala2.13"}, "Invalid spark version 18.7"),
        ({"node_type_id": "i9.none"}, "Node type i9.none is not supported. Supported node types: Standard_"),
        ({"driver_node_type_id": "i9.none"}, "Node type i9.none is not supported"),
        ({"node_type_id": None}, "Missing required field 'node_type_id'"),
        ({"num_workers": None}, "Missing required field: cluster.size"),
        ({"autoscale": {"min_workers": 1, "max_workers": 2}}, "Only one of num_workers and autoscale"),
        ({"instance_pool_id": "p"}, "'node_type_id' cannot be supplied when an instance pool ID is provided"),
        ({"instance_pool_id": "p", "node_type_id": None}, "Can't find an instance pool with id: p"),
        ({"policy_id": "p"}, "Can't find a cluster policy with id: p"),
        ({"cluster_log_conf": {"dbfs": {"destination": "/logs"}}}, "Invalid log destination /logs"),
        ({"data_security_mode": "SINGLE"}, "Invalid value 'SINGLE' for field data_security_mode; allowed: "),
        ({"num_wrokers": 1}, "Unknown field num_wrokers"),
        ({"spark_conf": {"a": 1}}, "Expected string for field spark_conf.a"),
        ({"autoscale": {"min_worker": 1}}, "Unknown field autoscale.min_worker"),
    ],
)
def test_bad_spec_is_refused(client: WorkspaceClient, change: dict[str, object], message: str):
    body = {name: value for name, value in ({**SMALL, **change}).items() if value is not None}
    with pytest.raises((BadRequest, ResourceDoesNotExist)) as caught:
        client.api_client.do("POST", "/api/2.1/clusters/create", body=body)
    assert message in str(caught.value)


def test_node_types_and_versions_can_be_listed(client: WorkspaceClient):
    node_types = client.clusters.list_node_types().node_types or []
    assert "i3.xlarge" in [node_type.node_type_id for node_type in node_types]
    versions = client.clusters.spark_versions().versions or []
    assert "18.x-scala2.13" in [version.key for version in versions]


def test_policy_is_made_and_changed(workspace: Workspace, client: WorkspaceClient):
    policy = client.cluster_policies.create(name="team", definition='{"num_workers": {"type": "fixed", "value": 9}}')
    with pytest.raises(InvalidParameterValue, match="num_workers"):
        client.clusters.create(policy_id=policy.policy_id, **SMALL)
    client.cluster_policies.edit(policy.policy_id or "", name="team 2", definition="{}")
    assert client.cluster_policies.get(policy.policy_id or "").name == "team 2"
    client.clusters.create(policy_id=policy.policy_id, **SMALL)
    with pytest.raises(BadRequest, match="not a JSON object of rules"):
        client.cluster_policies.create(name="team", definition="[1")
    with pytest.raises(ResourceDoesNotExist):
        client.cluster_policies.edit("none", name="team", definition="{}")


def test_policy_is_read_and_enforced(workspace: Workspace, client: WorkspaceClient):
    policy = workspace.policies.add(
        "small",
        {
            "spark_version": {"type": "fixed", "value": "18.x-scala2.13"},
            "node_type_id": {"type": "allowlist", "values": ["i3.xlarge", "m5d.large"]},
            "num_workers": {"type": "range", "maxValue": 2},
            "spark_conf.spark.secret": {"type": "forbidden"},
            "custom_tags.team": {"type": "unlimited", "isOptional": True},
            "dbus_per_hour": {"type": "range", "maxValue": 3},
        },
        creator="admin@example.com",
    )
    read = client.cluster_policies.get(policy)
    assert (read.name, read.creator_user_name) == ("small", "admin@example.com")
    assert policy in [other.policy_id for other in client.cluster_policies.list()]
    client.clusters.create(policy_id=policy, **SMALL)
    for change, attribute in (
        ({"spark_version": "17.3.x-scala2.13"}, "spark_version"),
        ({"node_type_id": "Standard_DS3_v2"}, "node_type_id"),
        ({"num_workers": 3}, "num_workers"),
        ({"spark_conf": {"spark.secret": "1"}}, "spark_conf.spark.secret"),
    ):
        with pytest.raises(InvalidParameterValue, match=f"Validation failed for {attribute}"):
            client.clusters.create(policy_id=policy, **(SMALL | change))
    with pytest.raises(ResourceDoesNotExist):
        client.cluster_policies.get("none")


def test_pool_is_read_and_used(workspace: Workspace, client: WorkspaceClient):
    pool = workspace.pools.add("warm", "i3.xlarge", max_capacity=4)
    read = client.instance_pools.get(pool)
    assert (read.instance_pool_name, read.max_capacity, read.node_type_id) == ("warm", 4, "i3.xlarge")
    assert pool in [other.instance_pool_id for other in client.instance_pools.list()]
    made = client.clusters.create(spark_version="18.x-scala2.13", num_workers=0, instance_pool_id=pool).result()
    assert made.instance_pool_id == pool
    with pytest.raises(ResourceDoesNotExist, match="Can't find an instance pool"):
        client.instance_pools.get("none")


def test_permissions_are_added_and_replaced(client: WorkspaceClient):
    cluster = client.clusters.create(**SMALL).result().cluster_id
    assert cluster is not None

    def grant(name: str, level: PermissionLevel) -> list[AccessControlRequest]:
        return [AccessControlRequest(group_name=name, permission_level=level)]

    client.permissions.update("clusters", cluster, access_control_list=grant("a", PermissionLevel.CAN_RESTART))
    both = client.permissions.update("clusters", cluster, access_control_list=grant("b", PermissionLevel.CAN_MANAGE))
    assert (both.object_id, both.object_type) == (f"/clusters/{cluster}", "cluster")
    groups = {entry.group_name for entry in both.access_control_list or [] if entry.group_name}
    assert groups == {"a", "b"}
    client.permissions.set("clusters", cluster, access_control_list=grant("c", PermissionLevel.CAN_ATTACH_TO))
    only = client.permissions.get("clusters", cluster).access_control_list or []
    assert {entry.group_name for entry in only if entry.group_name} == {"c"}
    assert [entry.user_name for entry in only if entry.user_name] == ["engineer@example.com"]
    levels = client.permissions.get_permission_levels("clusters", cluster).permission_levels or []
    assert PermissionLevel.CAN_RESTART in [level.permission_level for level in levels]


def test_bad_permissions_are_refused(client: WorkspaceClient):
    cluster = client.clusters.create(**SMALL).result().cluster_id
    assert cluster is not None
    for entry, message in (
        (AccessControlRequest(group_name="a", permission_level=PermissionLevel.CAN_RUN), "'CAN_RUN' is not defined"),
        (AccessControlRequest(permission_level=PermissionLevel.CAN_MANAGE), "exactly one of"),
    ):
        with pytest.raises(InvalidParameterValue, match=message):
            client.permissions.update("clusters", cluster, access_control_list=[entry])
    with pytest.raises(BadRequest, match="does not exist"):
        client.permissions.get("clusters", "none")
    with pytest.raises(BadRequest, match="Job 1 does not exist"):
        client.permissions.get("jobs", "1")
