"""What a user sees in Dagster's UI of steps that are launched on Databricks, from the click to the end of the run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from databricks_loopback.driving import processes
from databricks_loopback.runs import Run
from mlops_assets.cli.demo_databricks import upload
from mlops_assets.cli.loopback_installation import TABLES, Installation, installation
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets_tests.browser.conftest import web_ui
from mlops_assets_tests.browser.dagster_dev import DagsterDev
from mlops_assets_tests.browser.web_ui import WebUI

pytestmark = [pytest.mark.proof, pytest.mark.browser, pytest.mark.timeout(900)]

STEPS = ("raw_transactions", "splits", "tuned_model", "registered_model")


@pytest.fixture(scope="module")
def there(chromium: str, shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    del chromium  # asked for first: without a browser nothing is started
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    jars = ensure_delta_jars(shared_home / "jars")
    with installation(tmp_path_factory.mktemp("there"), delta_jars=jars) as made:
        yield made


@pytest.fixture(scope="module")
def server(
    there: Installation, inbox: Path, shared_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterDev]:
    source = upload(str(inbox), there.workspace)
    home = tmp_path_factory.mktemp("ui") / "home"
    started = DagsterDev.start(home, shared_home / "jars", source=source, variables=there.variables)
    yield started
    started.stop()


def run_of(there: Installation, step: str) -> Run:
    """Return the one run of a step on the workspace."""
    (found,) = (run for run in there.workspace.runs if f" {step} " in run.name)
    return found


def page_of(there: Installation, run: Run) -> str:
    """Return the address of a run's page, as the REST API tells it."""
    return str(run.document(there.workspace.host, 1234567890123456)["run_page_url"])


@pytest.fixture(scope="module")
def finished(browser: Browser, server: DagsterDev, there: Installation) -> str:
    """The page of a run that `Materialize all` has started, after its end; its logs were seen to come live."""
    with web_ui(browser, server) as ui:
        ui.open_main_job()
        page = ui.launch("Materialize all")
        ui.open_step_log(page, "tuned_model")
        progress = ui.page.get_by_text(re.compile(r"trial \d+ of 20 done")).first
        progress.wait_for(timeout=600_000)
        assert run_of(there, "tuned_model").is_active, "the trials are told while they run"
        status = ui.status()
    assert status == "Success", server.log.read_text("utf-8", errors="replace")[-4000:]
    return page


@pytest.mark.parametrize("step", STEPS)
def test_a_launched_step_shows_the_link_to_its_run_and_how_far_that_is(
    ui: WebUI, there: Installation, finished: str, step: str
):
    run = run_of(there, step)

    ui.open_step_log(finished, step)
    ui.scroll_log_to_its_beginning()

    expect(ui.page.get_by_text(f"Launched as Databricks run {run.id}.")).to_be_visible()
    link = ui.page.get_by_role("link").filter(has_text=f"/run/{run.id}")
    expect(link).to_have_attribute("href", page_of(there, run))
    expect(ui.page.get_by_text(f"Databricks run {run.id}: PENDING")).to_be_visible()
    expect(ui.page.get_by_text(f"Databricks run {run.id}: RUNNING")).to_be_visible()
    with ui.page.expect_popup() as opened:
        link.click()
    row = opened.value.locator("tr:target")
    expect(row).to_contain_text(run.name)
    expect(row).to_contain_text("TERMINATED SUCCESS")


def test_the_log_of_the_search_has_its_trials_and_the_end_of_its_run(ui: WebUI, there: Installation, finished: str):
    ui.open_step_log(finished, "tuned_model")

    expect(ui.page.get_by_text(f"Databricks run {run_of(there, 'tuned_model').id}: TERMINATED SUCCESS")).to_be_visible()
    ui.page.goto(f"{finished}?logs=trial 20 of 20 done")
    expect(ui.page.get_by_text("trial 20 of 20 done")).to_be_visible()


@pytest.mark.usefixtures("finished")
def test_the_asset_page_says_where_the_table_is(ui: WebUI):
    ui.open_asset("raw_transactions")

    expect(ui.row("table")).to_contain_text(f"dbfs:/{TABLES}/")


@pytest.mark.usefixtures("finished")
def test_each_step_was_launched_once_and_nothing_is_left_running(there: Installation, server: DagsterDev):
    runs = [run_of(there, step) for step in STEPS]

    assert len(list(there.workspace.runs)) == len(runs)
    assert [run.is_active for run in runs] == [False] * len(runs)
    assert server.stop(), f"had to be killed:\n{server.log.read_text('utf-8', errors='replace')[-4000:]}"
    assert server.processes() == []
    assert [line for run in runs for line in processes(str(run.tasks[0].folder))] == []
