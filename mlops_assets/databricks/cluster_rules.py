"""The rules of a cluster's fields that concern more than one of them; each raises `ValueError`.

What belongs here: rules of the Clusters API, and those of SparkTrials. What does not: the fields (`cluster`), runtimes
(`runtimes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlops_assets.databricks.cluster import ClusterSpec

# A cluster has at most 45 tags; a launch adds four of its own (`launch.attempt`).
MOST_TAGS: Final = 45 - 4
LONGEST_TAG: Final = 255
_TAG_NAME = 127


def check_compute(cluster: ClusterSpec) -> None:
    """Refuse an image of the other kind of compute."""
    if bool(cluster.databricks_runtime.environment_version) != (cluster.compute == "serverless"):
        raise ValueError(f"runtime {cluster.runtime} does not fit compute: {cluster.compute}")


def check_serverless(cluster: ClusterSpec) -> None:
    """Refuse what serverless compute does not have."""
    if cluster.cost_class == "trials":
        raise ValueError("compute: serverless is for the loader: SparkTrials needs a SparkContext")
    more = {
        "existing_cluster_id": cluster.existing_cluster_id,
        "autotermination_minutes": cluster.autotermination_minutes,
    }
    given = [*_given(cluster), *(name for name, value in more.items() if value is not None)]
    if cluster.task_cpus is not None:
        given.append("task_cpus")
    if cluster.reuse_minutes:
        given.append("reuse_minutes")
    if given:
        raise ValueError(f"serverless compute has no {', '.join(given)}; remove them here")


def check_existing(cluster: ClusterSpec) -> None:
    """Refuse what an existing cluster decides itself."""
    given = _given(cluster)
    if given:
        raise ValueError(f"an existing cluster has its own {', '.join(given)}; remove them here")


def _given(cluster: ClusterSpec) -> list[str]:
    """Return the fields of a new cluster that are set."""
    own = {
        "workers": cluster.workers is not None,
        "autoscale": cluster.autoscale is not None,
        "node_type": cluster.node_type is not None,
        "driver_node_type": cluster.driver_node_type is not None,
        "instance_pool_id": cluster.instance_pool_id is not None,
        "driver_instance_pool_id": cluster.driver_instance_pool_id is not None,
        "spot": cluster.spot,
        "policy_id": cluster.policy_id is not None,
        "runtime_engine": cluster.runtime_engine is not None,
        "instance_profile_arn": cluster.instance_profile_arn is not None,
        "init_scripts": bool(cluster.init_scripts),
        "log_destination": cluster.log_destination is not None,
        "spark_conf": bool(cluster.spark_conf),
        "spark_env_vars": bool(cluster.spark_env_vars),
        "tags": bool(cluster.tags),
        # dagster-databricks rejects this one only after it has submitted, and abandons the run.
        "permissions.cluster": bool(cluster.permissions.cluster),
    }
    return [name for name, is_given in own.items() if is_given]


def check_size(cluster: ClusterSpec) -> None:
    """Refuse a cluster without one size, or with a setting of all-purpose clusters."""
    if (cluster.workers is None) == (cluster.autoscale is None):
        raise ValueError("give exactly one of workers and autoscale")
    if cluster.autotermination_minutes is not None:
        raise ValueError(
            "autotermination_minutes is for existing clusters: a job's cluster ends with its run; use timeout_minutes"
        )


def check_machines(cluster: ClusterSpec) -> None:
    """Refuse machines that contradict each other."""
    if (cluster.node_type is None) == (cluster.instance_pool_id is None):
        raise ValueError("give exactly one of node_type and instance_pool_id")
    if cluster.instance_pool_id is None and cluster.driver_instance_pool_id is not None:
        raise ValueError("driver_instance_pool_id needs instance_pool_id for the workers")
    if cluster.instance_pool_id is not None and cluster.driver_node_type is not None:
        raise ValueError("with instance_pool_id the driver comes from a pool too; use driver_instance_pool_id")
    if cluster.spot and cluster.instance_pool_id is not None:
        raise ValueError("the pool decides about spot; for an on-demand driver set driver_instance_pool_id")
    if cluster.spot and cluster.cloud is None:
        raise ValueError("spot needs the cloud; set cloud to aws, azure or gcp")
    if cluster.instance_profile_arn is not None and cluster.cloud not in (None, "aws"):
        raise ValueError(f"instance_profile_arn is for AWS, and the workspace is on {cluster.cloud}; remove it")
    if cluster.apply_policy_default_values and cluster.policy_id is None:
        raise ValueError("apply_policy_default_values needs policy_id")


def check_trials(cluster: ClusterSpec) -> None:
    """Refuse a cluster on which SparkTrials would not run one trial per worker."""
    if cluster.autoscale is not None:
        raise ValueError("trials can't autoscale: SparkTrials fixes its parallelism when it starts; give workers")
    if cluster.workers == 0:
        raise ValueError("trials need at least one worker")
    if cluster.task_cpus is None:
        raise ValueError("trials need task_cpus: the number of cores of a worker")


def check_reuse(cluster: ClusterSpec) -> None:
    """Refuse a wait for the next step where it saves no start, or where no time would be left for that step."""
    if not cluster.reuse_minutes:
        return
    if cluster.existing_cluster_id is not None:
        raise ValueError("an existing cluster needs no reuse_minutes: its steps start no cluster")
    if 2 * cluster.reuse_minutes > cluster.timeout_minutes:
        raise ValueError("reuse_minutes is at most half of timeout_minutes, which ends the cluster whatever it does")


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse too many tags, and those that are too long."""
    if len(tags) > MOST_TAGS:
        raise ValueError(f"{len(tags)} tags; the limit is {MOST_TAGS}")
    for name, value in tags.items():
        if not 1 <= len(name) <= _TAG_NAME or len(value) > LONGEST_TAG:
            raise ValueError(f"tag {name[:40]!r}: a name has 1 to {_TAG_NAME} characters, a value up to {LONGEST_TAG}")
