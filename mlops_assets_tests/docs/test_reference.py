"""The tables of the reference name what the code has: no setting, asset, check, job, sensor or metric more or less."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import dagster as dg
import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from mlops_assets.assets.naming import STAGE_TAG
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.cli.main import main
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.changes import CHANGE_CHECKS
from mlops_assets.data.ingest.validation import INPUT_CHECKS
from mlops_assets.data.labels.labels import LABEL_FILES_READABLE
from mlops_assets.databricks.cluster import ClusterSpec
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.definitions import build_defs
from mlops_assets.evaluation.scorer import CARDS, METRICS, MONEY, UNKNOWN_CARDS
from mlops_assets.serving.settings import ServingSettings
from mlops_assets.settings import Settings
from mlops_assets_tests.docs.pages import CHECKOUT, DOCS, rows, section, spans

REFERENCE = DOCS / "reference"
SETTINGS = (REFERENCE / "settings.md").read_text("utf-8")
ASSETS = (REFERENCE / "assets.md").read_text("utf-8")
LATE = Path(__file__).parent / "late.yaml"


def names_of(text: str) -> list[str]:
    """Return the names in the first column of a table."""
    return [name for row in rows(text) for name in spans(row[0])]


# --- settings -----------------------------------------------------------------------------------------------------


def variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, str):
        return alias
    return f"MLOPS_{name.upper()}"


def type_in_words(name: str, annotation: Any) -> str:
    if isinstance(annotation, UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if name in ("database", "model_name"):  # of a form that is checked
        return "name"
    plain = {Path: "folder", str: "text", int: "whole number", float: "number", SecretStr: "secret"}
    return {**plain, date: "day", bool: "0 or 1", dict[str, int]: "JSON"}[annotation]


def described_settings(text: str) -> dict[str, tuple[str, str]]:
    """Return type and default of each variable that the table has."""
    return {spans(row[0])[0]: (row[1], row[2]) for row in rows(section(text, "Variables"))}


def wrong_settings(text: str) -> list[str]:
    """Return the variables whose row is missing, is of none, or says something else than the code."""
    described = described_settings(text)
    wrong = []
    for name, field in Settings.model_fields.items():
        kind, default = described.pop(variable(name, field), ("", ""))
        # What is derived from other settings, or left open, is said in words.
        right = default == f"`{field.default}`" if field.default else default not in ("", "`None`")
        if kind != type_in_words(name, field.annotation) or not right:
            wrong.append(name)
    return [*wrong, *described]


def test_the_settings_are_those_of_the_code():
    assert wrong_settings(SETTINGS) == []


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        (
            "| `MLOPS_AUTOMATION` | `on` or `off` | `off` |",
            "| `MLOPS_AUTOMATION` | `on` or `off` | `on` |",
            "automation",
        ),
        ("| `MLOPS_RETRAIN_ROWS` | whole number |", "| `MLOPS_RETRAIN_ROWS` | text |", "retrain_rows"),
        ("| `MLOPS_LABELS` |", "| `MLOPS_LABEL` |", "labels"),
    ],
)
def test_a_setting_that_is_wrong_in_the_table_is_noticed(before: str, after: str, wrong: str):
    assert before in SETTINGS
    assert wrong in wrong_settings(SETTINGS.replace(before, after))


@pytest.mark.parametrize(
    ("page", "heading", "model"),
    [
        (REFERENCE / "settings.md", "Databricks profile", DatabricksProfile),
        (REFERENCE / "settings.md", "Serving", ServingSettings),
        (REFERENCE / "settings.md", "Fields of a cluster", ClusterSpec),
        (DOCS / "how-to" / "contracts-and-labels.md", "Fields of a contract", Contract),
    ],
)
def test_the_fields_are_those_of_the_code(page: Path, heading: str, model: type[BaseModel]):
    table = {spans(row[0])[0]: row[1] for row in rows(section(page.read_text("utf-8"), heading))}

    assert set(table) == {field.alias or name for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        said = table[field.alias or name].strip("`")
        if isinstance(field.default, bool | int | float | str) and field.default != "":
            assert said.lower() == str(field.default).lower()
        elif name != "cost_class":  # which `Clusters` fills in
            assert (said == "required") == field.is_required()


# --- assets -------------------------------------------------------------------------------------------------------


def definitions_of(folder: Path) -> list[dg.Definitions]:
    """Return code locations that together have all that there can be."""
    return [
        build_defs(found)
        for found in (
            Settings(home=folder, source="/landing", labels="/labels", contract=str(LATE)),
            Settings(
                home=folder, source="openml", inference_log="kafka://127.0.0.1:9092/predictions", batch_scores="raw"
            ),
            Settings(home=folder, source="delta:/tables/payments"),
            Settings(home=folder, target="databricks"),
        )
    ]


@pytest.fixture
def locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dg.Definitions]:
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    return definitions_of(tmp_path)


def test_the_assets_and_their_stages_are_those_of_the_code(locations: list[dg.Definitions]):
    specs = {
        spec.key.to_user_string(): spec.tags[STAGE_TAG]
        for found in locations
        for spec in found.resolve_all_asset_specs()
    }

    described = {name: row[1] for row in rows(section(ASSETS, "Assets")) for name in spans(row[0])}

    assert described == specs


def test_the_checks_are_those_of_the_code(locations: list[dg.Definitions]):
    checks = {
        (check.asset_key.to_user_string(), check.name)
        for found in locations
        for asset in found.assets or []
        if isinstance(asset, dg.AssetsDefinition)
        for check in asset.check_specs
    }

    assets: list[str] = []
    described = set()
    for row in rows(section(ASSETS, "Checks")):
        assets = spans(row[0]) or assets
        described |= {(asset, check) for asset in assets for check in spans(row[1])}

    assert described == checks


def test_the_input_findings_are_those_of_the_code():
    described = [name for row in rows(section(ASSETS, "Input findings")) for name in spans(row[1])]

    assert described == [*INPUT_CHECKS, *CHANGE_CHECKS, LABEL_FILES_READABLE]


def test_jobs_sensors_and_schedules_are_those_of_the_code(locations: list[dg.Definitions]):
    repositories = [found.get_repository_def() for found in locations]

    assert set(names_of(section(ASSETS, "Jobs"))) == {job.name for found in locations for job in found.jobs or []}
    assert set(names_of(section(ASSETS, "Sensors"))) == {
        sensor.name for found in repositories for sensor in found.sensor_defs
    }
    assert set(names_of(section(ASSETS, "Schedules"))) == {
        schedule.name for found in repositories for schedule in found.schedule_defs
    }


# --- metrics, options, commands -----------------------------------------------------------------------------------


def test_the_metrics_are_those_of_the_code():
    text = (REFERENCE / "metrics.md").read_text("utf-8")

    assert names_of(section(text, "Metrics")) == [*METRICS, *MONEY, *CARDS, *UNKNOWN_CARDS]


def test_the_options_of_a_search_are_those_of_the_launchpad():
    text = (DOCS / "how-to" / "search.md").read_text("utf-8")

    assert set(names_of(section(text, "Options"))) == set(TunedModelConfig.model_fields)


def test_the_commands_are_those_of_the_program(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    text = (REFERENCE / "cli.md").read_text("utf-8")

    described = [
        name.removeprefix("mlops ") for name in names_of(section(text, "`mlops`")) if name.startswith("mlops ")
    ]

    assert described == commands


def test_the_targets_of_make_are_those_of_the_makefile():
    makefile = (CHECKOUT / "Makefile").read_text("utf-8")
    text = (REFERENCE / "cli.md").read_text("utf-8")

    assert names_of(section(text, "`make`")) == re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)


# --- messages -----------------------------------------------------------------------------------------------------


def strange_messages(text: str) -> list[str]:
    """Return the messages in the first column that no source file has; `...` stands for what differs."""
    files = [*(CHECKOUT / "mlops_assets").rglob("*.py"), *(CHECKOUT / "scripts").iterdir()]
    sources = "\n".join(path.read_text("utf-8") for path in files if path.is_file())
    found = [message for row in rows(text) for message in spans(row[0])]
    return [text for text in found if not all(piece.strip(" :;,") in sources for piece in text.split("..."))]


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code():
    text = (DOCS / "how-to" / "troubleshooting.md").read_text("utf-8")

    # hyperopt's own, and a command.
    assert set(strange_messages(text)) <= {"There are no evaluation tasks", "make demo TARGET=databricks-local"}


def test_a_message_that_no_code_has_is_noticed():
    assert strange_messages("| `it broke, ... is gone` | try again |") == ["it broke, ... is gone"]
