"""Placement by profile: what is refused, what is reachable, and an asset that runs here by setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.definitions import build_defs
from mlops_assets.deployment import Deployment
from mlops_assets.diagnostics.cluster_starts import check_starts
from mlops_assets.errors import SettingsError
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.placement import (
    PLACE_TAG,
    check_placement,
    cluster_starts,
    places_of_steps,
    require_tables_here,
)
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets.spec import models_in
from mlops_assets_tests.assets.harness import SMALL, Databases, spec_of

ASSETS = [
    asset for asset in build_fraud_model(spec_of(), Deployment()).assets or [] if isinstance(asset, dg.AssetsDefinition)
]
NOWHERE = "https://127.0.0.1:9"


@dg.asset
def without_cluster() -> None:
    """An asset that is never launched."""


@pytest.fixture
def on_databricks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for a workspace that no test here may call: nothing listens there."""
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", NOWHERE)
    monkeypatch.setenv("DATABRICKS_TOKEN", "not-used")
    return Settings(target="databricks", home=tmp_path)


def lakehouse_at(root: str, *, catalog: str = "", **spark: Any) -> LakehouseResource:
    spark_resource = SparkResource(home="/nowhere", **spark)
    return LakehouseResource(spark=spark_resource, root=root, catalog=catalog, schema_name="ml")


def test_a_place_is_that_of_all_assets_of_the_step():
    assert check_placement(ASSETS, {"train_set": "trials", "registered_model": "local"}, where="p") == {
        **dict.fromkeys(("train_set", "validation_set", "test_set"), "trials"),
        "registered_model": "local",
    }
    assert check_placement(ASSETS, {}, where="p") == {}


def test_an_unknown_asset_is_refused_with_the_names_there_are():
    with pytest.raises(SettingsError) as caught:
        check_placement(ASSETS, {"register_model": "local"}, where="profile dev")
    text = str(caught.value)
    assert "register_model" in text
    assert "is registered_model meant?" in text
    for name in ("raw_transactions", "train_set", "validation_set", "test_set", "tuned_model"):
        assert name in text
    assert "[profile dev]" in text


def test_assets_of_one_step_are_not_placed_apart():
    with pytest.raises(SettingsError, match=r"test_set: local, train_set: trials"):
        check_placement(ASSETS, {"train_set": "trials", "test_set": "local"}, where="p")


def test_what_names_no_cluster_is_not_placed():
    with pytest.raises(SettingsError, match="without_cluster can't be placed"):
        check_placement([*ASSETS, without_cluster], {"without_cluster": "loader"}, where="p")


def test_a_wrong_placement_is_one_clear_error_at_load(on_databricks: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", "{tuned: local}")
    with pytest.raises(SettingsError, match=r"tuned.*\[profile dev, placement\]"):
        build_defs(on_databricks)
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", "{tuned_model: somewhere}")
    with pytest.raises(SettingsError, match=r"placement\.tuned_model"):
        build_defs(on_databricks)


def test_the_binding_notes_the_placement_on_the_assets(on_databricks: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", "{registered_model: trials}")
    specs = build_defs(on_databricks).resolve_all_asset_specs()
    assert {spec.key.to_user_string(): spec.tags[PLACE_TAG] for spec in specs if PLACE_TAG in spec.tags} == {
        "registered_model": "trials"
    }


@pytest.mark.parametrize(
    ("lakehouse", "words"),
    [
        (lakehouse_at("/Volumes/main/ml/staging/db", catalog="main"), "Unity Catalog (main.ml)"),
        (lakehouse_at("/Volumes/main/ml/staging/db"), "/Volumes/main/ml/staging is not mounted here"),
        (lakehouse_at("/dbfs/tables/db"), "/dbfs is not mounted here"),
    ],
)
def test_tables_that_only_a_cluster_has_are_refused(lakehouse: Lakehouse, words: str):
    with pytest.raises(SettingsError) as caught:
        require_tables_here(lakehouse, assets=["registered_model"])
    assert "registered_model: placed `local`" in str(caught.value)
    assert words in str(caught.value)
    assert "place it on a cluster" in str(caught.value)


def test_tables_that_are_here_are_taken(tmp_path: Path):
    require_tables_here(lakehouse_at(str(tmp_path)), assets=["a"])
    catalog = {"spark.sql.catalog.main": "io.unitycatalog.spark.UCSingleCatalog"}
    require_tables_here(lakehouse_at("/Volumes/main/ml/v", catalog="main", extra_conf=catalog), assets=["a"])
    require_tables_here(None, assets=["a"])


@pytest.mark.parametrize("launcher", ["step", "pipes"])
def test_an_asset_placed_here_whose_tables_are_there_is_one_clear_error(
    on_databricks: Settings, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, launcher: str
):
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", f"{{{RAW}: local}}")
    monkeypatch.setenv("MLOPS_DATABRICKS_LAUNCHER", launcher)
    job = build_defs(on_databricks).resolve_job_def("load_data")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = result.get_step_failure_events()
    shown = event.step_failure_data.user_failure_data
    assert shown is not None
    assert f"{RAW}: placed `local`, and its tables are in Unity Catalog" in str(shown.description)


@pytest.mark.parametrize("launcher", ["step", "pipes"])
def test_an_asset_placed_here_runs_here_without_a_workspace(
    on_databricks: Settings,
    monkeypatch: pytest.MonkeyPatch,
    instance: dg.DagsterInstance,
    lakehouse: Lakehouse,
    launcher: str,
):
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", f"{{{RAW}: local}}")
    monkeypatch.setenv("MLOPS_DATABRICKS_LAUNCHER", launcher)
    job = build_defs(on_databricks, lakehouse=Databases(lakehouse), source=SMALL).resolve_job_def("load_data")
    result = job.execute_in_process(instance=instance)
    assert result.success
    assert lakehouse.require(RAW, made_by=RAW).version == 0


# Cluster starts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "reused", "starts"),
    [
        (["loader", "loader", "trials", "loader"], set(), 4),
        (["loader", "loader", "trials", "loader"], {"loader"}, 2),
        (["loader", "loader", "trials", "trials"], {"loader", "trials"}, 2),
        (["loader", "local", "trials"], {"trials"}, 2),
        (["local"], {"loader"}, 0),
    ],
)
def test_a_cluster_that_waits_is_started_once(places: list[str], reused: set[str], starts: int):
    assert cluster_starts(places, reused) == starts


def test_the_doctor_counts_the_starts_of_the_main_job(on_databricks: Settings, monkeypatch: pytest.MonkeyPatch):
    def counted(**overrides: str) -> list[str]:
        for name, value in overrides.items():
            monkeypatch.setenv(f"MLOPS_DATABRICKS_{name}", value)
        defs = build_defs(on_databricks)
        return [str(line) for line in check_starts(on_databricks.profile(), defs, models_in(defs.metadata))]

    assert counted() == ["ok      cluster starts of main: 4 (2 with reuse_minutes of the clusters)"]
    assert counted(CLUSTERS__LOADER__REUSE_MINUTES="20") == [
        "ok      cluster starts of main: 2 (4 without reuse_minutes)"
    ]
    moved = {"PLACEMENT": "{registered_model: trials, raw_transactions: local}"}
    assert counted(**moved) == ["ok      cluster starts of main: 3 (3 without reuse_minutes)"]
    defs = build_defs(on_databricks)
    assert places_of_steps(defs.resolve_job_def("main")) == {
        "raw_transactions": "local",
        "splits": "loader",
        "tuned_model": "trials",
        "registered_model": "trials",
    }
