"""Secret scopes, and references to them in a cluster's settings.

What belongs here: scopes, secrets, `{{secrets/scope/key}}`. What does not: the REST API (`api.secret_scopes`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from databricks_loopback.wire import missing

# The reference must be the whole value, and blanks would be part of the names (Databricks, "Use a secret in a Spark
# configuration property or environment variable").
_REFERENCE = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")


class UnresolvedSecretError(Exception):
    """A reference names a scope or key that does not exist."""


@dataclass(frozen=True)
class Secret:
    """A stored value.

    Attributes:
        value: The bytes.
        updated_at: When it was last written, in ms since the epoch.
    """

    value: bytes
    updated_at: int


class SecretStore:
    """All scopes with their secrets."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, Secret]] = {}
        self._lock = threading.Lock()

    def scopes(self) -> list[str]:
        """Return the names of all scopes, sorted."""
        with self._lock:
            return sorted(self._scopes)

    def add_scope(self, scope: str) -> bool:
        """Create a scope; False if it existed."""
        with self._lock:
            if scope in self._scopes:
                return False
            self._scopes[scope] = {}
            return True

    def drop_scope(self, scope: str) -> None:
        """Remove a scope with its secrets."""
        self.secrets(scope)
        with self._lock:
            del self._scopes[scope]

    def secrets(self, scope: str) -> dict[str, Secret]:
        """Return the secrets of a scope by key.

        Raises:
            ApiError: RESOURCE_DOES_NOT_EXIST.
        """
        with self._lock:
            if scope not in self._scopes:
                raise missing(f"Scope {scope} does not exist!")
            return dict(self._scopes[scope])

    def get(self, scope: str, key: str) -> Secret:
        """Return one secret.

        Raises:
            ApiError: RESOURCE_DOES_NOT_EXIST.
        """
        secrets = self.secrets(scope)
        if key not in secrets:
            raise missing(f"Secret does not exist with scope: {scope} and key: {key}")
        return secrets[key]

    def put(self, scope: str, key: str, value: str | bytes) -> None:
        """Store a secret, creating the scope if necessary."""
        data = value.encode() if isinstance(value, str) else value
        self.add_scope(scope)
        with self._lock:
            self._scopes[scope][key] = Secret(data, int(time.time() * 1000))

    def delete(self, scope: str, key: str) -> None:
        """Remove one secret; errors as in `get`."""
        self.get(scope, key)
        with self._lock:
            del self._scopes[scope][key]

    def resolve(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return settings with each `{{secrets/scope/key}}` replaced by its value, as a starting cluster does.

        Raises:
            UnresolvedSecretError: A scope or key does not exist.
        """
        return {name: self._resolved(value) for name, value in settings.items()}

    def _resolved(self, value: str) -> str:
        match = _REFERENCE.fullmatch(value)
        if match is None:
            return value
        with self._lock:
            secret = self._scopes.get(match[1], {}).get(match[2])
        if secret is None:
            raise UnresolvedSecretError(value)
        return secret.value.decode()

    def everything(self) -> dict[str, dict[str, bytes]]:
        """Return all values by scope and key, for the `dbutils` of a cluster."""
        with self._lock:
            return {
                scope: {key: secret.value for key, secret in secrets.items()} for scope, secrets in self._scopes.items()
            }
