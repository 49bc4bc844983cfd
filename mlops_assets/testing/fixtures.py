"""The fixtures of the plugin: one Spark for the test session; tables, an MLflow store and an instance for each test.

What belongs here: fixtures, each of a few lines. What does not: what they are made of (`stores`, `invoking`), rows
(`rows`), conditions (`ticking`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.deployment import Deployment
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.invoking import Outcome, load_rows
from mlops_assets.testing.stores import (
    local_deployment,
    make_empty_mlflow,
    open_lakehouse,
    open_resources,
    open_tracking,
    session_spark,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def mlops_spark_resource() -> SparkResource:
    """The Spark of the test session, not started yet. Override it for another master, heap or `extra_conf`.

    The environment (`MLOPS_HOME`) only says where the Delta jars are, which a test run must not fetch anew.
    """
    settings = Settings.from_environment()
    return session_spark(settings.home, settings.java_home)


@pytest.fixture(scope="session")
def mlops_spark(mlops_spark_resource: SparkResource) -> SparkSession:
    """The running session."""
    return mlops_spark_resource.session


@pytest.fixture(scope="session")
def mlops_empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an empty MLflow store, from which each test's own is copied."""
    return make_empty_mlflow(tmp_path_factory.mktemp("empty_mlflow"))


@pytest.fixture
def mlops_deployment(tmp_path: Path) -> Deployment:
    """A local deployment whose home is `tmp_path / "home"`, for `build_fraud_model` and `build_shared`."""
    return local_deployment(tmp_path / "home")


@pytest.fixture
def mlops_lakehouse(mlops_deployment: Deployment, mlops_spark_resource: SparkResource) -> LakehouseResource:
    """An empty lakehouse; Spark starts when a table is first looked at."""
    return open_lakehouse(mlops_deployment.home, mlops_spark_resource)


@pytest.fixture
def mlops_tracking(mlops_deployment: Deployment, mlops_empty_mlflow: Path) -> Tracking:
    """An empty MLflow store with a registry."""
    return open_tracking(mlops_deployment.home, mlops_empty_mlflow)


@pytest.fixture
def mlops_resources(
    mlops_deployment: Deployment, mlops_lakehouse: LakehouseResource, mlops_tracking: Tracking
) -> dict[str, Any]:
    """All resources that the assets of a model need, for `dg.materialize` and `build_shared`."""
    return open_resources(mlops_deployment, mlops_lakehouse, mlops_tracking)


@pytest.fixture
def mlops_instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance without a history, in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def mlops_load(mlops_lakehouse: LakehouseResource, tmp_path: Path) -> Callable[[FraudModelSpec, pa.Table], Outcome]:
    """Load rows into a model's raw table through its contract; see `load_rows`, for what raises as well."""
    numbers = itertools.count()
    return lambda spec, rows: load_rows(mlops_lakehouse, spec, rows, tmp_path / f"mlops_load_{next(numbers)}.parquet")
