"""Keeping credentials out of what is written down: references to secrets, and what must be one.

What belongs here: what looks like a credential, what is never sent to a cluster, and how a secret is referred to. What
does not: the launching identity's own credentials (`launch.api`), secret scopes themselves (`diagnostics`).

The syntax of references: "Use a secret in a Spark configuration property or environment variable" of the Databricks
reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlops_assets.errors import SettingsError

_REFERENCE = re.compile(r"\{\{secrets/(?P<scope>[^/{}\s]+)/(?P<key>[^/{}\s]+)\}\}")
# Whole words, so that TOKENIZERS_PARALLELISM does not match.
_SECRET_NAME = re.compile(
    r"(?i)(?:^|[^a-z])(?:tokens?|secrets?|password|passwd|credentials?|(?:access|account|api|private)[._-]?key)(?:[^a-z]|$)"
)
# Databricks' personal tokens and OAuth secrets, AWS key ids, private keys, JSON web tokens.
_SECRET_VALUE = re.compile(r"\bdapi[0-9a-f]{8}|\bdose[0-9a-f]{8}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN |\beyJ[\w-]{10,}\.")
# The cluster has its own identity; a token of the launching identity must not reach it, not even as a reference.
_NEVER_SENT = re.compile(r"DATABRICKS_(HOST|TOKEN|CLIENT_ID|CLIENT_SECRET|CONFIG_\w+)|ARM_CLIENT_SECRET")
_CREDENTIALS = frozenset(
    {
        "token",
        "access_token",
        "password",
        "username",
        "client_id",
        "client_secret",
        "azure_client_id",
        "azure_client_secret",
        "azure_tenant_id",
    }
)
_CREDENTIALS_FIX = (
    "remove it (and revoke it, if it was committed): put a personal token into DATABRICKS_TOKEN, a service principal "
    "into DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, in the environment of the launching process; put what the "
    "cluster needs into a secret scope"
)


class SecretRef(BaseModel):
    """Reference to a secret, written `<scope>/<key>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: str = Field(pattern=r"^[\w.@-]{1,128}$")
    key: str = Field(pattern=r"^[\w.-]{1,128}$")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            scope, slash, key = value.partition("/")
            if not slash:
                raise ValueError("write <scope>/<key>")
            return {"scope": scope, "key": key}
        return value


def looks_secret(name: str, value: str) -> bool:
    """Whether the name or the value of a setting looks like a secret, which must not be written down."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def reference_of(value: str) -> tuple[str, str] | None:
    """Return scope and key of the secret that a cluster's setting refers to, None if its value is not a reference."""
    match = _REFERENCE.fullmatch(value)
    return (match["scope"], match["key"]) if match else None


def check_setting(name: str, value: str) -> None:
    """Check a Spark setting or an environment variable of a cluster.

    Raises:
        ValueError: It is never sent to a cluster, it looks like a secret, or its reference to a secret is malformed.
    """
    if _NEVER_SENT.fullmatch(name):
        raise ValueError(f"{name} is never sent to a cluster, which has its own identity; remove it")
    if reference_of(value) is not None:
        return
    if "{{" in value:
        raise ValueError(f"{name}: a reference must be the whole value, {{{{secrets/<scope>/<key>}}}}, without blanks")
    if looks_secret(name, value):
        raise ValueError(
            f"{name} looks like a secret: store it in a secret scope and write {{{{secrets/<scope>/<key>}}}}"
        )


def refuse_credentials(value: Any, where: str, path: str = "") -> None:
    """Reject what looks like a credential; errors never repeat the value."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            inside = f"{path}.{name}" if path else str(name)
            if str(name).lower() in _CREDENTIALS and not path.endswith("secrets"):
                raise SettingsError(f"{inside} is a credential", where=where, fix=_CREDENTIALS_FIX)
            refuse_credentials(item, where, inside)
    elif isinstance(value, list):
        for item in value:
            refuse_credentials(item, where, path)
    elif isinstance(value, str) and looks_secret("", value):
        raise SettingsError(f"{path or 'the text'} contains a literal token", where=where, fix=_CREDENTIALS_FIX)
