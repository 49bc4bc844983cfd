"""A home that was made before models had specs goes on: its tables, its model, its history and what follows them.

`kept_home.tar.xz` is what two runs left at revision 95a0c95, the last one without `FraudModelSpec`: the job `main`,
whose search of two trials was killed, and `build_model`, which resumed it. It holds 2,000 generated transactions from a
folder and a contract in `kept_cards.yaml`, after whose file the database was named. It was made in `/tmp/before`.
"""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow.csv as pa_csv
import pytest
from deltalake import DeltaTable

from mlops_assets.cli.location import Location, choose
from mlops_assets.cli.models import run_models
from mlops_assets.definitions import build_defs
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets.testing.stores import open_lakehouse
from mlops_assets.testing.ticking import Ticks
from mlops_assets_tests.assets.harness import transactions

KEPT = Path(__file__).with_name("kept_home.tar.xz")
MADE_IN = "/tmp/before"  # noqa: S108 - a name in the kept files; nothing is there
DATABASE, MODEL, ROWS = "kept_cards_files", "fraud_kept_cards_files", 2_000


@dataclass
class Home:
    """The kept home, where the test has unpacked it."""

    settings: Settings
    instance: dg.DagsterInstance
    defs: dg.Definitions

    def run(self, job: str, **ops: object) -> bool:
        config = {"ops": {name: {"config": value} for name, value in ops.items()}}
        found = self.defs.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, run_config=config, raise_on_error=False).success

    def rows(self, table: str) -> tuple[int, int]:
        """Return version and number of rows of a table, read without the platform."""
        found = DeltaTable(self.settings.lakehouse_root / DATABASE / table)
        return found.version(), found.to_pyarrow_table().num_rows

    def newest(self, asset: str) -> dict[str, object]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture
def home(tmp_path: Path, spark_resource: SparkResource) -> Iterator[Home]:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    for store in tmp_path.rglob("*.db"):
        _moved(store, str(tmp_path))
    settings = Settings(
        home=tmp_path / "home",
        source=str(tmp_path / "landing"),
        contract=str(tmp_path / "kept_cards.yaml"),
        retrain_rows=100,
    )
    defs = build_defs(settings, lakehouse=open_lakehouse(settings.home, spark_resource))
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield Home(settings, instance, defs)


def _moved(store: Path, to: str) -> None:
    """Have a database name the folder that it lies in now."""
    with closing(sqlite3.connect(store)) as database:
        script = "\n".join(database.iterdump())
    store.unlink()
    with closing(sqlite3.connect(store)) as database:
        database.executescript(script.replace(MADE_IN, to))


@pytest.mark.proof  # a load, a cut and a search
def test_the_next_load_cut_and_search_follow(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = choose(home.settings, DATABASE, Location()).spec
    assert (spec.name, spec.database, spec.registered_model) == ("", DATABASE, MODEL)
    store = (home.defs.resources or {})["tracking"].connect(spec.experiment)
    # Somebody let the kept version serve, though it is no better than chance.
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    ticks = Ticks(home.instance, home.defs)
    assert ticks.look() == set(), "nothing is due: the history is known"
    assert run_models(home.settings, [spec]) == 0
    shown = capsys.readouterr().out
    assert "version 1" in shown
    assert f"{ROWS:,}" in shown
    old_run = str(home.newest("tuned_model")["mlflow_run_id"])

    pa_csv.write_csv(transactions(800, seed=9, fraud_rate=0.06, days=6), tmp_path / "landing" / "b.csv")
    assert home.run("load_data")

    assert home.rows("raw_transactions") == (1, ROWS + 800), "the kept file is known by its content"
    assert home.newest("raw_transactions")["rows_added"] == 800
    sets = {"train_set", "validation_set", "test_set"}
    assert ticks.look() == sets
    assert ticks.execute(sets)
    assert home.newest("test_set")["raw_version"] == 1
    assert ticks.look() == {"tuned_model"}

    search = {"trials": 2, "parallelism": 1, "replicates": 50, "production_refit": False}
    assert home.run("build_model", tuned_model=search)

    registered = home.newest("registered_model")
    assert (registered["model"], registered["version"]) == (MODEL, 2)
    assert registered["mlflow_run_id"] != old_run
    assert "can't tell: the version can't be verified: an earlier release registered it" in str(registered["gate"])
    version = by_alias(store, MODEL, "challenger")
    assert version is not None
    assert version.number == 2
    assert ticks.look() == set()
