"""One loopback workspace for all tests of the package: a start costs little, but each has its own token and port."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="package", autouse=True)
def linux() -> None:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")


@pytest.fixture(scope="package")
def delta_jars() -> tuple[Path, ...]:
    """The jars that the checkout's set-up downloads; elsewhere name a folder that has them."""
    home = PACKAGE.parents[1] / os.environ.get("MLOPS_HOME", ".mlops")
    folder = Path(os.environ.get("DATABRICKS_LOOPBACK_JARS", home / "jars"))
    jars = tuple(sorted(folder.glob("*.jar")))
    if not jars:
        pytest.skip(f"no jars of Delta in {folder}: name a folder that has them in DATABRICKS_LOOPBACK_JARS")
    return jars


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
