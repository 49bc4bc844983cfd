"""Authentication: personal access tokens, and OAuth tokens of service principals, by secret or by federation.

What belongs here: tokens, checking them, the OAuth endpoints. What does not: permissions (`api.permissions`).

Shapes: the OAuth server's metadata (RFC 8414), the client-credentials grant (RFC 6749, 4.4) and the token exchange of
workload identity federation (RFC 8693), as `databricks.sdk.oauth` and `databricks.sdk.oidc` read them. A rejected token
is 403 with the number 403 as its code, a missing one 401 (databricks-sdk-go issues 873 and 917).
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from databricks_loopback.routing import Route
from databricks_loopback.wire import ApiError, Reply, Request

# The platform rejects tokens that are about to expire; the SDK renews them 40 s before they do.
_MARGIN_S = 30.0
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@dataclass
class _Grant:
    user: str
    expires_at: float


class Tokens:
    """The tokens that the workspace accepts.

    Args:
        oauth_lifetime_s: Lifetime of an OAuth token; 3600 s on the platform.
    """

    def __init__(self, oauth_lifetime_s: float = 3600.0) -> None:
        self.oauth_lifetime_s = oauth_lifetime_s
        self._grants: dict[str, _Grant] = {}
        self._clients: dict[str, str] = {}
        self._trusted: dict[str, str] = {}
        self._lock = threading.Lock()

    def issue(self, user: str, *, lifetime_s: float = float("inf")) -> str:
        """Return a new personal access token of `user`."""
        token = f"dapi{secrets.token_hex(16)}"
        with self._lock:
            self._grants[token] = _Grant(user, time.time() + lifetime_s)
        return token

    def register(self, client_id: str) -> str:
        """Register a service principal and return its OAuth secret."""
        secret = f"dose{secrets.token_hex(16)}"
        with self._lock:
            self._clients[client_id] = secret
        return secret

    def trust(self, client_id: str, identity_token: str) -> None:
        """Accept an identity provider's token as that of a service principal (a federation policy)."""
        with self._lock:
            self._trusted[identity_token] = client_id

    def revoke(self, token: str) -> None:
        """Stop accepting a token."""
        with self._lock:
            self._grants.pop(token, None)

    def check(self, authorization: str) -> str:
        """Return the user of an Authorization header.

        Raises:
            ApiError: 401 without a bearer token, 403 for an unknown or expired one.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, 401, "Credential was not sent or was of an unsupported type for this API.")
        with self._lock:
            grant = self._grants.get(token.strip())
        if grant is None:
            raise ApiError(403, 403, "Invalid access token.")
        if grant.expires_at - _MARGIN_S < time.time():
            raise ApiError(403, 403, "Token is expiring within 30 seconds. (token expired)")
        return grant.user

    def user_of(self, authorization: str) -> str:
        """Return the user of an Authorization header, or an empty string."""
        with self._lock:
            grant = self._grants.get(authorization.partition(" ")[2].strip())
        return grant.user if grant else ""

    def routes(self, url: Callable[[], str], workspace_id: int) -> list[Route]:
        """Return the OAuth endpoints of a workspace at `url()`."""

        def metadata(_request: Request, _parts: Mapping[str, str]) -> Reply:
            return Reply.of(
                {
                    "issuer": f"{url()}/oidc",
                    "authorization_endpoint": f"{url()}/oidc/v1/authorize",
                    "token_endpoint": f"{url()}/oidc/v1/token",
                    "grant_types_supported": ["client_credentials", _EXCHANGE],
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                    "scopes_supported": ["all-apis"],
                }
            )

        def discovery(_request: Request, _parts: Mapping[str, str]) -> Reply:
            # Newer SDKs ask it before anything else (`databricks.sdk.oauth.HostMetadata`).
            return Reply.of({"oidc_endpoint": f"{url()}/oidc", "workspace_id": str(workspace_id)})

        return [
            Route("GET", "/.well-known/databricks-config", discovery, public=True),
            Route("GET", "/oidc/.well-known/oauth-authorization-server", metadata, public=True),
            Route("POST", "/oidc/v1/token", self._token, public=True),
        ]

    def _token(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        client, secret = _basic(request.headers.get("authorization", ""))
        if form.get("grant_type") == _EXCHANGE:
            client = form.get("client_id", client)
            with self._lock:
                accepted = client and self._trusted.get(form.get("subject_token", "")) == client
            if not accepted:
                return _oauth_error(401, "invalid_grant", "No federation policy matches the token")
        elif form.get("grant_type") == "client_credentials":
            with self._lock:
                known = self._clients.get(client)
            if known is None or not secrets.compare_digest(known, secret):
                return _oauth_error(401, "invalid_client", "Client authentication failed")
        else:
            return _oauth_error(400, "unsupported_grant_type", "use client_credentials or a token exchange")
        token = self.issue(client, lifetime_s=self.oauth_lifetime_s)
        expires_in = int(self.oauth_lifetime_s)
        return Reply.of(
            {
                "access_token": token,
                "scope": form.get("scope", "all-apis"),
                "token_type": "Bearer",
                "expires_in": expires_in,
            }
        )


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return client, secret


def _oauth_error(status: int, code: str, description: str) -> Reply:
    return Reply.of({"error": code, "error_description": description}, status=status)
