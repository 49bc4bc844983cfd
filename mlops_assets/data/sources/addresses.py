"""Where a redirect may lead: never into this machine or its network.

What belongs here: which hosts a download follows a server to, and connections that hold to it. What does not: the
download (`download`), what is downloaded.

The host and port of a configured URL are trusted, whatever their address: an intranet server is an ordinary source. A
server that is asked for a file may answer with any other address, though, such as the platform's own UI on the loopback
or a cloud's metadata service. So the next host must have a public address; and since a name may resolve differently a
moment later, the address that was really connected to is looked at, before anything is sent.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

_PORTS: Final = {"http": 80, "https": 443}


class PrivateAddressError(HTTPError):
    """The connection leads to an address that is not public."""


class _Checked:
    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        if not _is_public(made.getpeername()[0]):
            made.close()
            raise PrivateAddressError("a private address")
        return made


class _CheckedHTTP(_Checked, HTTPConnection):
    pass


class _CheckedHTTPS(_Checked, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _CheckedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedHTTPS


class PublicOnly(HTTPAdapter):
    """Connects to public addresses only. Through a proxy, which connects by itself, the proxy decides."""

    def init_poolmanager(self, *given: Any, **options: Any) -> None:
        """Make the pools, with connections that look where they lead."""
        super().init_poolmanager(*given, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def is_same_server(one: str, other: str) -> bool:
    """Return whether two URLs lead to one host and port, or to its usual port for TLS."""
    first, second = urlsplit(one), urlsplit(other)
    if first.hostname != second.hostname:
        return False
    upgraded = (first.scheme, second.scheme) == ("http", "https") and (_port(first), _port(second)) == (80, 443)
    return upgraded or (first.scheme, _port(first)) == (second.scheme, _port(second))


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _is_public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    # An IPv4 address may be written as an IPv6 one.
    return (getattr(found, "ipv4_mapped", None) or found).is_global
