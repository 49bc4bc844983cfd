"""Loopback servers for the tests of this room."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mlops_assets.data.sources.download import HttpPolicy
from mlops_assets_tests.data.sources.openml_server import OpenMLServer
from mlops_assets_tests.data.sources.web_server import WebServer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Talk to loopback servers directly also on a machine that has a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,nowhere.invalid")
    monkeypatch.setenv("no_proxy", "127.0.0.1,nowhere.invalid")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def openml() -> Iterator[OpenMLServer]:
    with OpenMLServer() as server:
        yield server


@pytest.fixture
def hasty() -> HttpPolicy:
    """A policy with short pauses, yet patient with a machine that is busy."""
    return HttpPolicy(tries=3, backoff=0.01, connect_timeout=5.0, read_timeout=5.0, total_timeout=20.0)


@pytest.fixture
def impatient() -> HttpPolicy:
    """A policy for servers that are slow on purpose."""
    return HttpPolicy(tries=2, backoff=0.01, connect_timeout=5.0, read_timeout=0.3, total_timeout=1.0)


@pytest.fixture
def dead_url() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
