"""Open an installation with the session's Spark, and copy one: a copy takes milliseconds, a load or a search seconds.

What belongs here: opening and copying tables and an MLflow store. What does not: what they hold (each room's
`conftest`).
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mlops_assets.fraud_model.deployment import build_resources
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings


def open_lakehouse(settings: Settings, spark: SparkResource) -> Lakehouse:
    """Return the tables of an installation."""
    made: Lakehouse = build_resources(settings)["lakehouse"].open(settings.spec())
    return replace(made, spark=lambda: spark.session)


def open_tracking(settings: Settings, empty_mlflow: Path) -> Tracking:
    """Return the MLflow store of an installation; an embedded one starts as a copy of an empty one."""
    made: Tracking = build_resources(settings)["tracking"]
    if not settings.tracking_uri:
        target = _database(settings.home)
        target.parent.mkdir(parents=True)
        shutil.copy(empty_mlflow, target)
    return made


def copy_tables(made: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """Copy tables in folders. Delta's log names files from the table's folder, and its times are kept."""
    shutil.copytree(made.root, lakehouse.root, dirs_exist_ok=True)
    return lakehouse


def copy_mlflow(made: Path, home: Path) -> None:
    """Copy the embedded MLflow store of another installation. It names artifacts by full paths; they are changed."""
    shutil.copytree(made / "mlflow", home / "mlflow", dirs_exist_ok=True)
    with closing(sqlite3.connect(_database(made))) as database:
        script = "\n".join(database.iterdump())
    _database(home).unlink()
    with closing(sqlite3.connect(_database(home))) as database:
        database.executescript(script.replace(str(made), str(home)))


def _database(home: Path) -> Path:
    return home / "mlflow" / "mlflow.db"
