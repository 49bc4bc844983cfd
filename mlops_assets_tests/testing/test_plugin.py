"""The plugin: light until it is used, only there when it is named, and never led elsewhere by the environment."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlops_assets.testing
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.sources import FileTransactions
from mlops_assets.automation.conditions import conditions
from mlops_assets.deployment import Deployment
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.invoking import Outcome, load_source
from mlops_assets.testing.rows import TINY, draw_transactions
from mlops_assets.testing.stores import local_deployment, open_tracking
from mlops_assets.testing.ticking import Ticks
from mlops_assets_tests.test_definitions import CHECKOUT, HEAVY, PACKAGE, imports_of

Load = Callable[[FraudModelSpec, pa.Table], Outcome]


def spec_named(name: str, source: str = "/landing") -> FraudModelSpec:
    return FraudModelSpec(name=name, contract=TINY, source=source)


def python(code: str, folder: Path = CHECKOUT) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.strip()


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_importing_it_imports_no_heavy_library():
    heavy = f"[m for m in {HEAVY!r} if m in sys.modules]"

    assert python(f"import sys, mlops_assets.testing\nprint({heavy})") == "[]"
    assert "pyspark" in python(f"import sys, mlops_assets.testing, pyspark\nprint({heavy})"), "the guard sees one"


def test_pytest_is_for_the_kit_alone_and_comes_with_its_extra():
    importing = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "pytest" for name in imports_of(path))
    }
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]

    assert importing == {"testing"}
    assert not [name for name in project["dependencies"] if name.startswith("pytest")]
    assert [name.startswith("pytest>=") for name in project["optional-dependencies"]["testing"]] == [True]


def test_it_is_there_only_when_it_is_named(tmp_path: Path):
    asked = "import sys, pytest\nsys.exit(pytest.main(['--fixtures', '-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"

    assert "mlops_" not in python(asked, tmp_path)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mlops_assets.testing"]\n')
    shown = python(asked, tmp_path)
    assert [name for name in mlops_assets.testing.__all__ if name not in shown] == []
    assert not [point for point in entry_points(group="pytest11") if point.value.startswith("mlops_assets")]


def test_all_fixtures_have_the_prefix():
    fixtures = mlops_assets.testing.fixtures
    made = {name for name, value in vars(fixtures).items() if type(value).__name__ == "FixtureFunctionDefinition"}

    assert made == set(mlops_assets.testing.__all__)
    assert {name[:6] for name in made} == {"mlops_"}


# --- where it leads ---------------------------------------------------------------------------------------------------


def test_the_environment_leads_it_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = local_deployment(tmp_path)
    for name, value in {
        "MLOPS_TARGET": "databricks",
        "MLOPS_TRACKING_URI": "https://mlflow.example.org",
        "MLOPS_HOME": "/production",
        "MLOPS_AUTOMATION": "on",
        "MLOPS_SPARK_MASTER": "local[64]",
        "MLOPS_ALERT_WEBHOOK": "https://alerts.example.org",
        "DATABRICKS_RUNTIME_VERSION": "18.2",
    }.items():
        monkeypatch.setenv(name, value)

    assert local_deployment(tmp_path) == before
    assert (before.target, before.home, before.on_cluster) == ("local", tmp_path, False)
    assert before.mlflow_uri.startswith(f"sqlite:///{tmp_path}")
    assert Deployment().target == "databricks", "which anything else would follow"


def test_a_store_that_is_there_is_not_written_over(tmp_path: Path, mlops_empty_mlflow: Path):
    open_tracking(tmp_path, mlops_empty_mlflow)

    with pytest.raises(FileExistsError):
        open_tracking(tmp_path, mlops_empty_mlflow)


def test_each_test_has_an_empty_store_of_its_own(mlops_tracking: Tracking, tmp_path: Path):
    store = mlops_tracking.connect("mine")

    assert str(tmp_path) in mlops_tracking.mlflow_tracking_uri
    assert {found.name for found in store.client.search_experiments()} <= {"Default", "mine"}
    assert store.client.search_runs([store.experiment_id]) == []
    assert store.client.search_registered_models() == []


# --- loading, and what follows ----------------------------------------------------------------------------------------


def test_rows_that_are_loaded_are_in_the_models_own_table(
    mlops_lakehouse: LakehouseResource, mlops_load: Load, tmp_path: Path, mlops_spark_resource: SparkResource
):
    cards, transfers = spec_named("cards"), spec_named("transfers")
    assert mlops_lakehouse.spark is mlops_spark_resource

    mlops_load(cards, draw_transactions(TINY, 100))
    outcome = mlops_load(cards, draw_transactions(TINY, 50, first_day=6, first_row=100))

    tables = mlops_lakehouse.open(cards)
    assert tables.read(RAW, tables.require(RAW, made_by=RAW).version).count() == 150
    assert outcome.of(RAW)[0].asset_key == key_of(cards, RAW)
    assert Path(tables.root).is_relative_to(tmp_path)
    assert mlops_lakehouse.open(transfers).root != tables.root
    assert not Path(mlops_lakehouse.open(transfers).root).exists()


def test_rows_that_do_not_get_in_fail_the_test_that_wants_them(mlops_load: Load):
    rows = draw_transactions(TINY, 100)

    with pytest.raises(AssertionError, match=r"the rows were not loaded: .*card"):
        mlops_load(spec_named("cards"), rows.drop_columns(["card"]))
    one_bad = rows.set_column(3, "amount", pa.array([-1.0, *rows["amount"].to_pylist()[1:]]))
    with pytest.raises(AssertionError, match=r"rows were set aside:\n(?s:.*)out_of_range:amount"):
        mlops_load(spec_named("cards"), one_bad)


def test_a_model_of_a_users_own_runs_and_is_followed(
    mlops_resources: dict[str, Any],
    mlops_deployment: Deployment,
    mlops_instance: dg.DagsterInstance,
    tmp_path: Path,
):
    """The fixtures fit together: a code location, a load by its job, a tick after it."""
    (tmp_path / "landing").mkdir()
    spec = spec_named("cards", str(tmp_path / "landing"))
    pq.write_table(draw_transactions(TINY, 200), tmp_path / "landing" / "a.parquet")
    defs = dg.Definitions.merge(
        build_shared(mlops_deployment, lambda: None, resources=mlops_resources),
        build_fraud_model(spec, mlops_deployment),
    )
    ticks = Ticks(mlops_instance, defs)

    assert ticks.look() == set()
    assert ticks.execute({"cards/raw_transactions", "cards/quarantined_transactions"})

    assert ticks.look() == {f"cards/{name}_set" for name in ("train", "validation", "test")}
    assert {key.to_user_string() for key in conditions(spec)} > {"cards/train_set"}


def test_what_a_load_yields_can_be_looked_at(mlops_lakehouse: LakehouseResource):
    outcome = load_source(mlops_lakehouse, spec_named("cards"), FileTransactions(location="/nowhere/*.csv"))

    assert "/nowhere" in outcome.message
    assert outcome.results == []
    with pytest.raises(AssertionError, match="did not fail"):
        _ = Outcome().message
