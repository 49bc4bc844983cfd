"""Several models in one code location: nothing of one has a name of another's, and connections are shared."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.errors import SettingsError
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_resources, build_shared
from mlops_assets.resources.placement import PLACE_TAG
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets_tests.assets.harness import spec_of
from mlops_assets_tests.test_definitions import LATE


@pytest.fixture
def models(tmp_path: Path) -> list[FraudModelSpec]:
    """Two models with a landing place each; one has late labels."""
    contract = tmp_path / "cards.yaml"
    contract.write_text(LATE)
    landing = {"source": "/landing"}  # two models may even load the same files
    return [
        FraudModelSpec.parse(
            {"name": "cards", "contract": str(contract), "labels": "/labels", **landing}, where="test"
        ),
        FraudModelSpec.parse({"name": "transfers", "contract": "handbook", **landing}, where="test"),
    ]


def location_of(models: list[FraudModelSpec], settings: Settings) -> dg.Definitions:
    return dg.Definitions.merge(
        build_shared(settings, lambda: None), *(build_fraud_model(spec, settings) for spec in models)
    )


def test_two_models_are_one_code_location(models: list[FraudModelSpec], settings: Settings):
    repository = location_of(models, settings).get_repository_def()

    keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert {key.partition("/")[0] for key in keys} == {"cards", "transfers"}
    assert "cards/transaction_labels" in keys
    assert "transfers/transaction_labels" not in keys
    names = [sensor.name for sensor in repository.sensor_defs] + [item.name for item in repository.schedule_defs]
    assert {name for name in names if not name.startswith(("cards__", "transfers__"))} == {
        "run_failed",
        "weekly_verify",
    }
    assert {"cards__main", "transfers__main", "cards__merge_labels", "doctor"} <= set(repository.job_names)
    groups = {repository.asset_graph.get(key).group_name for key in repository.asset_graph.get_all_asset_keys()}
    assert groups == {"cards", "transfers"}


def test_no_asset_of_a_model_depends_on_another_models(models: list[FraudModelSpec], settings: Settings):
    for spec in location_of(models, settings).resolve_all_asset_specs():
        assert {dep.asset_key.path[0] for dep in spec.deps} <= {spec.key.path[0]}, spec.key


def test_the_assets_of_a_model_with_a_name_are_those_of_one_without(settings: Settings):
    named, plain = (location_of([spec_of(name=name)], settings) for name in ("cards", ""))

    def described(definitions: dg.Definitions) -> list[tuple[str, list[str], list[str], str | None]]:
        return sorted(
            (
                spec.key.path[-1],
                sorted(dep.asset_key.path[-1] for dep in spec.deps),
                sorted(spec.kinds),
                spec.description,
            )
            for spec in definitions.resolve_all_asset_specs()
        )

    assert described(named) == described(plain)
    assert {job.name.removeprefix("cards__") for job in named.jobs or []} == {job.name for job in plain.jobs or []}


def test_an_asset_of_ones_own_is_upstream_of_the_table_and_not_in_the_models_jobs(settings: Settings):
    spec = spec_of(name="cards", source="asset:payments/clean@/tables/clean")

    @dg.asset(key=["payments", "clean"])
    def clean() -> None:
        """An asset of the user's own."""

    definitions = dg.Definitions.merge(location_of([spec], settings), dg.Definitions(assets=[clean]))

    found = {asset.key.to_user_string(): asset for asset in definitions.resolve_all_asset_specs()}
    assert [dep.asset_key.to_user_string() for dep in found["cards/raw_transactions"].deps] == ["payments/clean"]
    job = definitions.resolve_job_def("cards__main")
    assert dg.AssetKey(["payments", "clean"]) not in job.asset_layer.executable_asset_keys
    assert definitions.get_repository_def().has_sensor_def("cards__new_versions")


def test_tables_locks_experiments_and_models_are_apart(models: list[FraudModelSpec], settings: Settings):
    resources = build_resources(settings)
    cards, transfers = (resources["lakehouse"].open(spec) for spec in models)

    assert (cards.database, transfers.database) == ("cards_files", "transfers_files")
    assert cards.location("raw_transactions") != transfers.location("raw_transactions")
    with cards.exclusive("raw_transactions"), transfers.exclusive("raw_transactions", 0):
        pass
    tracking = resources["tracking"]
    assert len({tracking.model(spec.registered_model) for spec in models}) == 2
    assert len({spec.experiment for spec in models}) == 2


def test_each_model_has_a_schema_of_its_own_in_unity_catalog(
    models: list[FraudModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    lakehouse = build_resources(Settings(home=tmp_path, target="databricks"))["lakehouse"]

    schemas = [lakehouse.open(spec).database for spec in (*models, spec_of())]

    assert schemas == ["mlops_assets_dev_cards", "mlops_assets_dev_transfers", "mlops_assets_dev"]


def test_a_models_own_placement_counts_before_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", "{registered_model: trials, raw_transactions: trials}")
    spec = spec_of(name="cards", placement={"registered_model": "local"})

    specs = location_of([spec], Settings(home=tmp_path, target="databricks")).resolve_all_asset_specs()

    assert {found.key.path[-1]: found.tags[PLACE_TAG] for found in specs if PLACE_TAG in found.tags} == {
        "registered_model": "local",
        "raw_transactions": "trials",
        "quarantined_transactions": "trials",
    }


def test_a_placement_of_an_asset_that_is_not_there_is_refused(settings: Settings):
    with pytest.raises(SettingsError, match=r"unknown assets: tuned .*\[placement of model cards\]"):
        build_fraud_model(spec_of(name="cards", placement={"tuned": "local"}), settings)


def test_two_models_of_one_name_are_not_one_code_location(models: list[FraudModelSpec], settings: Settings):
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"[Dd]uplicate"):
        location_of([models[1], models[1]], settings).get_repository_def()
