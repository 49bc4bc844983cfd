"""A page that the operator has open, a name that leads to this machine, another user: none may use Dagster's server.

Against Dagster's own app each attack works (the first test shows it): what is refused is refused by the guard.
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.asset_daemon import get_auto_materialize_paused, set_auto_materialize_paused
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from mlops_assets.instance.guard import App, Guard

PAUSE = "mutation { setAutoMaterializePaused(paused: true) }"
HOSTILE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "origin": "http://evil.example"}
URL = "http://127.0.0.1:3000"


@pytest.fixture
def resumed(web_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    set_auto_materialize_paused(web_instance, paused=False)
    return web_instance


def paused_by(app: App, instance: dg.DagsterInstance, headers: dict[str, str], method: str = "GET") -> bool:
    """Return whether a request paused the automation; it is one that any page may have a browser send."""
    client = TestClient(app, base_url=URL, headers=headers)
    if method == "GET":
        client.get("/graphql", params={"query": PAUSE})
    else:
        client.post("/graphql", json={"query": PAUSE})
    return get_auto_materialize_paused(instance)


@pytest.mark.parametrize(
    "headers", [HOSTILE, {"host": "evil.example:3000"}, {}], ids=["cross-site", "rebound name", "no browser"]
)
def test_a_mutation_by_get_is_refused_which_dagster_itself_obeys(
    dagsters_app: App, resumed: dg.DagsterInstance, headers: dict[str, str]
):
    assert not paused_by(Guard(dagsters_app, graphql="/graphql"), resumed, headers)
    assert paused_by(dagsters_app, resumed, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:5001"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of this machine
        {"host": "evil.example:3000"},
        {"content-type": "text/plain"},  # what a form can send
        {"content-type": "text/plain; application/json"},  # Dagster looks for the name anywhere
        {"content-type": ""},
    ],
)
def test_a_mutation_by_post_of_another_site_is_refused(
    dagsters_app: App, resumed: dg.DagsterInstance, headers: dict[str, str]
):
    assert not paused_by(Guard(dagsters_app, graphql="/graphql"), resumed, headers, "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": URL, "sec-fetch-site": "same-origin"},
        {"host": "localhost:3000", "origin": "http://localhost:3000"},
        {"host": "dagster.example.com", "origin": "https://dagster.example.com", "sec-fetch-site": "same-origin"},
    ],
    ids=["a tool", "the page itself", "another name", "behind a proxy"],
)
def test_the_ui_and_tools_are_served(dagsters_app: App, resumed: dg.DagsterInstance, headers: dict[str, str]):
    guarded = Guard(dagsters_app, graphql="/graphql", address="https://dagster.example.com")

    assert paused_by(guarded, resumed, headers, "POST")


def test_a_link_of_another_site_opens_a_page_and_a_frame_does_not(dagsters_app: App):
    client = TestClient(Guard(dagsters_app, graphql="/graphql"), base_url=URL)
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}

    assert client.get("/server_info", headers=link).status_code == 200
    assert client.get("/server_info", headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403
    assert client.get("/graphql", headers={**link, "accept": "text/html"}).status_code == 200  # to type a query
    assert client.get("/graphql?query=mutation{x}", headers=link).status_code == 403


@pytest.mark.parametrize(
    ("headers", "served"),
    [({}, True), ({"origin": URL}, True), ({"origin": "http://evil.example"}, False), ({"host": "evil:1"}, False)],
)
def test_a_web_socket_is_opened_by_the_page_itself_only(dagsters_app: App, headers: dict[str, str], served: bool):
    client = TestClient(Guard(dagsters_app, graphql="/graphql"), base_url=URL)
    if served:
        with client.websocket_connect("ws://127.0.0.1:3000/graphql", headers=headers):
            return
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://127.0.0.1:3000/graphql", headers=headers):
        pass


@pytest.mark.parametrize("host", ["", "127.0.0.1:3000\t", "evil.example@127.0.0.1", "[::1", "127.0.0.1.evil.example"])
def test_a_strange_host_is_refused(dagsters_app: App, host: str):
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host.encode())], "client": None}

    assert bool(Guard(dagsters_app).refusal(scope)) == (host != "127.0.0.1:3000\t")


def test_two_hosts_are_refused(dagsters_app: App):
    hosts = [(b"host", b"127.0.0.1:3000"), (b"host", b"evil.example")]

    assert Guard(dagsters_app).refusal({"type": "http", "method": "GET", "path": "/", "headers": hosts, "client": None})


@pytest.mark.parametrize(
    ("owner", "state", "served"),
    [("own", "01", True), ("other", "01", False), ("own", "06", False), ("none", "", False)],
    ids=["own process", "another user's", "closed at once", "unknown"],
)
def test_another_user_of_this_machine_is_refused(
    dagsters_app: App, tmp_path: Path, owner: str, state: str, served: bool
):
    user = {"own": os.getuid(), "other": os.getuid() + 1}.get(owner)
    table = tmp_path / "tcp"
    line = f"   0: 0100007F:D431 0100007F:0BB8 {state} 00000000:00000000 00:00000000 00000000  {user} 0 1 1"
    table.write_text("  sl  local_address rem_address   st\n" + (f"{line}\n" if user is not None else ""))
    guarded = Guard(dagsters_app, connections=table)
    client = TestClient(guarded, base_url=URL, client=("127.0.0.1", 0xD431))

    assert (client.get("/server_info").status_code == 200) == served
