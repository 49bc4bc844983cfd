"""The identity of the launching side: a token, an OAuth client, or whatever databricks-sdk finds by itself.

What belongs here: the SDK's configuration for each of them, and the secrets that it then holds. What does not: calls
(`launch.api`), which of them a deployment uses (`mlops_assets.deployment`).

The SDK's unified login covers Azure (service principal, managed identity, CLI), Google, workload identity federation
(GitHub, files of a pod or a CI) and profiles of the Databricks CLI; it reads `DATABRICKS_*` and `ARM_*` variables and
`~/.databrickscfg` ("Databricks client unified authentication").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from databricks.sdk.config import Config

from mlops_assets.errors import LaunchError

LOGIN_FIX: Final = (
    "set DATABRICKS_TOKEN, or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, to credentials of this workspace, or "
    "one of the other logins of databricks-sdk (DATABRICKS_CONFIG_PROFILE, DATABRICKS_AUTH_TYPE, ARM_CLIENT_ID)"
)
_SENSITIVE: Final = ("token", "client_secret", "azure_client_secret", "password", "google_credentials")


@dataclass(frozen=True)
class Credentials:
    """The caller's identity.

    Attributes:
        host: Address of the workspace.
        token: Personal access token.
        client_id: Application id of a service principal.
        client_secret: Its OAuth secret.
        unified: Whether databricks-sdk looks for an identity itself, if none is given here.
    """

    host: str
    token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    unified: bool = False

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Secrets that may leave this machine only as the credentials of a call; see also `held_secrets`."""
        return tuple(secret.encode() for secret in (self.token, self.client_secret) if secret)

    def config(self, **limits: Any) -> Config:
        """Return the SDK's configuration; this may call the login server.

        Args:
            limits: Time limits of the SDK.

        Raises:
            LaunchError: There is no identity, or its login fails.
        """
        identity: dict[str, Any] = {}
        # Name the type: otherwise the SDK rejects the login if it also finds other credentials in the environment.
        if self.token:
            identity = {"token": self.token, "auth_type": "pat"}
        elif self.client_id and self.client_secret:
            secret = {"client_id": self.client_id, "client_secret": self.client_secret}
            identity = {**secret, "auth_type": "oauth-m2m"}
        elif not self.unified:
            raise LaunchError("there are no credentials", where=self.host, fix=LOGIN_FIX)
        try:
            return Config(host=self.host, product="mlops_assets", product_version="0.1.0", **limits, **identity)
        except ValueError as error:  # the SDK finds no identity
            raise refused_login(self.host, error) from None


def held_secrets(config: Config) -> tuple[bytes, ...]:
    """Return the secrets that a configuration holds, also those that were looked for.

    Tokens that the SDK gets for them are not among these: they live for an hour at most, and only the SDK sees them.
    """
    found = (getattr(config, name, None) for name in _SENSITIVE)
    return tuple(secret.encode() for secret in found if secret)


def refused_login(host: str, error: ValueError) -> LaunchError:
    """Return the error for what the SDK raises when it finds no identity, or a login server refuses it."""
    what = str(error).partition(". Config: ")[0]
    return LaunchError(f"no login to the workspace: {what}", where=host, fix=LOGIN_FIX)
