"""What `mlops ui` becomes: `dagster dev` on the loopback address, for the platform's code location or a project's."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.errors import SettingsError
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path, started: list[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} is taken.*choose another: --port N"):
            serve(Settings(home=tmp_path), port)

    assert started == []
    assert list(tmp_path.iterdir()) == []


def test_by_default_the_platforms_own_code_location_is_served(tmp_path: Path, started: list[str]):
    port = free_port()
    serve(elsewhere(tmp_path), port)

    home = f"DAGSTER_HOME={tmp_path / 'dagster'}"
    assert started[:3] == ["env", home, f"MLOPS_DAGSTER_URL=http://127.0.0.1:{port}"]
    assert started[started.index("-w") + 1].endswith("mlops_assets/instance/workspace.yaml")
    assert started[-4:] == ["-h", "127.0.0.1", "-p", str(port)]
    assert "-m" not in started[started.index("dev") :]


def test_a_project_is_served_from_its_folder(tmp_path: Path, started: list[str]):
    serve(elsewhere(tmp_path), free_port(), module="own.definitions", path=Path("/project/src"))

    served = started[started.index("dev") :]
    assert served[:7] == ["dev", "-m", "own.definitions", "-a", "defs", "-d", "/project/src"]
    assert "-w" not in served


def test_a_project_that_is_installed_needs_no_folder(tmp_path: Path, started: list[str]):
    serve(elsewhere(tmp_path), free_port(), module="own.definitions")

    assert "-d" not in started


def test_an_address_of_the_settings_is_kept(tmp_path: Path, started: list[str]):
    settings = elsewhere(tmp_path).model_copy(update={"dagster_url": "https://dagster.example.org"})

    serve(settings, free_port())

    assert not any(given.startswith("MLOPS_DAGSTER_URL") for given in started)
