"""Checks of the clusters that a profile describes: versions, runtime, machine types, pools, policies.

What belongs here: checks that do not start a cluster. What does not: the rest of the workspace (`workspace`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from databricks.sdk import WorkspaceClient

from mlops_assets.databricks.cluster import ClusterSpec
from mlops_assets.databricks.preflight import Finding, compare, local_versions, runtime_versions
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.diagnostics.findings import WORKSPACE_ERRORS, in_one_line, is_there, ok, wrong


def check_versions(profile: DatabricksProfile) -> Iterator[Finding]:
    """Compare the versions installed here with those of each new cluster of the profile."""
    here = local_versions()
    for spec in (profile.clusters.loader, profile.clusters.trials):
        if spec.existing_cluster_id is not None:
            continue  # its versions are compared when a step starts there
        differences = compare(here, runtime_versions(spec.databricks_runtime))
        subject = f"versions of {spec.cost_class}"
        for difference in differences:
            yield replace(difference, subject=subject, text=f"{difference.subject} {difference.text}")
        if not differences:
            yield ok(subject, f"runtime {spec.runtime} matches this environment")


def check_cluster(client: WorkspaceClient, spec: ClusterSpec) -> Iterator[Finding]:
    """Check that the workspace has the parts of a cluster: runtime, machine types, pools, policy."""
    place = f"clusters.{spec.cost_class}"
    if spec.existing_cluster_id is not None:
        yield _existing(client, spec, place)
        return
    if spec.compute == "serverless":
        # No API of a workspace lists its environment versions; the first run shows whether it has this one.
        yield ok(f"{place}.compute", f"serverless, environment version {spec.databricks_runtime.environment_version}")
        return
    yield _runtime(client, spec, place)
    for field, node_type in (("node_type", spec.node_type), ("driver_node_type", spec.driver_node_type)):
        if node_type is not None:
            yield _node_type(client, spec, f"{place}.{field}", node_type)
    for field, pool in (
        ("instance_pool_id", spec.instance_pool_id),
        ("driver_instance_pool_id", spec.driver_instance_pool_id),
    ):
        if pool is not None:
            look = partial(client.instance_pools.get, pool)
            yield is_there(f"{place}.{field}", pool, look, "set a pool that you are allowed to attach to")
    if spec.policy_id is not None:
        policy = partial(client.cluster_policies.get, spec.policy_id)
        fix = "set a cluster policy that you are allowed to use, or remove it"
        yield is_there(f"{place}.policy_id", spec.policy_id, policy, fix)


def _existing(client: WorkspaceClient, spec: ClusterSpec, place: str) -> Finding:
    subject, cluster_id = f"{place}.existing_cluster_id", str(spec.existing_cluster_id)
    try:
        details = client.clusters.get(cluster_id)
    except WORKSPACE_ERRORS as error:
        return wrong(subject, f"{cluster_id}: {in_one_line(error)}; set a cluster that you are allowed to attach to")
    idle, most = details.autotermination_minutes or 0, spec.autotermination_minutes
    if most is not None and not 0 < idle <= most:
        ends = f"terminates after {idle} idle minutes" if idle else "never terminates on its own"
        return wrong(subject, f"{cluster_id} {ends}; set its auto-termination to {most} minutes or less")
    return ok(subject, f"{cluster_id} exists")


def _runtime(client: WorkspaceClient, spec: ClusterSpec, place: str) -> Finding:
    subject = f"{place}.runtime"
    try:
        offered = [version.key or "" for version in client.clusters.spark_versions().versions or []]
    except WORKSPACE_ERRORS as error:
        return wrong(subject, f"the list of runtimes: {in_one_line(error)}; request permission to create clusters")
    if spec.api_spark_version in offered:
        return ok(subject, f"{spec.api_spark_version} is offered")
    builds = [key for key in offered if spec.databricks_runtime.names(key)]
    fix = f"set spark_version to {' or '.join(builds)}" if builds else "choose another runtime"
    return wrong(subject, f"this workspace does not offer {spec.api_spark_version}; {fix}")


def _node_type(client: WorkspaceClient, spec: ClusterSpec, subject: str, name: str) -> Finding:
    try:
        offered = {node.node_type_id: node.num_cores for node in client.clusters.list_node_types().node_types or []}
    except WORKSPACE_ERRORS as error:
        return wrong(subject, f"the list of machine types: {in_one_line(error)}; request permission to create clusters")
    if name not in offered:
        listed = ", ".join(sorted(offered)[:8])
        return wrong(subject, f"this workspace does not offer {name}; choose one that it offers, such as {listed}")
    cores = int(offered[name])
    if spec.cost_class == "trials" and name == spec.node_type and spec.task_cpus != cores:
        text = f"{name} has {cores} cores and task_cpus is {spec.task_cpus}; set it to {cores}: one trial per worker"
        return wrong(subject, text)
    return ok(subject, f"{name} is offered, {cores} cores")
