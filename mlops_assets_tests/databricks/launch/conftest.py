"""A workspace with one volume, and drivers for both kinds of staging."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from databricks_loopback import Workspace
from mlops_assets import retries
from mlops_assets_tests.databricks.launch.driving import CHECKOUT, VOLUME, Driver, staged, trees


@pytest.fixture(scope="package")
def launch_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with Workspace(tmp_path_factory.mktemp("workspace")) as workspace:
        workspace.catalog.add_schema("main.ml")
        workspace.catalog.add_volume(VOLUME)
        yield workspace


@pytest.fixture
def workspace(launch_workspace: Workspace) -> Iterator[Workspace]:
    launch_workspace.calls.clear()
    yield launch_workspace
    unmet = launch_workspace.faults.unmet()
    launch_workspace.faults.clear()
    left = [run for run in launch_workspace.runs if run.is_active]
    for run in left:  # the next test must not find them
        for task in run.tasks:
            task.cancel.set()
            task.finished.wait(30)
    for name in staged(launch_workspace):
        for tree in trees(launch_workspace):
            (tree / name).unlink(missing_ok=True)
    for folder in (launch_workspace.storage.volumes / "main/ml/staging/launches", launch_workspace.storage.dbfs):
        for path in sorted(folder.rglob("*"), reverse=True):  # children before their parents
            path.rmdir()
    assert [run.name for run in left] == [], "runs that were left behind"
    assert unmet == [], "faults that were set and never met"


@pytest.fixture(autouse=True)
def _one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed launch says stands in its first attempt; see `limited` for the others."""
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=0))


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, _one_attempt: None) -> int:
    """As many attempts as a user has, at once; returns the retries."""
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=2))
    return 2


@pytest.fixture(params=["volume", "dbfs"])
def driver(request: pytest.FixtureRequest, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """For what must be the same with both kinds of staging."""
    return Driver(workspace, request.param, monkeypatch)


@pytest.fixture
def volume(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """For what does not depend on the kind of staging."""
    return Driver(workspace, "volume", monkeypatch)


@pytest.fixture
def dbfs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(workspace, "dbfs", monkeypatch)


@pytest.fixture
def checkout() -> Path:
    return CHECKOUT
