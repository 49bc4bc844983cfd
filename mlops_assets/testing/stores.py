"""A Spark session for many small tables, empty tables and MLflow stores, and copies of filled ones.

What belongs here: opening and copying tables and MLflow stores of a local deployment; a copy takes milliseconds, a load
or a search seconds. What does not: what they hold, pytest (`fixtures`).
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mlops_assets.deployment import Deployment
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking

_MASTER, _MEMORY = "local[2]", "1g"
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
    # One task for a few rows, and one job for a query.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    # The platform's own sessions are short, and do without the second compiler.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=4",
}


def session_spark(home: Path, java_home: str | None) -> SparkResource:
    """Return the Spark of a test session, which starts when it is first used.

    A process has one: a JVM of its own for each test would cost 5 to 10 s a time.

    Args:
        home: Absolute folder that outlives the test run; it holds the Delta jars.
        java_home: As in `SparkResource`.
    """
    return SparkResource(
        home=str(home), master=_MASTER, driver_memory=_MEMORY, java_home=java_home, extra_conf=_LONG_LIVED
    )


def local_deployment(home: Path) -> Deployment:
    """Return a local deployment with the defaults, whatever the environment says.

    A test that is run with `MLOPS_TARGET=databricks` in the environment must not open a workspace's tables.

    Args:
        home: Its absolute folder.
    """
    # Not validated, and so not completed from the environment.
    return Deployment.model_construct(home=home, spark_master=_MASTER, driver_memory=_MEMORY)


def open_lakehouse(home: Path, spark: SparkResource) -> LakehouseResource:
    """Return the lakehouse of a local deployment, on a session that others use as well."""
    made: LakehouseResource = build_resources(local_deployment(home))["lakehouse"]
    return LakehouseResource(spark=spark, root=made.root, locks=made.locks)


def make_empty_mlflow(folder: Path) -> Path:
    """Make an MLflow store without runs; its fifty migrations cost seconds, a copy nothing.

    Returns:
        Its database, for `open_tracking`.
    """
    from mlflow import MlflowClient

    store = folder / "mlflow.db"
    MlflowClient(f"sqlite:///{store}").search_experiments()
    return store


def open_tracking(home: Path, empty_mlflow: Path) -> Tracking:
    """Return the MLflow store of a local deployment, which starts as a copy of an empty one.

    Raises:
        FileExistsError: There is one already.
    """
    target = _database(home)
    target.parent.mkdir(parents=True)
    shutil.copy(empty_mlflow, target)
    made: Tracking = build_resources(local_deployment(home))["tracking"]
    return made


def open_resources(deployment: Deployment, lakehouse: LakehouseResource, tracking: Tracking) -> dict[str, Any]:
    """Return all resources of a deployment, with these two in the place of its own."""
    return {**build_resources(deployment), "lakehouse": lakehouse, "tracking": tracking}


def copy_tables(made: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """Copy tables in folders. Delta's log names files from the table's folder, and its times are kept."""
    shutil.copytree(made.root, lakehouse.root, dirs_exist_ok=True)
    return lakehouse


def copy_mlflow(made: Path, home: Path) -> None:
    """Copy the embedded MLflow store of another home. It names artifacts by full paths; they are changed."""
    from mlflow.tracking._tracking_service import utils as tracking_utils

    shutil.copytree(made / "mlflow", home / "mlflow", dirs_exist_ok=True)
    with closing(sqlite3.connect(_database(made))) as database:
        script = "\n".join(database.iterdump())
    _database(home).unlink()
    with closing(sqlite3.connect(_database(home))) as database:
        database.executescript(script.replace(str(made), str(home)))
    # MLflow remembers where a run's artifacts are by the run's id alone, and this run is in two stores now.
    tracking_utils._artifact_repos_cache.clear()  # noqa: SLF001 - there is no other way


def _database(home: Path) -> Path:
    return home / "mlflow" / "mlflow.db"
