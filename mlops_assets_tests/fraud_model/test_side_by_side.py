"""Two models of one code location, materialized in one lakehouse, one MLflow store and one Dagster instance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from mlops_assets.data.contract.contract import Contract
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.rows import draw_transactions
from mlops_assets.testing.stores import open_lakehouse, open_resources, open_tracking
from mlops_assets_tests.assets.harness import transactions

NAMES = ("cards", "transfers")
SPACE = {"max_depth": {"low": 2, "high": 3}, "n_estimators": {"low": 5, "high": 12}}
SEARCH = {"space": SPACE, "trials": 2, "parallelism": 1, "alerts_per_day": 20, "replicates": 50}
TABLES = ("raw_transactions", "train_set", "validation_set", "test_set")


@dataclass(frozen=True)
class World:
    """Both models after their main jobs have run."""

    specs: dict[str, FraudModelSpec]
    definitions: dg.Definitions
    databases: LakehouseResource
    tracking: Tracking
    instance: dg.DagsterInstance
    landing: Path

    def table(self, model: str, name: str = "raw_transactions") -> pa.Table:
        lakehouse = self.databases.open(self.specs[model])
        version = lakehouse.require(name, made_by=name).version
        return lakehouse.read(name, version).toArrow()

    def run(self, job: str, **config: Any) -> dg.ExecuteInProcessResult:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, run_config=config, raise_on_error=False)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    spark_resource: SparkResource,
    empty_mlflow: Path,
    creditcard: Contract,
    handbook: Contract,
) -> Iterator[World]:
    home = tmp_path_factory.mktemp("two_models")
    landing = home / "landing"
    for name in NAMES:
        (landing / name).mkdir(parents=True)
    pa_csv.write_csv(transactions(1_500, fraud_rate=0.1, days=6), landing / "cards" / "a.csv")
    rows = draw_transactions(handbook, 1_500, days=40, fraud_rate=0.1)
    pa_csv.write_csv(rows, landing / "transfers" / "a.csv")
    contracts = {"cards": creditcard, "transfers": handbook}
    specs = {
        name: FraudModelSpec(
            name=name,
            contract=contracts[name],
            source=str(landing / name),
            search=SEARCH,
            gate={"min_lift": 1.0, "beat_simple_scores": False},
        )
        for name in NAMES
    }
    settings = Settings(home=home)
    tracking = open_tracking(settings.home, empty_mlflow)
    databases = open_lakehouse(settings.home, spark_resource)
    resources = open_resources(settings, databases, tracking)
    definitions = dg.Definitions.merge(
        build_shared(settings, lambda: None, resources=resources),
        *(build_fraud_model(spec, settings) for spec in specs.values()),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        made = World(specs, definitions, databases, tracking, instance, landing)
        for name in NAMES:
            assert made.run(f"{name}__main").success
        yield made


@pytest.mark.proof  # two models from their files to their versions
def test_each_model_has_its_own_rows(world: World):
    cards, moved = world.table("cards"), world.table("transfers")

    assert (cards.num_rows, moved.num_rows) == (1_500, 1_500)
    assert "v1" in cards.column_names
    assert "transaction_id" in moved.column_names
    roots = {world.databases.open(spec).location(table) for spec in world.specs.values() for table in TABLES}
    assert len(roots) == 2 * len(TABLES)
    assert all(Path(root).is_dir() for root in roots)


@pytest.mark.proof  # two models from their files to their versions
def test_each_model_has_its_own_runs_versions_and_aliases(world: World):
    for spec in world.specs.values():
        store = world.tracking.connect(spec.experiment)
        (parent,) = store.client.search_runs([store.experiment_id], "tags.`mlops_assets.stage` = 'search'")
        assert parent.data.tags["mlops_assets.database"] == spec.database
        champion = by_alias(store, spec.registered_model, "champion")
        assert champion is not None
        assert (champion.number, champion.run_id) == (1, parent.info.run_id)
        event = world.instance.get_latest_materialization_event(dg.AssetKey(spec.path("registered_model")))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["model"].value == spec.registered_model


@pytest.mark.proof  # two models from their files to their versions
def test_a_run_says_which_model_it_is_for(world: World):
    runs = world.instance.get_runs()

    assert {run.job_name: run.tags["mlops_assets/model"] for run in runs if run.job_name.endswith("__main")} == {
        "cards__main": "cards",
        "transfers__main": "transfers",
    }


@pytest.mark.proof  # two models from their files to their versions
def test_a_run_says_what_it_was_made_from(world: World):
    for name, spec in world.specs.items():
        store = world.tracking.connect(spec.experiment)
        (search,) = store.client.search_runs([store.experiment_id], "tags.`mlops_assets.stage` = 'search'")
        (run,) = world.instance.get_runs(dg.RunsFilter(job_name=f"{name}__main"))

        assert run.tags["mlops_assets/raw_version"] == search.data.tags["mlops_assets.raw_version"] == "0"
        assert run.tags["mlops_assets/mlflow_run"] == search.info.run_id
        assert search.data.tags["dagster.run_id"] == run.run_id


@pytest.mark.proof  # two models from their files to their versions
def test_files_of_another_model_are_refused(world: World):
    config = {"source": {"location": str(world.landing / "cards" / "a.csv")}}

    done = world.run("transfers__load_data", ops={"transfers__raw_transactions": {"config": config}})

    assert not done.success
    (failed,) = done.get_step_failure_events()
    failure = failed.step_failure_data.user_failure_data
    assert failure is not None
    assert "lies outside of the model's place" in str(failure.description)
    assert failure.metadata["model"].value == "transfers"
    assert world.table("transfers").num_rows == 1_500


@pytest.mark.proof  # two models from their files to their versions
def test_new_rows_of_one_model_are_followed_by_that_model_alone(world: World, handbook: Contract):
    def requested(cursor: Any) -> tuple[set[str], Any]:
        found = dg.evaluate_automation_conditions(world.definitions, world.instance, cursor=cursor)
        keys = {key for key in world.definitions.resolve_all_asset_keys() if found.get_num_requested(key)}
        return {key.to_user_string() for key in keys}, found.cursor

    before, cursor = requested(None)
    assert before == set()
    rows = draw_transactions(handbook, 200, days=2, fraud_rate=0.1, first_day=40, first_row=1_500)
    pa_csv.write_csv(rows, world.landing / "transfers" / "b.csv")
    assert world.run("transfers__load_data").success

    after, _ = requested(cursor)

    assert after == {f"transfers/{name}_set" for name in ("train", "validation", "test")}
    assert (world.table("cards").num_rows, world.table("transfers").num_rows) == (1_500, 1_700)
