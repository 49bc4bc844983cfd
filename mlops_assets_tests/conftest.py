"""Fixtures that several rooms share: one Spark session, folders of their own, small data.

What belongs here: what is costly to start or needed in more than one room. What does not: helpers of one test file.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets_tests.installation import open_lakehouse, open_tracking
from mlops_assets_tests.proofs import COLLECTED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKOUT = Path(__file__).resolve().parent.parent
# One session serves thousands of small tables. Spark and Delta remember each by default (10,000 tables for an hour,
# 1,000 queries with their plans), and a heap of 1 GiB then ends in collecting garbage.
_LONG_LIVED = {
    "spark.databricks.delta.delta.log.cacheSize": "50",
    "spark.sql.ui.retainedExecutions": "5",
    "spark.ui.retainedJobs": "5",
    "spark.ui.retainedStages": "5",
    "spark.ui.retainedTasks": "50",
    # Tables have a few rows here, and compiling Java for each query takes a fifth of the time. Tests that start other
    # processes compile it, as users' runs do.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # The platform's own sessions are short, and do without the second compiler.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=4",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep where the proofs are before they are deselected, so that a test can say which belongs to no part."""
    config.stash[COLLECTED] = [
        item.path.relative_to(CHECKOUT) for item in items if item.get_closest_marker("proof") is not None
    ]


@pytest.fixture(scope="session")
def shared_home() -> Path:
    """Folder that outlives the session, so that the Delta jars are resolved once a machine and not once a test run."""
    home = Path(os.environ.get("MLOPS_HOME", CHECKOUT / ".mlops"))
    return (home if home.is_absolute() else CHECKOUT / home).resolve()


@pytest.fixture(scope="session")
def spark_resource(shared_home: Path) -> SparkResource:
    """The one Spark of the test session; a JVM of its own for each test would cost 5 to 10 s a time."""
    return SparkResource(home=str(shared_home), master="local[2]", driver_memory="1g", extra_conf=_LONG_LIVED)


@pytest.fixture(scope="session")
def spark(spark_resource: SparkResource) -> SparkSession:
    return spark_resource.session


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation of its own."""
    return Settings(home=tmp_path / "home", spark_master="local[2]", driver_memory="1g")


@pytest.fixture
def lakehouse(settings: Settings, spark_resource: SparkResource) -> Lakehouse:
    return open_lakehouse(settings, spark_resource)


@pytest.fixture(scope="session")
def new_lakehouse(tmp_path_factory: pytest.TempPathFactory, spark_resource: SparkResource) -> Callable[[], Lakehouse]:
    """Open empty tables in a folder that outlives the test, for what a file or the session begins with."""
    return lambda: open_lakehouse(Settings(home=tmp_path_factory.mktemp("shared")), spark_resource)


@pytest.fixture
def schema(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    """A schema of the session's catalog, for tables by name."""
    name = f"s_{uuid.uuid4().hex[:12]}"
    spark.sql(f"CREATE SCHEMA `{name}` LOCATION '{tmp_path / 'warehouse'}'")
    yield name
    spark.sql(f"DROP SCHEMA `{name}` CASCADE")


@pytest.fixture
def catalog(spark_resource: SparkResource, schema: str, tmp_path: Path) -> Lakehouse:
    """Tables by name, as in Unity Catalog."""
    return Lakehouse(
        spark=lambda: spark_resource.session, database=schema, root=str(tmp_path / "staging"), catalog="spark_catalog"
    )


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store in which nothing is; its fifty migrations cost seconds, a copy nothing."""
    from mlflow import MlflowClient  # noqa: PLC0415 - costs seconds, which tests without it should not pay

    store = tmp_path_factory.mktemp("empty_mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{store}").search_experiments()
    return store


@pytest.fixture
def tracking(settings: Settings, empty_mlflow: Path) -> Tracking:
    return open_tracking(settings, empty_mlflow)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="session")
def creditcard() -> Contract:
    return load_contract("creditcard")


@pytest.fixture(scope="session")
def handbook() -> Contract:
    return load_contract("handbook")
