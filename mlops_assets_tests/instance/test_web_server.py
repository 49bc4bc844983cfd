"""What `mlops ui` becomes: `dagster dev` on the loopback address, for the platform's code location or a project's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.instance import web_server
from mlops_assets.settings import Settings

serve: Any = web_server.serve_ui  # it does not return, unless what takes this process's place is replaced


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that takes this process's place."""
    command: list[str] = []

    def replace(_: str, arguments: list[str]) -> None:
        command.extend(arguments)

    monkeypatch.setattr(os, "execvp", replace)
    return command


def elsewhere(home: Path) -> Settings:
    """Return settings with an MLflow server, beside which none is started."""
    return Settings(home=home, tracking_uri="http://127.0.0.1:9")


def test_by_default_the_platforms_own_code_location_is_served(tmp_path: Path, started: list[str]):
    serve(elsewhere(tmp_path), 3001)

    assert started[:2] == ["env", f"DAGSTER_HOME={tmp_path / 'dagster'}"]
    assert started[started.index("-w") + 1].endswith("mlops_assets/instance/workspace.yaml")
    assert started[-4:] == ["-h", "127.0.0.1", "-p", "3001"]
    assert "-m" not in started[started.index("dev") :]


def test_a_project_is_served_from_its_folder(tmp_path: Path, started: list[str]):
    serve(elsewhere(tmp_path), 3000, module="own.definitions", path=Path("/project/src"))

    served = started[started.index("dev") :]
    assert served[:7] == ["dev", "-m", "own.definitions", "-a", "defs", "-d", "/project/src"]
    assert "-w" not in served


def test_a_project_that_is_installed_needs_no_folder(tmp_path: Path, started: list[str]):
    serve(elsewhere(tmp_path), 3000, module="own.definitions")

    assert "-d" not in started
