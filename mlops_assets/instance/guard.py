"""Who may talk to the web UIs on this machine: their own pages, tools that name them rightly, and this user.

What belongs here: an ASGI app in front of another, and its rules on requests. What does not: what is served behind it
(`guarded_dagster`, `guarded_mlflow`), a login (a reverse proxy's).

Dagster's web server has no login and no protection against other pages in the operator's browser (dagster-io/dagster
#2219 and #19873): it takes mutations by GET and from any origin. A request is served only if

- its Host is a name of this machine or of the address in the settings, so a foreign name that is made to resolve to
  127.0.0.1 leads nowhere;
- the browser does not say that another site's page sent it (Fetch Metadata, Origin); only following a link is fine;
- it changes something only by POST with `application/json`, which no form can send;
- it comes from a process of this user, where the kernel shows whose a connection is (Linux).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACKS: Final = ("127.0.0.1", "localhost", "::1")
_SAFE: Final = ("GET", "HEAD")
_OWN_SITE: Final = ("same-origin", "none")
_JSON: Final = "application/json"
_POLICY_VIOLATION: Final = 1008
_ESTABLISHED: Final = "01"
_CONNECTIONS: Final = Path("/proc/net/tcp")


class Guard:
    """Serves an app to requests that keep the rules; all others get 403, a WebSocket is not accepted.

    Args:
        app: What is served.
        address: Where users find it, if not on this machine: its host is a name of the server.
        graphql: Path that takes queries and mutations: nothing but POST with JSON is answered there, and the page
            for typing queries.
        json_only: Whether a request that changes something must carry JSON everywhere.
        connections: The kernel's table of connections.
    """

    def __init__(
        self,
        app: App,
        *,
        address: str = "",
        graphql: str = "",
        json_only: bool = True,
        connections: Path = _CONNECTIONS,
    ) -> None:
        self._app = app
        self._hosts = {*LOOPBACKS, urlsplit(address).hostname or LOOPBACKS[0]}
        self._graphql = graphql
        self._json_only = json_only
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self.refusal(scope)
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"Refused: {reason}.\n".encode()})

    def refusal(self, scope: Scope) -> str:
        """Return why a request is refused; empty if it is served."""
        given = [(name.decode("latin-1").lower(), text.decode("latin-1")) for name, text in scope["headers"]]
        hosts = [text for name, text in given if name == "host"]
        headers = dict(given)
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            return "the address is not one of this server's (MLOPS_DAGSTER_URL names another one)"
        if not _is_own(scope.get("client"), self._connections):
            return "another user of this machine sent it"
        return _of_another_site(scope, headers, hosts[0]) or self._form(scope, headers)

    def _form(self, scope: Scope, headers: dict[str, str]) -> str:
        if scope["type"] == "websocket":
            return ""
        if scope["method"] in _SAFE:
            # Dagster answers a query of the address as well, also a mutation; its page for typing has none.
            asks = bool(self._graphql) and scope["path"].rstrip("/") == self._graphql
            return "queries are sent by POST" if asks and b"query=" in scope.get("query_string", b"") else ""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return "what changes something is sent as application/json" if self._json_only and kind != _JSON else ""


def _name(host: str) -> str:
    if "@" in host:
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _of_another_site(scope: Scope, headers: dict[str, str], host: str) -> str:
    # A browser sends Origin with each POST and each WebSocket; "null" is a page that hides where it is from.
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return "a page of another origin sent it"
    if headers.get("sec-fetch-site", "none") in _OWN_SITE:
        return ""
    follows_link = (
        scope["type"] == "http"
        and scope["method"] in _SAFE
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    return "" if follows_link else "a page of another site sent it"


def _is_own(client: tuple[str, int] | list[Any] | None, connections: Path) -> bool:
    """Return whether a process of this user holds the other end of a connection.

    The kernel shows the owner of a connection only while it is held: of one that was closed at once nobody is known.
    """
    if client is None or client[0] != LOOPBACKS[0] or not connections.exists():
        return True
    # Little-endian, as the kernel prints 127.0.0.1.
    end = f"0100007F:{int(client[1]):04X}"
    for line in connections.read_text().splitlines()[1:]:
        _, local, _, state, _, _, _, owner, *_ = line.split()
        if local == end:
            return state == _ESTABLISHED and int(owner) == os.getuid()
    return False
