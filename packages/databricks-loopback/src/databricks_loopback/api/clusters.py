"""Clusters API 2.1, with cluster policies and instance pools.

What belongs here: the calls that launchers use (reference: "Clusters", "Cluster policies", "Instance pools";
`databricks.sdk.service.compute`). What does not: the clusters themselves (`clusters`, `compute_presets`).

An all-purpose cluster is RUNNING as soon as it is created or started; it gets a machine when a task needs one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from databricks.sdk.service.compute import ClusterPoliciesAPI, ClustersAPI

from databricks_loopback.clusters import SPARK_VERSIONS, Clusters
from databricks_loopback.compute_presets import Policies, Pools
from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.wire import ApiError, Reply, Request, malformed

_CORES, _MEMORY_MB = 4.0, 16_384


class ClustersApi:
    """The endpoints of compute.

    Args:
        clusters: All clusters.
        policies: All policies.
        pools: All pools.
    """

    def __init__(self, clusters: Clusters, policies: Policies, pools: Pools) -> None:
        self._clusters, self._policies, self._pools = clusters, policies, pools

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/{v}/clusters"
        return [
            Route("GET", f"{base}/get", self._get),
            Route("GET", f"{base}/list", self._list),
            Route("POST", f"{base}/create", self._create),
            Route("POST", f"{base}/start", self._start),
            Route("POST", f"{base}/delete", self._terminate),
            Route("POST", f"{base}/permanent-delete", self._permanent_delete),
            Route("GET", f"{base}/list-node-types", self._list_node_types),
            Route("GET", f"{base}/spark-versions", self._spark_versions),
            Route("GET", "/api/2.0/policies/clusters/get", self._get_policy),
            Route("GET", "/api/2.0/policies/clusters/list", self._list_policies),
            Route("POST", "/api/2.0/policies/clusters/create", self._create_policy),
            Route("POST", "/api/2.0/policies/clusters/edit", self._edit_policy),
            Route("GET", "/api/2.0/instance-pools/get", self._get_pool),
            Route("GET", "/api/2.0/instance-pools/list", self._list_pools),
        ]

    def _get(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._clusters.get(request.required("cluster_id")).details())

    def _list(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"clusters": [cluster.details() for cluster in self._clusters.all()]})

    def _create(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClustersAPI.create)
        self._clusters.check({name: item for name, item in document.items() if name != "clone_from"}, "")
        cluster = self._clusters.add(document, source="API", creator=request.user)
        cluster.run()
        return Reply.of({"cluster_id": cluster.id})

    def _start(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClustersAPI.start)
        cluster = self._clusters.get(document["cluster_id"])
        if cluster.state != "TERMINATED":
            message = f"Cluster {cluster.id} is in unexpected state {cluster.state.title()}."
            raise ApiError(400, "INVALID_STATE", message)
        cluster.begin()
        cluster.run()
        return Reply.of({})

    def _terminate(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClustersAPI.delete)
        cluster = self._clusters.get(document["cluster_id"])
        if cluster.state != "TERMINATED":
            cluster.end("USER_REQUEST", "SUCCESS", {"username": request.user})
        return Reply.of({})

    def _permanent_delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClustersAPI.permanent_delete)
        self._clusters.forget(document["cluster_id"])
        return Reply.of({})

    def _list_node_types(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"node_types": [_node_type(name) for name in sorted(self._clusters.node_types)]})

    def _spark_versions(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"versions": [{"key": version, "name": version} for version in SPARK_VERSIONS]})

    def _get_policy(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._policies.get(request.required("policy_id")))

    def _list_policies(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"policies": self._policies.all()})

    def _create_policy(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClusterPoliciesAPI.create)
        definition = _definition(document)
        return Reply.of({"policy_id": self._policies.add(document["name"], definition, creator=request.user)})

    def _edit_policy(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, ClusterPoliciesAPI.edit)
        self._policies.edit(document["policy_id"], document["name"], _definition(document))
        return Reply.of({})

    def _get_pool(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._pools.get(request.required("instance_pool_id")))

    def _list_pools(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"instance_pools": self._pools.all()})


def _definition(document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    try:
        return dict(json.loads(document["definition"]))
    except (KeyError, TypeError, ValueError):
        raise malformed("Policy definition is not a JSON object of rules") from None


def _node_type(name: str) -> dict[str, Any]:
    return {
        "node_type_id": name,
        "instance_type_id": name,
        "description": name,
        "category": "General Purpose",
        "num_cores": _CORES,
        "memory_mb": _MEMORY_MB,
        "is_deprecated": False,
    }
