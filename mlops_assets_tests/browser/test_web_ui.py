"""What a user sees and does in Dagster's UI, from the empty graph to a model, and to a file that is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.csv as pa_csv
import pytest
import requests
from deltalake import DeltaTable
from playwright.sync_api import expect

from mlops_assets.data.ingest.table_checks import TABLE_CHECKS
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.definitions import build_defs
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import replaced
from mlops_assets_tests.browser.conftest import FRAUDS, ROWS
from mlops_assets_tests.browser.dagster_dev import DagsterDev
from mlops_assets_tests.browser.web_ui import WebUI

pytestmark = [pytest.mark.proof, pytest.mark.browser, pytest.mark.timeout(900)]

TABLES = ("raw_transactions", "train_set", "validation_set", "test_set")
ASSETS = (*TABLES, "quarantined_transactions", "tuned_model", "registered_model")
# Files arrive in a folder, so past days can be loaded again.
ASIDE = ("table_upkeep", "as_of_backtest", "transaction_source", "daily_arrivals")
THUMBNAILS = ("precision_recall", "tuning_history")
PICTURES = ("precision_recall.png", "cost_against_threshold.png", "shap_summary.png")
# How the UI spells the kinds that it has an icon for; one that it does not know would show up as it is written.
KINDS = {"deltalake": "Delta Lake", "spark": "Spark", "mlflow": "ML Flow", "xgboost": "XGBoost", "file": "File"}
# Which of an element's surroundings are too narrow for what is in them.
_CUT_OFF = """cell => {
    const cut = [];
    for (let box = cell; box; box = box.parentElement)
        if (box.scrollWidth > box.clientWidth + 1) cut.push(`${box.tagName} ${box.className}`);
    return cut;
}"""


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dg.AssetSpec]:
    definitions = build_defs(Settings(home=tmp_path_factory.mktemp("specs"), source="/landing"))
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_the_lineage_shows_all_assets_with_kinds_and_checks(ui: WebUI, specs: dict[str, dg.AssetSpec]):
    ui.open_lineage()

    assert set(specs) == {*ASSETS, *ASIDE}
    assert {spec.group_name for spec in specs.values()} == {"creditcard"}
    for name, spec in specs.items():
        for kind in spec.kinds:
            expect(ui.node(name)).to_contain_text(KINDS[kind])
    expect(ui.node("raw_transactions")).to_contain_text(f"/ {len(TABLE_CHECKS)} Passed")


def test_materialize_all_ends_in_success_and_a_green_graph(ui: WebUI, server: DagsterDev, first_run: str):
    assert first_run == "Success", server.log.read_text("utf-8", errors="replace")[-4000:]
    ui.open_lineage()
    for name in ASSETS:
        expect(ui.node(name)).to_contain_text("Materialized")
    for name, checks in {
        "raw_transactions": len(TABLE_CHECKS),
        "test_set": 5,
        "tuned_model": 1,
        "registered_model": 2,
    }.items():
        expect(ui.node(name)).to_contain_text(f"{checks} / {checks} Passed")


@pytest.mark.usefixtures("first_run")
def test_the_terminal_warns_of_nothing_but_what_others_say_of_themselves(server: DagsterDev):
    others = ("Function `dev_command` is superseded", "Using incubator modules: jdk.incubator.vector")
    said = server.log.read_text("utf-8", errors="replace").splitlines()

    warnings = [line for line in said if "warning" in line.lower()]

    assert [line for line in warnings if not any(text in line for text in others)] == []


@pytest.mark.usefixtures("first_run")
@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_page_shows_group_owner_kinds_description_and_code_and_of_a_table_rows_and_columns(
    ui: WebUI, server: DagsterDev, specs: dict[str, dg.AssetSpec], name: str
):
    spec = specs[name]

    ui.open_asset(name)

    expect(ui.page.get_by_role("link", name=spec.group_name, exact=True)).to_be_visible()
    expect(ui.page.get_by_text("fraud-platform", exact=True)).to_be_visible()
    for kind in spec.kinds:
        expect(ui.page.get_by_text(KINDS[kind], exact=True)).to_be_visible()
    description = (spec.description or "").replace("`", "")
    expect(ui.page.get_by_text(description, exact=True)).to_be_visible()
    expect(ui.page.get_by_text("mlops_assets/stage", exact=False).first).to_be_visible()
    code = ui.page.get_by_role("link").filter(has_text="in editor")
    expect(code).to_have_attribute("href", re.compile(r"mlops_assets/assets/\w+\.py"))
    if name in TABLES:
        (folder,) = server.home.glob(f"lakehouse/*/{name}")
        rows = DeltaTable(str(folder)).to_pyarrow_table(columns=["class"]).num_rows
        assert (rows == ROWS) == (name == "raw_transactions")
        expect_rows_and_columns(ui, rows)


def expect_rows_and_columns(ui: WebUI, rows: int) -> None:
    """Look for them on the page of a table, which is open."""
    expect(ui.page.get_by_text(f"{rows:,}", exact=True)).to_be_visible()
    for column, kind, meaning in (
        ("time", "double", "Seconds since the first transaction of the data set."),
        ("v28", "double", "Principal component 28."),
        ("class", "bigint", "1 = fraud, 0 = genuine."),
        ("_batch_id", "string", "SHA-256 of the input's content"),
    ):
        expect(ui.row(column)).to_contain_text(kind)
        expect(ui.row(column)).to_contain_text(meaning)
    expect(ui.row("class")).to_contain_text("role: target")


@pytest.mark.usefixtures("first_run")
def test_the_raw_table_shows_what_came_in_with_a_preview_that_fits(ui: WebUI):
    ui.open_asset("raw_transactions")

    metadata = {"delta_version": "0", "rows_added": ROWS, "frauds": FRAUDS, "fraud_rate": "0.03"}
    for name, value in metadata.items():
        expect(ui.row(name).locator("td").last).to_have_text(str(value))
    expect(ui.row("inputs_added")).to_contain_text("day1.csv")
    cell = ui.row("preview").locator("> td").last
    expect(cell.locator("th")).to_have_text(["time", "v1", "v2", re.compile("…|\\.\\.\\."), "amount", "class"])
    assert cell.evaluate(_CUT_OFF) == []
    cell.locator("table").evaluate("table => { table.style.width = '1000px'; }")
    assert cell.evaluate(_CUT_OFF) != [], "this check can't fail"


@pytest.mark.usefixtures("first_run")
def test_the_tuned_model_shows_its_run_the_evaluation_with_intervals_and_its_thumbnails(ui: WebUI):
    ui.open_asset("tuned_model")

    expect(ui.row("mlflow_run_id")).to_contain_text(re.compile("[0-9a-f]{32}"))
    expect(ui.row("trials")).to_contain_text("20")
    evaluation = ui.row("evaluation")
    expect(evaluation).to_contain_text("95 % interval")  # at once, not behind a link
    expect(evaluation.get_by_text("average precision", exact=True)).to_be_visible()
    for name in THUMBNAILS:
        picture = ui.row(name).locator("img[src^='data:image/svg+xml;base64,']")  # in the table itself
        expect(picture).to_be_visible()
        shown = picture.evaluate("image => [image.complete, image.naturalWidth, image.naturalHeight]")
        assert shown == [True, 240, 110], name
        assert picture.evaluate("image => image.clientWidth > 100"), name


@pytest.mark.usefixtures("first_run")
def test_links_of_the_tuned_model_open_its_run_and_a_picture_in_mlflow(ui: WebUI, server: DagsterDev):
    ui.open_asset("tuned_model")
    run = ui.row("mlflow_run").get_by_role("link").first.get_attribute("href")
    pictures = ui.open_picture("pictures")
    links = {name: pictures.get_by_role("link", name=name).get_attribute("href") for name in PICTURES}
    run_id = ui.row("mlflow_run_id").locator("td").last.inner_text()

    assert run == f"{server.mlflow}/#/experiments/1/runs/{run_id}"
    ui.page.goto(run)
    expect(ui.page.get_by_text("tuned_model creditcard_files").first).to_be_visible()
    expect(ui.page.get_by_text("average_precision").first).to_be_visible()
    for link in links.values():
        assert link is not None
        ui.page.goto(link)
        picture = ui.page.locator("img[src*='get-artifact'], img[src^='blob:']").first
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 960


@pytest.mark.usefixtures("first_run")
def test_the_link_of_the_registered_model_opens_its_version_in_mlflow(ui: WebUI, server: DagsterDev):
    ui.open_asset("registered_model")
    link = ui.row("mlflow_version").get_by_role("link").first.get_attribute("href")

    assert link == f"{server.mlflow}/#/models/fraud_creditcard_files/versions/1"
    ui.page.goto(link)
    expect(ui.page.get_by_text("champion").first).to_be_visible()


@pytest.mark.usefixtures("first_run")
def test_the_model_alone_is_materialized_from_its_page_which_then_shows_that_run(ui: WebUI, server: DagsterDev):
    ui.open_asset("registered_model")

    run = ui.launch("Materialize")

    assert ui.status() == "Success", server.log.read_text("utf-8", errors="replace")[-4000:]
    ui.open_asset("registered_model")
    expect(ui.page.locator(f'a[href*="/runs/{run.rpartition("/")[2]}"]').first).to_be_visible()


@pytest.mark.usefixtures("first_run")
def test_each_check_of_a_table_has_passed_and_says_what_it_is(ui: WebUI):
    ui.open_asset("raw_transactions", "checks")

    expect(ui.page.get_by_text("Succeeded", exact=True)).to_have_count(len(TABLE_CHECKS))
    ui.page.get_by_text("both_classes", exact=True).first.click()
    expect(ui.page.get_by_text(TABLE_CHECKS["both_classes"], exact=True)).to_be_visible()
    expect(ui.page.get_by_text("Passed", exact=True)).to_be_visible()


# --- a file that is refused -------------------------------------------------------------------------------------------


@pytest.fixture
def bad_file(inbox: Path) -> Iterator[Path]:
    """A second file; more than one in a hundred of its amounts are no numbers."""
    path = inbox / "day2.csv"
    table = generate(rows=500, days=1, fraud_rate=0.03, seed=4)
    pa_csv.write_csv(replaced(table, "amount", ["12,50"] * 6), path)
    yield path
    path.unlink()


@pytest.mark.usefixtures("first_run")
def test_a_wrong_value_fails_the_run_and_the_pages_say_which_column_and_how_many_rows(ui: WebUI, bad_file: Path):
    ui.open_asset("raw_transactions")

    status = ui.materialize("Materialize")

    assert status == "Failure"
    message = ui.page.get_by_text("nothing was written").last
    expect(message).to_contain_text(bad_file.name)
    expect(message).to_contain_text("amount (6 rows), such as '12,50'")
    ui.open_asset("raw_transactions")
    expect(ui.page.get_by_text("Failed in")).to_be_visible()
    expect(ui.page.get_by_text(f"{ROWS:,}", exact=True)).to_be_visible()
    ui.open_asset("raw_transactions", "events")
    expect(ui.page.get_by_text("input findings: 1 of 9 checks failed").first).to_be_visible()


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only /proc shows what is still alive")
def test_stopped_by_its_process_id_it_leaves_nothing_behind(server: DagsterDev):
    running = "\n".join(server.processes())
    for part in ("guarded_dagster --port", "dagster._daemon", "code-server", "api grpc", "guarded_mlflow server"):
        assert part in running

    assert server.stop(), f"had to be killed:\n{server.log.read_text('utf-8', errors='replace')[-4000:]}"

    assert server.processes() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/server_info", timeout=5)
