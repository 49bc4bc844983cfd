"""How a process of a deployment opens landing places: its own file systems, and volumes through the workspace.

What belongs here: which of the two, and as whom. What does not: the listing itself (`data.sources.listing`, `volumes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from mlops_assets.data.sources.storage import Opener
    from mlops_assets.deployment import Deployment

_VOLUMES: Final = "/Volumes/"
# Dagster aborts a tick after 60 s, and a tick may list several places.
_PATIENCE_S: Final = 10


def opener_of(deployment: Deployment) -> Opener:
    """Return what opens the places that a sensor looks at.

    On a cluster volumes are mounted. Where Dagster runs they are not, and a path of that name finds nothing.
    """
    made: list[Any] = []

    def opened(item: str) -> tuple[Any, str]:
        from mlops_assets.data.sources.storage import file_system

        if deployment.target != "databricks" or deployment.on_cluster or not item.startswith(_VOLUMES):
            return file_system(item)
        if not made:
            from mlops_assets.resources.volumes import Volumes

            made.append(Volumes(lambda: connected(deployment)))
        return made[0], item

    return opened


def connected(deployment: Deployment) -> WorkspaceClient:
    """Return a client of the deployment's workspace that does not wait long; nothing is called yet."""
    from databricks.sdk import WorkspaceClient

    from mlops_assets.databricks.login import Credentials

    login = deployment.databricks_login()
    credentials = Credentials(deployment.profile().host, **login, unified=not login)
    return WorkspaceClient(
        config=credentials.config(http_timeout_seconds=_PATIENCE_S, retry_timeout_seconds=_PATIENCE_S)
    )
