"""Fixtures that several rooms share; sessions and stores are those of the test kit, `mlops_assets.testing`.

What belongs here: what is costly to start or needed in more than one room, and is of no use to a user's own tests. What
does not: helpers of one test file.
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
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.testing.stores import open_lakehouse
from mlops_assets_tests.proofs import COLLECTED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytest_plugins = ["mlops_assets.testing"]

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep where the proofs are before they are deselected, so that a test can say which belongs to no part."""
    config.stash[COLLECTED] = [
        item.path.relative_to(CHECKOUT) for item in items if item.get_closest_marker("proof") is not None
    ]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A command that is called in this process has it write private files from then on."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


# --- what the test kit has, by the short names that these tests use ---------------------------------------------------


@pytest.fixture(scope="session")
def spark_resource(mlops_spark_resource: SparkResource) -> SparkResource:
    return mlops_spark_resource


@pytest.fixture(scope="session")
def spark(mlops_spark: SparkSession) -> SparkSession:
    return mlops_spark


@pytest.fixture
def lakehouse(mlops_lakehouse: LakehouseResource, settings: Settings) -> Lakehouse:
    """The tables of the model that the settings describe."""
    return mlops_lakehouse.open(settings.spec())


@pytest.fixture(scope="session")
def empty_mlflow(mlops_empty_mlflow: Path) -> Path:
    return mlops_empty_mlflow


@pytest.fixture
def tracking(mlops_tracking: Tracking) -> Tracking:
    return mlops_tracking


@pytest.fixture
def instance(mlops_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    return mlops_instance


# --- what these tests share beside it ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_home(spark_resource: SparkResource) -> Path:
    """Folder that outlives the session, so that the Delta jars are resolved once a machine and not once a test run."""
    return Path(spark_resource.home)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation of its own; its home is that of the kit's fixtures."""
    return Settings(home=tmp_path / "home", spark_master="local[2]", driver_memory="1g")


@pytest.fixture(scope="session")
def new_lakehouse(tmp_path_factory: pytest.TempPathFactory, spark_resource: SparkResource) -> Callable[[], Lakehouse]:
    """Open empty tables in a folder that outlives the test, for what a file or the session begins with."""
    return lambda: open_lakehouse(tmp_path_factory.mktemp("shared"), spark_resource).open(Settings().spec())


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
def creditcard() -> Contract:
    return load_contract("creditcard")


@pytest.fixture(scope="session")
def handbook() -> Contract:
    return load_contract("handbook")
