"""Cluster policies and instance pools, which administrators prepare and clusters use.

What belongs here: both registries and the rules of a policy. What does not: clusters, the REST API.

Shapes: `compute.Policy`, `compute.GetInstancePool`. Policy rules: "Compute policy reference" of the Databricks docs;
`fixed`, `forbidden`, `allowlist` and `range` are enforced, defaults are not applied.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from databricks_loopback.wire import invalid, missing

# Attributes that the platform computes; a spec does not have them.
_VIRTUAL = ("dbus_per_hour", "cluster_type")


class Policies:
    """Cluster policies by id."""

    def __init__(self) -> None:
        self._policies: dict[str, dict[str, Any]] = {}

    def add(self, name: str, definition: Mapping[str, Mapping[str, Any]], *, creator: str) -> str:
        """Create a policy and return its id.

        Args:
            name: Display name.
            definition: Rules by attribute path, such as `{"spark_version": {"type": "fixed", "value": "..."}}`.
            creator: The user that creates it.
        """
        policy_id = secrets.token_hex(8).upper()
        self._policies[policy_id] = {
            "policy_id": policy_id,
            "name": name,
            "definition": json.dumps(definition),
            "creator_user_name": creator,
            "is_default": False,
        }
        return policy_id

    def edit(self, policy_id: str, name: str, definition: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace name and rules of a policy; errors as in `get`."""
        self.get(policy_id).update(name=name, definition=json.dumps(definition))

    def get(self, policy_id: str) -> dict[str, Any]:
        """Return a policy.

        Raises:
            ApiError: RESOURCE_DOES_NOT_EXIST.
        """
        if policy_id not in self._policies:
            raise missing(f"Can't find a cluster policy with id: {policy_id}.")
        return self._policies[policy_id]

    def all(self) -> list[dict[str, Any]]:
        """Return all policies."""
        return list(self._policies.values())

    def enforce(self, policy_id: str, spec: Mapping[str, Any]) -> None:
        """Reject a cluster spec that violates a rule.

        Raises:
            ApiError: INVALID_PARAMETER_VALUE, naming the attribute.
        """
        for attribute, rule in json.loads(self.get(policy_id)["definition"]).items():
            value = _attribute(spec, attribute)
            if attribute not in _VIRTUAL and not _obeys(value, rule):
                expected = {name: item for name, item in rule.items() if name != "hidden"}
                raise invalid(
                    f"Cluster validation error: Validation failed for {attribute}, the value must satisfy "
                    f"{json.dumps(expected)}; the value is {value!r}"
                )


class Pools:
    """Instance pools by id."""

    def __init__(self) -> None:
        self._pools: dict[str, dict[str, Any]] = {}

    def add(self, name: str, node_type_id: str, *, max_capacity: int = 10) -> str:
        """Create a pool of one machine type and return its id."""
        pool_id = f"{secrets.randbelow(10_000):04d}-{secrets.randbelow(1_000_000):06d}-pool-{secrets.token_hex(4)}"
        self._pools[pool_id] = {
            "instance_pool_id": pool_id,
            "instance_pool_name": name,
            "node_type_id": node_type_id,
            "min_idle_instances": 0,
            "max_capacity": max_capacity,
            "idle_instance_autotermination_minutes": 60,
            "state": "ACTIVE",
            "stats": {"used_count": 0, "idle_count": 0, "pending_used_count": 0, "pending_idle_count": 0},
            "default_tags": {"Vendor": "Databricks", "DatabricksInstancePoolId": pool_id},
        }
        return pool_id

    def get(self, pool_id: str) -> dict[str, Any]:
        """Return a pool.

        Raises:
            ApiError: RESOURCE_DOES_NOT_EXIST.
        """
        if pool_id not in self._pools:
            raise missing(f"Can't find an instance pool with id: {pool_id}.")
        return self._pools[pool_id]

    def all(self) -> list[dict[str, Any]]:
        """Return all pools."""
        return list(self._pools.values())


def _attribute(spec: Mapping[str, Any], path: str) -> Any:
    # A Spark setting has dots in its own name, so only the first one separates.
    head, _, rest = path.partition(".")
    value = spec.get(head)
    return value.get(rest) if rest and isinstance(value, Mapping) else (None if rest else value)


def _obeys(value: Any, rule: Mapping[str, Any]) -> bool:
    kind = rule["type"]
    if value is None:
        # A missing value satisfies `forbidden`, `isOptional` and a rule with a default, and violates any other rule.
        return kind == "forbidden" or bool(rule.get("isOptional")) or "defaultValue" in rule or kind == "unlimited"
    if kind == "fixed":
        return bool(value == rule["value"])
    if kind == "allowlist":
        return value in rule["values"]
    if kind == "range":
        return bool(rule.get("minValue", value) <= value <= rule.get("maxValue", value))
    return kind != "forbidden"
