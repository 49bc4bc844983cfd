"""Permissions API 2.0 of jobs, clusters and what else has an access list.

What belongs here: reading, setting and adding to an access list (reference: "Permissions",
`databricks.sdk.service.iam.PermissionsAPI`). What does not: enforcing it; one person owns this workspace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from databricks.sdk.service.iam import AccessControlRequest

from databricks_loopback.routing import Route
from databricks_loopback.schema import check_object
from databricks_loopback.wire import Reply, Request, invalid, malformed, not_emulated

# Object type in the path -> its name in answers, and its levels.
_TYPES = {
    "jobs": ("job", ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE")),
    "clusters": ("cluster", ("CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE")),
    "cluster-policies": ("cluster-policy", ("CAN_USE",)),
    "instance-pools": ("instance-pool", ("CAN_ATTACH_TO", "CAN_MANAGE")),
}
_PRINCIPALS = ("user_name", "group_name", "service_principal_name")


class PermissionsApi:
    """The Permissions endpoints.

    Args:
        check_exists: Raises an ApiError if there is no object of a type and id.
        owner: The user with all permissions.
    """

    def __init__(self, check_exists: Callable[[str, str], None], owner: str) -> None:
        self._check_exists, self._owner = check_exists, owner
        self._lists: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        path = "/api/2.0/permissions/{type}/{id}"
        return [
            Route("GET", path, self._get),
            Route("PUT", path, self._set),
            Route("PATCH", path, self._update),
            Route("GET", f"{path}/permissionLevels", self._levels),
        ]

    def grant(self, object_type: str, object_id: str, entries: list[dict[str, Any]], *, replace: bool) -> None:
        """Change an access list.

        Args:
            object_type: `jobs`, `clusters` ...
            object_id: Id of the object.
            entries: `access_control_list` of a request.
            replace: Whether other direct entries are removed.

        Raises:
            ApiError: An entry does not have one principal and a level, or the type has no such level.
        """
        allowed = _TYPES[object_type][1]
        granted = {}
        for index, entry in enumerate(entries):
            where = f"access_control_list[{index}]"
            check_object(entry, AccessControlRequest, where)
            principals = [(name, entry[name]) for name in _PRINCIPALS if entry.get(name)]
            if len(principals) != 1:
                raise invalid(f"{where} must name exactly one of {', '.join(_PRINCIPALS)}")
            if entry.get("permission_level") not in allowed:
                raise invalid(
                    f"Permission type '{entry.get('permission_level')}' is not defined for {object_type}; "
                    f"defined: {', '.join(allowed)}"
                )
            granted[principals[0]] = entry["permission_level"]
        with self._lock:
            current = {} if replace else self._lists.get((object_type, object_id), {})
            self._lists[object_type, object_id] = current | granted

    def _get(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        return self._answer(*self._object(parts))

    def _set(self, request: Request, parts: Mapping[str, str]) -> Reply:
        return self._change(request, parts, replace=True)

    def _update(self, request: Request, parts: Mapping[str, str]) -> Reply:
        return self._change(request, parts, replace=False)

    def _change(self, request: Request, parts: Mapping[str, str], *, replace: bool) -> Reply:
        object_type, object_id = self._object(parts)
        document = request.document()
        if set(document) - {"access_control_list"}:
            raise malformed(f"Unknown field {', '.join(sorted(set(document) - {'access_control_list'}))}")
        entries = document.get("access_control_list") or []
        self.grant(object_type, object_id, entries, replace=replace)
        return self._answer(object_type, object_id)

    def _levels(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        object_type, _ = self._object(parts)
        levels = [{"permission_level": level, "description": ""} for level in _TYPES[object_type][1]]
        return Reply.of({"permission_levels": levels})

    def _object(self, parts: Mapping[str, str]) -> tuple[str, str]:
        if parts["type"] not in _TYPES:
            raise not_emulated(f"permissions of {parts['type']}")
        self._check_exists(parts["type"], parts["id"])
        return parts["type"], parts["id"]

    def _answer(self, object_type: str, object_id: str) -> Reply:
        with self._lock:
            granted = dict(self._lists.get((object_type, object_id), {}))
        strongest = "IS_OWNER" if object_type == "jobs" else _TYPES[object_type][1][-1]
        granted.setdefault(("user_name", self._owner), strongest)
        entries = [
            {
                kind: name,
                "display_name": name,
                "all_permissions": [{"permission_level": level, "inherited": False}],
            }
            for (kind, name), level in granted.items()
        ]
        own_name = _TYPES[object_type][0]
        return Reply.of(
            {"object_id": f"/{object_type}/{object_id}", "object_type": own_name, "access_control_list": entries}
        )
