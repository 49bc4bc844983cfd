"""What many tests begin with, made once a session and copied: a copy takes milliseconds, a load or a search seconds.

What belongs here: what more than one test of this room begins with. What does not: what a test changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome
from mlops_assets.testing.stores import copy_mlflow, copy_tables, open_tracking
from mlops_assets_tests.assets.harness import load, split, transactions, tune, write_csv


@dataclass(frozen=True)
class Loaded:
    """Tables that are only read or copied, and what the load that made them yielded."""

    lakehouse: Lakehouse
    outcome: Outcome


@dataclass(frozen=True)
class Searched:
    """A finished search that is only read or copied, and what it yielded."""

    lakehouse: Lakehouse
    tracking: Tracking
    home: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def small_loaded(new_lakehouse: Callable[[], Lakehouse]) -> Loaded:
    """Load the small synthetic source."""
    lakehouse = new_lakehouse()
    outcome = load(lakehouse)
    assert outcome.failure is None
    return Loaded(lakehouse, outcome)


@pytest.fixture(scope="session")
def file_loaded(new_lakehouse: Callable[[], Lakehouse], tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Load one file of 600 rows, `transactions()`."""
    lakehouse = new_lakehouse()
    outcome = load(lakehouse, write_csv(transactions(), tmp_path_factory.mktemp("file") / "a.csv"))
    assert outcome.failure is None
    return lakehouse


@pytest.fixture(scope="session")
def split_once(small_loaded: Loaded) -> Lakehouse:
    """Tables of the small synthetic source, loaded and cut."""
    assert split(small_loaded.lakehouse).failure is None
    return small_loaded.lakehouse


@pytest.fixture(scope="session")
def searched_once(split_once: Lakehouse, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Searched:
    """Search over the small synthetic source, in an MLflow store of its own."""
    settings = Settings(home=tmp_path_factory.mktemp("searched"))
    tracking = open_tracking(settings.home, empty_mlflow)
    outcome = tune(split_once, tracking)
    assert outcome.failure is None
    return Searched(split_once, tracking, settings.home, outcome)


@pytest.fixture
def known(file_loaded: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """Tables of the test's own that hold `transactions()` as version 0."""
    return copy_tables(file_loaded, lakehouse)


@pytest.fixture
def prepared(split_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """Tables of the test's own, loaded and cut."""
    return copy_tables(split_once, lakehouse)


@pytest.fixture
def tuned(searched_once: Searched, prepared: Lakehouse, tracking: Tracking, settings: Settings) -> Lakehouse:
    """Tables of the test's own; `tracking` is the test's own as well, and holds a finished search of them."""
    assert tracking.mlflow_tracking_uri.endswith(f"{settings.home}/mlflow/mlflow.db")
    copy_mlflow(searched_once.home, settings.home)
    return prepared
