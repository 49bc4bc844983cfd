"""Dagster's own web app on an instance without code, for attacks on it and on what it shows.

What belongs here: fixtures. What does not: attacks (tests).
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from mlops_assets.instance.guard import App


@pytest.fixture(scope="module")
def web_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def dagsters_app(web_instance: dg.DagsterInstance) -> Iterator[App]:
    """The app without a guard."""
    with WorkspaceProcessContext(web_instance, EmptyWorkspaceTarget()) as context:
        yield create_app_from_workspace_process_context(context)
