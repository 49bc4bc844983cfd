"""A server of files can't have the platform ask its own machine or network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import requests

from mlops_assets.data.sources import addresses
from mlops_assets.data.sources.addresses import PublicOnly, is_same_server
from mlops_assets.data.sources.download import HttpPolicy, download
from mlops_assets.errors import SourceError
from mlops_assets_tests.data.sources.web_server import Reply, WebServer

ONCE = HttpPolicy(tries=1, connect_timeout=2, read_timeout=2, total_timeout=5)
TEXT = b"time,amount\n0,1.50\n"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def inside() -> Iterator[WebServer]:
    """What only this machine can reach: the platform's own UI, say."""
    with WebServer() as server:
        server.serve("/graphql", b"started")
        yield server


def fetched(url: str) -> bytes:
    sink = BytesIO()
    assert download(url, sink, ONCE).ok
    return sink.getvalue()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_into_this_machine_is_refused_before_anything_is_sent(
    web: WebServer, inside: WebServer, status: int
):
    url = web.serve("/a.csv", Reply(status=status, headers={"Location": f"{inside.url}/graphql"}))

    with pytest.raises(SourceError, match="redirects to an address of this machine"):
        fetched(url)
    assert inside.seen == []


@pytest.mark.parametrize("host", ["localhost", "127.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.0.0.1"])
def test_no_way_of_writing_the_address_gets_through(web: WebServer, inside: WebServer, host: str):
    port = inside.netloc.rpartition(":")[2]
    url = web.serve("/a.csv", Reply(status=302, headers={"Location": f"http://{host}:{port}/graphql"}))

    with pytest.raises(SourceError):
        fetched(url)
    assert inside.seen == []


@pytest.mark.parametrize("host", ["[::]", "[::1]"])
def test_no_address_of_ipv6_gets_through(web: WebServer, host: str):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:  # it accepts, and never answers
        location = f"http://{host}:{listening.getsockname()[1]}/graphql"
        url = web.serve("/a.csv", Reply(status=302, headers={"Location": location}))

        with pytest.raises(SourceError, match="redirects to an address of this machine"):
            fetched(url)


def test_a_name_that_resolves_to_a_private_address_is_refused_even_if_it_was_public_before(
    web: WebServer, inside: WebServer, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is asked of the name: the address that was connected to counts."""
    resolve = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == "public.example" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    port = inside.netloc.rpartition(":")[2]
    url = web.serve("/a.csv", Reply(status=302, headers={"Location": f"http://public.example:{port}/graphql"}))

    with pytest.raises(SourceError, match="redirects to an address of this machine"):
        fetched(url)
    assert inside.seen == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # metadata of a cloud's machines
        ("100.100.100.200", False),
        ("0.0.0.0", False),  # noqa: S104 - refused
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool):
    assert addresses._is_public(address) is public


def test_a_redirect_to_a_public_address_goes_on_there_without_the_user(
    web: WebServer, inside: WebServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(addresses, "_is_public", lambda address: address == "127.0.0.1")
    inside.serve("/new.csv", TEXT)
    web.serve("/a.csv", Reply(status=302, headers={"Location": f"{inside.url}/new.csv"}))

    assert fetched(f"http://user:password@{web.netloc}/a.csv") == TEXT  # pragma: allowlist secret
    assert "authorization" in web.seen[0].headers
    assert "authorization" not in inside.seen[0].headers


def test_a_redirect_on_the_configured_server_keeps_the_user(web: WebServer):
    web.serve("/new.csv", TEXT)
    web.serve("/a.csv", Reply(status=302, headers={"Location": "/new.csv"}))

    assert fetched(f"http://user:password@{web.netloc}/a.csv") == TEXT  # pragma: allowlist secret
    assert [seen.headers.get("authorization") for seen in web.seen] == ["Basic dXNlcjpwYXNzd29yZA=="] * 2


def test_redirects_end(web: WebServer):
    for number in range(20):
        web.serve(f"/{number}.csv", Reply(status=302, headers={"Location": f"/{number + 1}.csv"}))

    with pytest.raises(SourceError, match="redirects in a loop"):
        fetched(f"{web.url}/0.csv")
    assert len(web.seen) == 5


def test_a_port_is_part_of_the_configured_server():
    assert is_same_server("http://host/a", "https://host/a")
    assert is_same_server("http://host:80/a", "http://host/b")
    assert not is_same_server("http://host:8000/a", "http://host:3000/a")
    assert not is_same_server("https://host/a", "http://host/a")


def test_every_connection_is_looked_at(inside: WebServer):
    session = requests.Session()
    session.mount("http://", PublicOnly())

    with pytest.raises(addresses.PrivateAddressError):
        session.get(f"{inside.url}/graphql")
