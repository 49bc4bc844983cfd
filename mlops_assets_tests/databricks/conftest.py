"""A loopback workspace for the tests of this package, and the shipped profiles pointed at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from databricks_loopback import Workspace
from mlops_assets.databricks.profile import DatabricksProfile, load_profile

pytest.register_assert_rewrite("mlops_assets_tests.databricks.main_job_ways")

_LAUNCHING = ("launch", "test_pipes.py", "test_project_there.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what launches steps as a long proof; what only talks to the workspace stays among the tests."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in _LAUNCHING:
            item.add_marker(pytest.mark.proof)


MakeProfile = Callable[..., DatabricksProfile]


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Eight cores, because Spark does not start when a task wants more than there are."""
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with Workspace(tmp_path_factory.mktemp("workspace"), cores=8) as workspace:
        workspace.clusters.node_types.add("Standard_F8s_v2")
        yield workspace


@pytest.fixture
def workspace(shared_workspace: Workspace) -> Iterator[Workspace]:
    shared_workspace.calls.clear()
    yield shared_workspace
    unmet = shared_workspace.faults.unmet()
    shared_workspace.faults.clear()
    assert unmet == [], "faults that were set and never met"


def profile_of(workspace: Workspace, name: str = "dev", **overrides: Any) -> DatabricksProfile:
    """Load a shipped profile for a workspace, with overrides by the rest of their variable's name."""
    fields = {"HOST": workspace.host, **overrides}
    return load_profile(name, {f"MLOPS_DATABRICKS_{field}": str(value) for field, value in fields.items()})


@pytest.fixture
def profile_there(workspace: Workspace) -> MakeProfile:
    """`profile_of` for the workspace of the test."""
    return partial(profile_of, workspace)


@pytest.fixture
def empty_home(tmp_path: Path) -> Path:
    return tmp_path / "home"
