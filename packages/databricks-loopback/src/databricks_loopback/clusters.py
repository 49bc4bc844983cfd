"""Clusters: their specs, their states, and the specs that a workspace rejects.

What belongs here: a cluster's record, its validation, the registry. What does not: processes (`runner`), the
REST API (`api.clusters`).

Shapes: `databricks.sdk.service.compute.ClusterDetails`. Messages follow those that users report (databricks/cli
issue 838, PrefectHQ/prefect issue 5890, databricks-sdk's own error overrides).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

from databricks.sdk.service.compute import ClusterSpec

from databricks_loopback.compute_presets import Policies, Pools
from databricks_loopback.schema import check_object
from databricks_loopback.start_failures import StartFailure
from databricks_loopback.wire import invalid

State = Literal["PENDING", "RUNNING", "TERMINATING", "TERMINATED"]
Source = Literal["JOB", "API", "SERVERLESS"]

NODE_TYPES = ("i3.xlarge", "m5d.large", "m6gd.large", "Standard_DS3_v2", "Standard_D4ds_v5", "n2-highmem-4")
# The images that can be asked for, each with the release that its processes name.
SPARK_VERSIONS = {
    "18.x-scala2.13": "18.2",
    "18.x-photon-scala2.13": "18.2",
    "18.x-cpu-ml-scala2.13": "18.2",
    "17.3.x-scala2.13": "17.3",
    "17.3.x-photon-scala2.13": "17.3",
    "17.3.x-cpu-ml-scala2.13": "17.3",
    "16.4.x-scala2.13": "16.4",
    "16.4.x-scala2.12": "16.4",
}
_CORES, _MEMORY_MB = 4.0, 16_384
# In these modes Python runs behind Spark Connect: no SparkContext, and no FUSE mount of DBFS.
_SHARED_MODES = ("USER_ISOLATION", "DATA_SECURITY_MODE_STANDARD", "LEGACY_TABLE_ACL", "LEGACY_PASSTHROUGH")


def now_ms() -> int:
    """Return the time in ms since the epoch, the unit of all times of the API."""
    return time.time_ns() // 1_000_000


class Cluster:
    """One cluster, of a job or all-purpose.

    Args:
        spec: The `new_cluster` or `clusters/create` object.
        source: `JOB` for a job's own cluster, `API` for an all-purpose one, `SERVERLESS` for none (`serverless`).
        creator: The user that requested it.

    Attributes:
        id: Such as `1123-183000-ab12cd34`.
        state: One of `compute.State`.
        starting: Lock held by the task that starts it.
        lost: Set when the cloud reclaims its machines; its tasks poll it.
    """

    def __init__(self, spec: Mapping[str, Any], *, source: Source, creator: str) -> None:
        self.id = f"{time.strftime('%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.spec, self.source, self.creator = dict(spec), source, creator
        self.spark_context_id = secrets.randbits(62)
        self.state: State = "PENDING"
        self.state_message = "Finding instances for new nodes, acquiring more instances if necessary"
        self.started_at, self.ended_at = now_ms(), 0
        self.reason: dict[str, Any] | None = None
        self.starting = threading.Lock()
        self.lost = threading.Event()

    @property
    def runtime_version(self) -> str:
        """`DATABRICKS_RUNTIME_VERSION` of its processes, such as `18.2`."""
        return SPARK_VERSIONS[self.spec["spark_version"]]

    @property
    def is_shared(self) -> bool:
        """Whether its access mode denies Python the SparkContext and `/dbfs`."""
        return self.spec.get("data_security_mode") in _SHARED_MODES

    @property
    def log_destination(self) -> str:
        """Folder for delivered logs, empty if none was requested."""
        conf = self.spec.get("cluster_log_conf") or {}
        return str((conf.get("dbfs") or conf.get("volumes") or {}).get("destination", ""))

    def begin(self) -> None:
        """Record that it starts."""
        self.state, self.state_message = "PENDING", "Starting Spark"
        self.started_at, self.ended_at, self.reason = now_ms(), 0, None
        self.lost.clear()

    def run(self) -> None:
        """Record that it runs."""
        self.state, self.state_message = "RUNNING", ""

    def end(self, code: str, kind: str, parameters: Mapping[str, str] | None = None) -> None:
        """Record that it terminated, for a reason such as JOB_FINISHED of type SUCCESS."""
        self.state, self.state_message, self.ended_at = "TERMINATED", "", now_ms()
        self.reason = {"code": code, "type": kind, "parameters": dict(parameters or {})}

    def fail(self, failure: StartFailure) -> None:
        """Record that the platform or the cloud ended it."""
        self.end(failure.code, failure.type, failure.parameters)
        self.state_message = failure.cluster_message()

    def lose(self) -> None:
        """Reclaim its machines now: every task on it is killed (`Faults.spot_loss` does it after a delay)."""
        self.lost.set()

    def details(self) -> dict[str, Any]:
        """Return the cluster in the shape of `clusters/get`."""
        workers = int(self.spec.get("num_workers") or (self.spec.get("autoscale") or {}).get("min_workers", 0))
        node_type = self.spec.get("node_type_id")
        details: dict[str, Any] = {
            "cluster_name": "",
            "num_workers": workers,
            **{name: value for name, value in self.spec.items() if value is not None},
            "cluster_id": self.id,
            "creator_user_name": self.creator,
            "spark_context_id": self.spark_context_id,
            "driver_node_type_id": self.spec.get("driver_node_type_id") or node_type,
            "cluster_source": self.source,
            "default_tags": {"Vendor": "Databricks", "Creator": self.creator, "ClusterId": self.id},
            "state": self.state,
            "state_message": self.state_message,
            "start_time": self.started_at,
            "cluster_cores": _CORES * (workers + 1),
            "cluster_memory_mb": _MEMORY_MB * (workers + 1),
            "spec": self.spec,
        }
        if self.ended_at:
            details |= {"terminated_time": self.ended_at, "termination_reason": self.reason}
        return {name: value for name, value in details.items() if value is not None}


class Clusters:
    """All clusters of the workspace, including terminated ones.

    Args:
        policies: Cluster policies that specs can use.
        pools: Instance pools that specs can use.

    Attributes:
        node_types: Available machine types.
    """

    def __init__(self, policies: Policies, pools: Pools) -> None:
        self._policies, self._pools = policies, pools
        self._clusters: dict[str, Cluster] = {}
        self._lock = threading.Lock()
        self.node_types = set(NODE_TYPES)

    def all(self) -> list[Cluster]:
        """Return all clusters, oldest first."""
        with self._lock:
            return list(self._clusters.values())

    def add(self, spec: Mapping[str, Any], *, source: Literal["JOB", "API"], creator: str) -> Cluster:
        """Create a PENDING cluster from a checked spec."""
        cluster = Cluster(spec, source=source, creator=creator)
        with self._lock:
            self._clusters[cluster.id] = cluster
        return cluster

    def get(self, cluster_id: str) -> Cluster:
        """Return a cluster.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE, with a message that the SDK maps to ResourceDoesNotExist.
        """
        with self._lock:
            cluster = self._clusters.get(cluster_id)
        if cluster is None:
            raise invalid(f"Cluster {cluster_id} does not exist")
        return cluster

    def forget(self, cluster_id: str) -> None:
        """Remove a cluster for good."""
        self.get(cluster_id)
        with self._lock:
            del self._clusters[cluster_id]

    def check(self, spec: Mapping[str, Any], where: str) -> None:
        """Reject an invalid spec.

        Args:
            spec: The `new_cluster` or `clusters/create` object.
            where: Its path in the request, for messages.

        Raises:
            ApiError: MALFORMED_REQUEST or INVALID_PARAMETER_VALUE.
        """
        check_object(spec, ClusterSpec, where)
        if spec.get("spark_version") not in SPARK_VERSIONS:
            raise invalid(f"Invalid spark version {spec.get('spark_version')}.")
        sizes = [name for name in ("num_workers", "autoscale") if spec.get(name) is not None]
        if not sizes and not spec.get("is_single_node"):
            raise invalid(f"Cluster validation error: Missing required field: {where or 'cluster'}.size")
        if len(sizes) > 1:
            raise invalid("Cluster validation error: Only one of num_workers and autoscale may be set.")
        self._check_nodes(spec)
        for conf in (spec.get("cluster_log_conf") or {}).values():
            if conf is not None and not str(conf.get("destination", "")).startswith(("dbfs:/", "/Volumes/", "s3://")):
                raise invalid(f"Cluster validation error: Invalid log destination {conf.get('destination')}.")
        if spec.get("policy_id"):
            self._policies.enforce(str(spec["policy_id"]), spec)

    def _check_nodes(self, spec: Mapping[str, Any]) -> None:
        if spec.get("instance_pool_id"):
            if spec.get("node_type_id"):
                raise invalid("The field 'node_type_id' cannot be supplied when an instance pool ID is provided.")
            for name in ("instance_pool_id", "driver_instance_pool_id"):
                if spec.get(name):
                    self._pools.get(str(spec[name]))
            return
        if not spec.get("node_type_id"):
            raise invalid("Missing required field 'node_type_id'")
        for name in ("node_type_id", "driver_node_type_id"):
            if spec.get(name) and spec[name] not in self.node_types:
                supported = ", ".join(sorted(self.node_types))
                raise invalid(f"Node type {spec[name]} is not supported. Supported node types: {supported}")
