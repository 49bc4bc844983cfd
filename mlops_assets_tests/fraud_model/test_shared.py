"""What a deployment decides for all models: the executor, and that a branch deployment keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from mlops_assets.databricks.profile import load_profile
from mlops_assets.errors import SettingsError
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import IN_PROCESS, build_executor, build_resources, build_shared
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import spec_of

HOST = "https://example.azuredatabricks.net"
SPEC = spec_of(source="/landing")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment on Databricks."""
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", HOST)
    return Settings(home=tmp_path, target="databricks", databricks_profile="prod", automation="on")


def in_branch(settings: Settings, name: str = "fix_7") -> Settings:
    return settings.model_copy(update={"is_branch_deployment": True, "deployment_name": name})


def location_of(settings: Settings) -> dg.Definitions:
    return dg.Definitions.merge(build_shared(settings, lambda: None), build_fraud_model(SPEC, settings))


# --- executor ---------------------------------------------------------------------------------------------------------


def test_steps_follow_each_other_locally(settings: Settings):
    assert build_executor(settings) is dg.in_process_executor


def test_a_run_s_config_is_read_on_a_cluster_as_where_it_was_launched(there: Settings):
    assert build_executor(there.model_copy(update={"runtime_version": "18.0"})) is build_executor(there)


def test_launches_run_in_parallel_as_many_as_the_profile_allows(there: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_MAX_CONCURRENT_LAUNCHES", "5")

    def chosen(config: dict[str, bool]) -> Any:
        return cast("Any", build_executor(there).apply_config_mapping({"config": config}).value)["config"]

    assert chosen({IN_PROCESS: False})["multiprocess"]["max_concurrent"] == 5
    assert list(chosen({IN_PROCESS: True})) == ["in_process"]


def test_definitions_that_are_loaded_apart_have_the_same_executor(there: Settings):
    assert build_executor(there) is build_executor(there.model_copy())


# --- login ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "fields"),
    [
        ({"TOKEN": "t"}, {"token"}),
        ({"CLIENT_ID": "i", "CLIENT_SECRET": "s"}, {"client_id", "client_secret"}),
        ({"CLIENT_ID": "i", "CLIENT_SECRET": "s", "TOKEN": "t"}, {"client_id", "client_secret"}),
        ({"CLIENT_ID": "i", "CLIENT_SECRET": "s", "TOKEN": "t", "AUTH_TYPE": "pat"}, {"token"}),
        ({"CLIENT_ID": "i", "AUTH_TYPE": "github-oidc"}, set()),
        ({"CLIENT_ID": "i", "TOKEN": "t", "AUTH_TYPE": "file-oidc"}, set()),
        ({"CONFIG_PROFILE": "team"}, set()),
        ({}, set()),
    ],
)
def test_the_login_is_that_of_the_environment_or_left_to_the_sdk(
    there: Settings, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], fields: set[str]
):
    for name in ("TOKEN", "CLIENT_ID", "CLIENT_SECRET", "AUTH_TYPE"):
        monkeypatch.setenv(f"DATABRICKS_{name}", environ.get(name, ""))

    assert set(there.databricks_login()) == fields
    launcher = build_resources(there)["trials_cluster"]
    assert {name for name in ("token", "client_id", "client_secret") if getattr(launcher, name)} == fields
    assert launcher.unified_login == (not fields)


# --- branch deployments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["local", "databricks"])
def test_nothing_starts_by_itself_in_a_branch_deployment(there: Settings, target: str):
    settings = there.model_copy(update={"target": target})
    production = location_of(settings)
    branch = location_of(in_branch(settings))

    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in production.sensors or [])
    assert len(list(production.sensors or [])) >= 4
    assert len(list(production.schedules or [])) == 2
    assert (list(branch.sensors or []), list(branch.schedules or [])) == ([], [])
    followed = [spec for spec in production.resolve_all_asset_specs() if spec.automation_condition is not None]
    assert len(followed) == 5
    assert all(spec.automation_condition is None for spec in branch.resolve_all_asset_specs())
    assert branch.get_repository_def().has_job("main"), "a person can still start everything"


def test_a_branch_deployment_has_a_schema_and_models_of_its_own(there: Settings):
    def places(settings: Settings) -> list[str]:
        resources = build_resources(settings)
        lakehouse, tracking = resources["lakehouse"], resources["tracking"]
        return [
            lakehouse.open(SPEC).location("raw_transactions"),
            lakehouse.root,
            tracking.model(SPEC.registered_model),
            f"{tracking.experiment_folder}{SPEC.experiment}",
        ]

    production, branch, other = places(there), places(in_branch(there)), places(in_branch(there, "fix-7"))

    for mine, others, third in zip(branch, production, other, strict=True):
        assert len({mine, others, third}) == 3
        assert "branch_fix_7" in mine
    assert branch[0] == f"{there.profile().catalog}.{there.profile().db_schema}_branch_fix_7.raw_transactions"


def test_tables_by_path_of_a_branch_deployment_are_in_a_folder_of_their_own(
    there: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLOPS_DATABRICKS_TABLES", "path")
    monkeypatch.setenv("MLOPS_DATABRICKS_TABLE_ROOT", "dbfs:/data/tables")
    monkeypatch.setenv("MLOPS_DATABRICKS_REGISTRY_URI", "databricks")

    resources = build_resources(in_branch(there))

    assert resources["lakehouse"].root == "/dbfs/data/tables/branch_fix_7"
    assert resources["tracking"].model("fraud") == "branch_fix_7_fraud"


def test_a_step_on_a_cluster_writes_where_its_branch_deployment_says(there: Settings, monkeypatch: pytest.MonkeyPatch):
    branch = in_branch(there)
    sent = branch.for_cluster()
    for name, value in sent.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    on_cluster = Settings.from_environment()

    for name in ("lakehouse", "tracking"):
        here, far = build_resources(branch)[name], build_resources(on_cluster)[name]
        for field in ("root", "schema_name", "experiment_folder", "registry_prefix"):
            assert getattr(here, field, None) == getattr(far, field, None), field
    assert on_cluster.profile() == branch.profile()


def test_a_local_branch_deployment_shares_no_table_and_no_model_with_production(settings: Settings):
    production, branch = (build_resources(found) for found in (settings, in_branch(settings)))

    assert production["lakehouse"].root != branch["lakehouse"].root
    assert (production["tracking"].model("fraud"), branch["tracking"].model("fraud")) == ("fraud", "branch_fix_7_fraud")


@pytest.mark.parametrize("name", ["", "--"])
def test_a_branch_deployment_without_a_name_is_refused(there: Settings, name: str):
    with pytest.raises(SettingsError, match=r"a branch deployment without a name.*DAGSTER_CLOUD_DEPLOYMENT_NAME"):
        location_of(in_branch(there, name))


def test_dagsters_variables_say_whether_it_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")
    for value, branch in (("0", ""), ("", "")):
        monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", value)
        assert Settings.from_environment().branch == branch
        assert "DAGSTER_CLOUD" not in json.dumps(list(Settings.from_environment().model_dump(exclude_defaults=True)))
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", "1")
    assert Settings.from_environment().branch == "branch_prod"
    assert not Settings.from_environment().starts_runs


def test_a_full_deployment_of_dagster_plus_is_left_as_it_is(there: Settings, monkeypatch: pytest.MonkeyPatch):
    named = there.model_copy(update={"deployment_name": "prod"})

    assert named.profile() == load_profile("prod", {"MLOPS_DATABRICKS_HOST": HOST})
    assert "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT" not in named.for_cluster()
