"""A hostile page in a real browser: it wins against Dagster's own server, and loses against the guarded one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import uvicorn
from dagster._daemon.asset_daemon import get_auto_materialize_paused, set_auto_materialize_paused
from playwright.sync_api import Browser, Page, sync_playwright

from mlops_assets.assets.reporting import preview
from mlops_assets.foreign_text import in_sentence
from mlops_assets.instance.guard import App, Guard
from mlops_assets_tests.browser.web_ui import CHROMIUMS, find_chromium

pytestmark = [pytest.mark.proof, pytest.mark.browser, pytest.mark.timeout(300)]  # a browser

EVIL = "evil.example"
# It leads to this machine, as a name of the attacker does after a while (DNS rebinding).
_RULES = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
PAUSE = "mutation { setAutoMaterializePaused(paused: true) }"
# Each way in which a page can have a browser send something.
ATTACKS = {
    "picture": "new Image().src = `${target}/graphql?query=${encodeURIComponent(query)}`",
    "fetch": "await fetch(`${target}/graphql?query=${encodeURIComponent(query)}`, {mode: 'no-cors'})",
    "post": "await fetch(`${target}/graphql`, {method: 'POST', mode: 'no-cors', body: JSON.stringify({query}),"
    " headers: {'content-type': 'text/plain; application/json'}})",
    "form": "const form = document.createElement('form'); form.method = 'POST'; form.target = 'frame';"
    " form.action = `${target}/graphql?query=${encodeURIComponent(query)}`; document.body.append(form); form.submit()",
}
PAGE = b"<!doctype html><title>hostile</title><iframe id='frame' name='frame'></iframe>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = find_chromium()
    if found is None:
        pytest.skip(f"no {', '.join(CHROMIUMS[:-1])} or {CHROMIUMS[-1]} in the PATH")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", _RULES]
        opened = playwright.chromium.launch(executable_path=found, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()


@dataclass
class Served:
    """An app on a port of 127.0.0.1.

    Attributes:
        port: The port.
        answered: Set when a request to `/graphql` is answered: a browser does not say so of each.
    """

    port: int
    answered: threading.Event


@contextmanager
def serving(app: App) -> Iterator[Served]:
    """Serve an app on a free port of 127.0.0.1."""
    answered = threading.Event()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if scope.get("path") == "/graphql":
            answered.set()

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(noting, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield Served(listening.getsockname()[1], answered)
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def bare(dagsters_app: App) -> Iterator[Served]:
    with serving(dagsters_app) as served:
        yield served


@pytest.fixture(scope="module")
def guarded(dagsters_app: App) -> Iterator[Served]:
    with serving(Guard(dagsters_app, graphql="/graphql")) as served:
        yield served


@pytest.fixture(scope="module")
def hostile_site() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{EVIL}:{server.server_address[1]}"
        server.shutdown()


def attack(page: Page, site: str, served: Served, how: str) -> None:
    """Let the hostile page do one thing, and wait until the server has answered it."""
    page.goto(site)
    served.answered.clear()
    page.evaluate(
        f"async ([target, query]) => {{ try {{ {ATTACKS[how]} }} catch (error) {{}} }}",
        [f"http://127.0.0.1:{served.port}", PAUSE],
    )
    assert served.answered.wait(20)


@pytest.mark.parametrize("how", list(ATTACKS))
def test_a_cross_site_request_starts_nothing(
    page: Page, hostile_site: str, bare: Served, guarded: Served, web_instance: dg.DagsterInstance, how: str
):
    set_auto_materialize_paused(web_instance, paused=False)
    attack(page, hostile_site, guarded, how)
    assert not get_auto_materialize_paused(web_instance)

    attack(page, hostile_site, bare, how)
    assert get_auto_materialize_paused(web_instance), "the attack has become harmless: the test proves nothing"


def test_a_name_that_is_made_to_lead_here_leads_nowhere(
    page: Page, bare: Served, guarded: Served, web_instance: dg.DagsterInstance
):
    """After rebinding the page and the server have one origin: the browser allows everything."""
    options = "{method: 'POST', body: JSON.stringify({query}), headers: {'content-type': 'application/json'}}"
    send = f"async query => {{ await fetch('/graphql', {options}) }}"
    set_auto_materialize_paused(web_instance, paused=False)
    answer = page.goto(f"http://{EVIL}:{guarded.port}/")
    assert answer is not None
    assert answer.status == 403
    page.evaluate(send, PAUSE)
    assert not get_auto_materialize_paused(web_instance)

    page.goto(f"http://{EVIL}:{bare.port}/server_info")
    page.evaluate(send, PAUSE)
    assert get_auto_materialize_paused(web_instance)


@pytest.mark.parametrize("mended", [False, True], ids=["as Markdown", "as text"])
def test_what_a_file_says_is_shown_and_asks_nobody(
    page: Page, guarded: Served, web_instance: dg.DagsterInstance, mended: bool
):
    """Names of columns and files, and cells: as they were put into Markdown, the browser asked for the picture."""
    hostile = f"![x](http://{EVIL}/pixel.png)<img src=http://{EVIL}/tag.png>"
    table = pa.table({f"{hostile} name": [f"{hostile} cell"]})
    shown = preview(table) if mended else dg.MetadataValue.md(f"| {hostile} |\n|---|\n| {hostile} |")
    key = dg.AssetKey(["hostile", "text" if mended else "markdown"])
    report = dg.AssetMaterialization(key, metadata={"preview": shown}, description=in_sentence(hostile))
    web_instance.report_runless_asset_event(report)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"http://127.0.0.1:{guarded.port}/assets/{'/'.join(key.path)}?view=events")
    page.get_by_text("[Show Markdown]").or_(page.get_by_text(EVIL)).or_(
        page.locator("img[src*=pixel]")
    ).first.wait_for()
    if (button := page.get_by_text("[Show Markdown]")).count():
        button.first.click()
        page.wait_for_timeout(1_000)

    elsewhere = [url for url in asked if EVIL in url]
    if mended:
        assert elsewhere == []
        assert page.locator("a[href*='evil'], img[src*='evil']").count() == 0
    else:
        assert elsewhere, "Dagster's UI shows no foreign pictures any more: the test proves nothing"


def test_the_ui_itself_works_behind_the_guard(page: Page, guarded: Served):
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)

    page.goto(f"http://127.0.0.1:{guarded.port}/deployment/daemons")
    page.get_by_text("Daemons").first.wait_for()

    assert refused == []
