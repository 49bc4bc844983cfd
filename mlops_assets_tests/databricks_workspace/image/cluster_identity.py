"""Who a cluster is: the runtime's own module from which clients on it get address and credentials of the workspace.

What belongs here: the one function of it that databricks-sdk looks for (`databricks.sdk.runtime`, and the credentials
strategy `runtime`), and through it MLflow. What does not: what the identity may do.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable


def define(host: str, token: str) -> None:
    """Make `dbruntime.sdk_credential_provider` importable.

    Args:
        host: Address of the workspace.
        token: The cluster's own token, which no client has ever sent.
    """

    def init_runtime_native_auth() -> tuple[str, Callable[[], dict[str, str]]]:
        return host, lambda: {"Authorization": f"Bearer {token}"}

    package, provider = types.ModuleType("dbruntime"), types.ModuleType("dbruntime.sdk_credential_provider")
    vars(package)["__path__"] = []
    vars(package)["sdk_credential_provider"] = provider
    vars(provider)["init_runtime_native_auth"] = init_runtime_native_auth
    sys.modules.update({package.__name__: package, provider.__name__: provider})
