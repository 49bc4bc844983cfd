"""MLflow's server beside Dagster's: where it is served, and that it ends with what it stands beside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mlops_assets.instance import mlflow_ui
from mlops_assets.instance.mlflow_ui import address_to_serve
from mlops_assets.settings import Settings
from mlops_assets_tests.browser.dagster_dev import free_port, living

_SECONDS = 90.0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_embedded_store_is_served_where_the_settings_say(tmp_path: Path):
    port = free_port()

    assert address_to_serve(Settings(home=tmp_path, mlflow_ui=f"http://127.0.0.1:{port}")) == f"http://127.0.0.1:{port}"


def test_a_stated_port_that_is_taken_is_somebody_elses_and_the_default_gives_way(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
):
    address = f"http://127.0.0.1:{taken}"
    assert address_to_serve(Settings(home=tmp_path, mlflow_ui=address)) is None

    monkeypatch.setattr("mlops_assets.deployment.MLFLOW_UI", address)
    other = address_to_serve(Settings(home=tmp_path))
    assert other is not None
    assert other.startswith("http://127.0.0.1:")
    assert other != address


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"mlflow_ui": "https://mlflow.example.org"},
        {"tracking_uri": "https://mlflow.example.org"},
        {"tracking_uri": "http://127.0.0.1:5000"},
    ],
)
def test_what_others_serve_is_not_served_again(tmp_path: Path, elsewhere: dict[str, str]):
    assert address_to_serve(Settings.model_validate({"home": tmp_path, **elsewhere})) is None


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=2).ok
    except requests.RequestException:
        return False


def eventually(condition: object, *, seconds: float = _SECONDS) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return bool(condition())


@pytest.mark.proof  # several MLflow servers
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only /proc shows what is still alive")
def test_the_server_ends_with_the_process_that_it_stands_beside_however_that_ends(tmp_path: Path, empty_mlflow: Path):
    (tmp_path / "mlflow").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "mlflow" / "mlflow.db")  # making one takes longer than serving it
    address = f"http://127.0.0.1:{free_port()}"
    code = (
        "import os, sys; from pathlib import Path; from mlops_assets.instance.mlflow_ui import start_beside; "
        "from mlops_assets.settings import Settings; "
        "start_beside(Settings(home=Path(sys.argv[1])), sys.argv[2]); os.execvp('sleep', ['sleep', '600'])"
    )
    command = [sys.executable, "-c", code, str(tmp_path), address]
    beside = subprocess.Popen(command, env={**os.environ, "MLOPS_HOME": str(tmp_path)})
    try:
        assert eventually(lambda: answers(address), seconds=200), (tmp_path / "mlflow" / "ui.log").read_text("utf-8")
        assert mlflow_ui.__name__ in "\n".join(living(tmp_path))
    finally:
        beside.send_signal(signal.SIGKILL)
        beside.wait()
    assert eventually(lambda: not living(tmp_path), seconds=30), living(tmp_path)
    assert not answers(address)
