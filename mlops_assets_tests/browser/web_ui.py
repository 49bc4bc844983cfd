"""What a user does in Dagster's UI and where they look, as few words.

What belongs here: the ways through the pages, and the one Chromium. What does not: what the pages should show (tests),
the server (`dagster_dev`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, Locator, Page, ViewportSize, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# As root Chromium needs --no-sandbox. The last one keeps the browser on this machine: what the UI shows is ours alone.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# The ellipsis: among all assets are some of days, and the UI asks for which.
_OF_DAYS_TOO = re.compile(r"^Materialize all \(\d+\)…$")  # not what somebody else writes
# A window that shows the lineage of all assets, each with kinds and checks: further away the UI leaves them out.
WHOLE_GRAPH: ViewportSize = {"width": 2400, "height": 1300}
_ENDED = re.compile(r"^(Success|Failure|Canceled)$")


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in CHROMIUMS if (found := shutil.which(name))), None)


@contextmanager
def open_browser(chromium: str) -> Iterator[Browser]:
    """Start a headless Chromium that closes with the context."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class WebUI:
    """Dagster's UI in a browser.

    Attributes:
        page: A page that nobody has used before: the UI remembers what is expanded and hidden.
        url: Where the UI is served.
    """

    page: Page
    url: str

    def open_lineage(self) -> None:
        """Open the lineage of all assets in a window that is large enough for the details of each."""
        self.page.set_viewport_size(WHOLE_GRAPH)
        self.page.goto(f"{self.url}/asset-groups")
        self.page.get_by_role("button").get_by_text(_OF_DAYS_TOO).wait_for()
        self.hide_navigation()
        self.page.get_by_role("img", name="panel_show_right").click()  # hides the list of assets

    def open_main_job(self) -> None:
        """Open the page of the job `main`; of all assets together some are about past days, and the UI asks which."""
        self.page.goto(f"{self.url}/locations/mlops_assets/jobs/main")
        self.page.get_by_role("button").get_by_text("Materialize all", exact=True).wait_for()

    def hide_navigation(self) -> None:
        """Hide the bar to the left, which leaves more room."""
        navigation = self.page.get_by_text("Hide navigation", exact=True)
        navigation.click()
        navigation.wait_for(state="hidden")

    def node(self, asset: str) -> Locator:
        """Return an asset's box in the lineage."""
        return self.page.locator("foreignObject > *").filter(has=self.page.get_by_text(asset, exact=True)).last

    def open_asset(self, asset: str, view: str = "overview") -> None:
        """Open an asset's page at its tab `overview`, `events` or `checks`."""
        self.page.goto(f"{self.url}/assets/{asset}?view={view}")

    def materialize(self, button: str) -> str:
        """Click `Materialize` or `Materialize all`, follow the run to its end and return its status."""
        self.launch(button)
        return self.status()

    def launch(self, button: str) -> str:
        """Click `Materialize` or `Materialize all`, go to the page of the run and return its address."""
        self.page.get_by_role("button").get_by_text(button, exact=True).click()
        view = self.page.get_by_role("link").or_(self.page.get_by_role("button")).get_by_text("View", exact=True)
        confirm = self.page.get_by_role("button").get_by_text("Confirm", exact=True)
        confirm.or_(view).first.wait_for()
        if confirm.is_visible():  # the asset is made together with another one
            confirm.click()
        view.click()
        self.page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
        return self.page.url.partition("?")[0]

    def status(self) -> str:
        """Wait for the end of the run whose page is open and return its status."""
        status = self.page.get_by_text(_ENDED).first
        status.wait_for(timeout=240_000)
        return status.inner_text()

    def open_step_log(self, run: str, step: str) -> None:
        """Open the page of a run with the log of one of its steps; only the rows in sight are there to be found."""
        self.page.goto(f"{run}?logs=step:{step}")
        self.page.get_by_text("EVENT TYPE", exact=False).wait_for()

    def scroll_log_to_its_beginning(self) -> None:
        """Scroll the log of a run up, which opens at its end."""
        self.page.wait_for_timeout(1000)  # it scrolls down by itself as rows come in
        size = self.page.viewport_size
        assert size is not None
        self.page.mouse.move(size["width"] / 2, size["height"] - 100)
        self.page.mouse.wheel(0, -100_000)

    def open_picture(self, name: str) -> Locator:
        """Open the picture in the metadata of an asset's page; return the dialog that shows it."""
        self.row(name).get_by_text("[Show Markdown]").click()
        return self.page.get_by_role("dialog")

    def row(self, name: str) -> Locator:
        """Return the row of a table (columns, metadata) whose first cell is `name`."""
        return self.page.locator("tr").filter(has=self.page.get_by_text(name, exact=True)).first
