"""The screenshots of README and docs, from the demo's cards: `python -m mlops_assets_tests.browser.screenshots`.

With `local` or `databricks` it takes only those of that target.

What belongs here: how the pictures in `docs/pictures/` are framed. What does not: judging them (look at them).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize

from mlops_assets.cli.loopback_installation import installation
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.settings import Settings
from mlops_assets_tests.browser.dagster_dev import CHECKOUT, DagsterDev
from mlops_assets_tests.browser.web_ui import WHOLE_GRAPH, WebUI, find_chromium, open_browser

# Rows of an asset's box that say nothing yet are left out, and one that the default leaves out is shown.
_TOGGLED = ("Automation", "Partitions", "Owner")


def take(browser: Browser, url: str, folder: Path) -> None:
    """Materialize everything, then write `asset-graph.png`, `tuned-model.png` and `tuned-model-picture.png`.

    Raises:
        RuntimeError: The run did not succeed.
    """
    ui = _new_ui(browser, url, 1440, 720)
    ui.open_main_job()
    status = ui.materialize("Materialize all")
    if status != "Success":
        raise RuntimeError(f"the run ended with {status}: {ui.page.url}")

    ui = _new_ui(browser, url, WHOLE_GRAPH["width"], WHOLE_GRAPH["height"])
    ui.page.goto(f"{url}/asset-groups")
    ui.page.get_by_role("img", name="config").click()
    for facet in _TOGGLED:
        ui.page.locator("label").filter(has_text=facet).click()
    ui.page.get_by_text("Save", exact=True).click()
    ui.open_lineage()
    _shoot(ui, folder / "asset-graph.png")

    ui = _new_ui(browser, url, 1600, 1226)
    ui.open_asset("tuned_model")
    ui.hide_navigation()
    ui.page.get_by_role("button").get_by_text("Status", exact=True).click()  # folds it up
    _shoot(ui, folder / "tuned-model.png")
    ui.page.set_viewport_size({"width": 1440, "height": 860})
    picture = ui.open_picture("pictures").get_by_role("link", name="precision_recall.png").get_attribute("href")
    ui.page.goto(picture or "")  # in MLflow
    ui.page.locator("img[src*='get-artifact'], img[src^='blob:']").first.wait_for()
    _shoot(ui, folder / "tuned-model-picture.png")


def take_launched(browser: Browser, url: str, folder: Path) -> None:
    """Materialize everything on Databricks, then write `databricks_run.png`.

    Raises:
        RuntimeError: The run did not succeed.
    """
    ui = _new_ui(browser, url, 1440, 720)
    ui.open_main_job()
    run = ui.launch("Materialize all")
    status = ui.status()
    if status != "Success":
        raise RuntimeError(f"the run ended with {status}: {run}")

    ui = _new_ui(browser, url, 1440, 1000)
    ui.open_step_log(run, "tuned_model")
    ui.hide_navigation()
    ui.scroll_log_to_its_beginning()
    _shoot(ui, folder / "databricks_run.png")


def _new_ui(browser: Browser, url: str, width: int, height: int) -> WebUI:
    size: ViewportSize = {"width": width, "height": height}
    return WebUI(browser.new_page(viewport=size, device_scale_factor=1.25), url)


def _shoot(ui: WebUI, target: Path) -> None:
    ui.page.mouse.move(1, 1)  # away from what lights up under it
    ui.page.wait_for_timeout(1500)  # until what moves or fades in is there
    ui.page.screenshot(path=target)


def main() -> int:
    """Start a server of its own for each target, take the screenshots, stop it."""
    chromium = find_chromium()
    if chromium is None:
        sys.stderr.write("no Chromium in the PATH\n")
        return 2
    targets = sys.argv[1:] or ["local", "databricks"]
    jars = Settings.from_environment().home / "jars"
    delta_jars = ensure_delta_jars(jars)
    with tempfile.TemporaryDirectory() as made, open_browser(chromium) as browser:
        folder = Path(made)
        if "local" in targets:
            with _serving(folder / "local", jars, None) as url:
                take(browser, url, CHECKOUT / "docs" / "pictures")
        if "databricks" in targets:
            (folder / "there").mkdir()
            with (
                installation(folder / "there", delta_jars=delta_jars) as there,
                _serving(folder / "databricks", jars, there.variables) as url,
            ):
                take_launched(browser, url, CHECKOUT / "docs" / "pictures")
    return 0


@contextmanager
def _serving(home: Path, jars: Path, variables: Mapping[str, str] | None) -> Iterator[str]:
    server = DagsterDev.start(home, jars, source="cards", variables={"MLOPS_CONTRACT": "cards", **(variables or {})})
    try:
        yield server.url
    except RuntimeError:
        sys.stderr.write(server.log.read_text("utf-8", errors="replace")[-4000:])
        raise
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
