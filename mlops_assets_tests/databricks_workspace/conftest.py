"""One loopback workspace for all tests of the package: a start costs little, but each has its own token and port."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient

from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.settings import Settings
from mlops_assets_tests.databricks_workspace import Workspace


@pytest.fixture(scope="package", autouse=True)
def linux() -> None:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")


@pytest.fixture(scope="package")
def delta_jars() -> tuple[Path, ...]:
    return ensure_delta_jars(Settings.from_environment().home / "jars")


@pytest.fixture(scope="package")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory, delta_jars: tuple[Path, ...]) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("workspace"), delta_jars=delta_jars) as workspace:
        yield workspace


@pytest.fixture
def workspace(shared_workspace: Workspace) -> Iterator[Workspace]:
    shared_workspace.calls.clear()
    yield shared_workspace
    unmet = shared_workspace.faults.unmet()
    shared_workspace.faults.clear()
    assert unmet == [], "faults that were set and never met"


@pytest.fixture
def client(workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(host=workspace.host, token=workspace.token)
