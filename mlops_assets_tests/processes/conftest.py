"""Homes and inputs of the process tests, and the result of an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow.csv as pa_csv
import pytest

from mlops_assets.automation.jobs import MAIN
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.definitions import build_defs
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import Databases
from mlops_assets_tests.processes.control import CONFIG

ROWS = 3_000


def on_shared_spark(lakehouse: LakehouseResource, settings: Settings, spark: SparkResource) -> Lakehouse:
    """Return the same tables, opened with the Spark of the test session."""
    return replace(lakehouse.open(settings.spec()), spark=lambda: spark.session)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five files of the creditcard contract."""
    folder = tmp_path_factory.mktemp("inputs")
    paths = [folder / f"{number}.csv" for number in range(5)]
    for seed, path in enumerate(paths, start=3):
        pa_csv.write_csv(generate(rows=ROWS, days=6, fraud_rate=0.03, seed=seed), path)
    return paths


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Callable[[], Path]:
    """Makes homes that share the cached jars and nothing else."""
    ensure_delta_jars(shared_home / "jars")

    def make() -> Path:
        home = tmp_path_factory.mktemp("home")
        (home / "jars").symlink_to(shared_home / "jars")
        return home

    return make


@pytest.fixture(scope="session")
def undisturbed(inputs: list[Path], new_home: Callable[[], Path], spark_resource: SparkResource) -> Path:
    """A home in which the main job ran once on the first input, without interruption."""
    settings = Settings(home=new_home(), source=str(inputs[0]))
    lakehouse = on_shared_spark(build_resources(settings)["lakehouse"], settings, spark_resource)
    job = build_defs(settings, lakehouse=Databases(lakehouse)).resolve_job_def(MAIN)
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(run_config={"ops": CONFIG}, instance=instance).success
    return settings.home
