"""Secrets API 2.0.

What belongs here: scopes and secrets over HTTP (reference: "Secret", `databricks.sdk.service.workspace.SecretsAPI`).
What does not: the values (`secret_store`), access lists of scopes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from databricks.sdk.service.workspace import SecretsAPI

from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.secret_store import SecretStore
from databricks_loopback.wire import Reply, Request, exists, invalid


class SecretScopesApi:
    """The Secrets endpoints.

    Args:
        store: The scopes.
    """

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/2.0/secrets"
        return [
            Route("GET", f"{base}/scopes/list", self._list_scopes),
            Route("POST", f"{base}/scopes/create", self._create_scope),
            Route("POST", f"{base}/scopes/delete", self._delete_scope),
            Route("GET", f"{base}/list", self._list),
            Route("GET", f"{base}/get", self._get),
            Route("POST", f"{base}/put", self._put),
            Route("POST", f"{base}/delete", self._delete),
        ]

    def _list_scopes(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        scopes = [{"name": name, "backend_type": "DATABRICKS"} for name in self._store.scopes()]
        return Reply.of({"scopes": scopes} if scopes else {})

    def _create_scope(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, SecretsAPI.create_scope)
        if not self._store.add_scope(document["scope"]):
            raise exists(f"Scope {document['scope']} already exists!")
        return Reply.of({})

    def _delete_scope(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, SecretsAPI.delete_scope)
        self._store.drop_scope(document["scope"])
        return Reply.of({})

    def _list(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        secrets = self._store.secrets(request.required("scope"))
        listed = [{"key": key, "last_updated_timestamp": secret.updated_at} for key, secret in sorted(secrets.items())]
        return Reply.of({"secrets": listed} if listed else {})

    def _get(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        key = request.required("key")
        secret = self._store.get(request.required("scope"), key)
        return Reply.of({"key": key, "value": base64.b64encode(secret.value).decode()})

    def _put(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, SecretsAPI.put_secret)
        values = [name for name in ("string_value", "bytes_value") if document.get(name) is not None]
        if len(values) != 1:
            raise invalid("Exactly one of string_value and bytes_value must be given.")
        self._store.secrets(document["scope"])
        value = document[values[0]]
        self._store.put(
            document["scope"],
            document["key"],
            value if values == ["string_value"] else base64.b64decode(value),
        )
        return Reply.of({})

    def _delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, SecretsAPI.delete_secret)
        self._store.delete(document["scope"], document["key"])
        return Reply.of({})
