"""SCIM API 2.0: the current user.

What belongs here: that one call (reference: "Current user", RFC 7643). What does not: tokens (`auth`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from databricks_loopback.routing import Route
from databricks_loopback.wire import Reply, Request


def routes() -> list[Route]:
    """Return the endpoint."""
    return [Route("GET", "/api/2.0/preview/scim/v2/Me", _me)]


def _me(request: Request, _parts: Mapping[str, str]) -> Reply:
    name = request.user.split("@")[0]
    return Reply.of(
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "id": str(zlib.crc32(request.user.encode())),
            "userName": request.user,
            "displayName": name,
            "active": True,
            "emails": [{"type": "work", "value": request.user, "primary": True}] if "@" in request.user else [],
            "groups": [{"display": "users", "type": "direct", "value": "1"}],
        }
    )
