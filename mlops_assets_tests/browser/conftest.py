"""One Chromium, one `dagster dev` and one small inbox for all browser tests of a module.

What belongs here: starting and stopping them. What does not: looking at pages (tests).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.csv as pa_csv
import pytest
from playwright.sync_api import Browser, expect

from mlops_assets.data.sources.synthetic import generate
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets_tests.browser.dagster_dev import DagsterDev
from mlops_assets_tests.browser.web_ui import CHROMIUMS, WebUI, find_chromium, open_browser

ROWS, FRAUDS = 4_000, 120
expect.set_options(timeout=20_000)  # the machine may be busy with something else


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a whole run as a long proof: `make test` starts the UI, and looks at what it shows at once."""
    for item in items:
        if isinstance(item, pytest.Function) and "first_run" in item.fixturenames:
            item.add_marker(pytest.mark.proof)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = find_chromium()
    if found is None:
        pytest.skip(f"no {', '.join(CHROMIUMS[:-1])} or {CHROMIUMS[-1]} in the PATH")
    return found


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the source reads, with one file in it."""
    folder = tmp_path_factory.mktemp("inbox")
    pa_csv.write_csv(generate(rows=ROWS, days=6, fraud_rate=FRAUDS / ROWS, seed=3), folder / "day1.csv")
    return folder


@pytest.fixture(scope="module")
def server(
    chromium: str, inbox: Path, shared_home: Path, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterDev]:
    del chromium  # asked for first: without a browser nothing is started
    ensure_delta_jars(shared_home / "jars")
    home = tmp_path_factory.mktemp("home")
    (home / "mlflow").mkdir()
    shutil.copy(empty_mlflow, home / "mlflow" / "mlflow.db")
    started = DagsterDev.start(home, shared_home / "jars", source=str(inbox))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with open_browser(chromium) as opened:
        yield opened


@contextmanager
def web_ui(browser: Browser, server: DagsterDev) -> Iterator[WebUI]:
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    try:
        yield WebUI(page, server.url)
    finally:
        page.close()


@pytest.fixture
def ui(browser: Browser, server: DagsterDev) -> Iterator[WebUI]:
    with web_ui(browser, server) as opened:
        yield opened


@pytest.fixture(scope="module")
def first_run(browser: Browser, server: DagsterDev) -> str:
    """How the run ended that `Materialize all` starts."""
    with web_ui(browser, server) as opened:
        opened.open_main_job()
        return opened.materialize("Materialize all")
