"""What the judges of the Databricks path share: environments with others' packages, and which SDK is the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets_tests.environments import MakeEnvironment, maker

CHECKOUT = Path(__file__).resolve().parents[3]
# The newest; a version that has come out since is asked as well.
NEWEST_SDK = "databricks-sdk>=0.162"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Return a function that makes environments."""
    return maker(tmp_path_factory)
