"""The identity of a cluster: the runtime's package from which clients get the workspace's address and credentials.

What belongs here: what databricks-sdk (`databricks.sdk.runtime`, and the credentials strategy `runtime`) and through it
MLflow look for. What does not: the permissions of the identity.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any


def define(host: str, token: str, namespace: dict[str, Any]) -> None:
    """Make `dbruntime` importable.

    Args:
        host: Address of the workspace.
        token: The cluster's own token, which differs from every client's.
        namespace: The task's globals, some of which the SDK exports as its own.
    """

    def init_runtime_native_auth() -> tuple[str, Callable[[], dict[str, str]]]:
        return host, lambda: {"Authorization": f"Bearer {token}"}

    class UserNamespaceInitializer:
        @classmethod
        def getOrCreate(cls) -> UserNamespaceInitializer:  # noqa: N802 - the runtime's name
            return cls()

        def get_namespace_globals(self) -> dict[str, Any]:
            return namespace

    package, provider = types.ModuleType("dbruntime"), types.ModuleType("dbruntime.sdk_credential_provider")
    vars(package).update(__path__=[], UserNamespaceInitializer=UserNamespaceInitializer)
    vars(provider).update(init_runtime_native_auth=init_runtime_native_auth)
    sys.modules.update({package.__name__: package, provider.__name__: provider})
