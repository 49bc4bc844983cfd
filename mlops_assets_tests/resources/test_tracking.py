"""Tracking: dagster-mlflow's configuration schema, and stores that can't be reached."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from dagster_mlflow.resources import CONFIG_SCHEMA

from mlops_assets.errors import PlatformError, StorageError, TrackingError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings


def tracking_at(uri: str) -> Tracking:
    return Tracking(mlflow_tracking_uri=uri)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@pytest.fixture
def failing_server() -> Iterator[str]:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Broken)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_embedded_store_is_made_once_and_found_again(tracking: Tracking):
    first = tracking.connect()
    again = Tracking(**{name: getattr(tracking, name) for name in type(tracking).model_fields}).connect()

    assert first.experiment_id == again.experiment_id
    assert tracking.connect() is first


def test_each_model_has_the_experiment_of_its_name(tracking: Tracking):
    cards, transfers = tracking.connect("cards"), tracking.connect("transfers")

    assert cards.experiment_id != transfers.experiment_id
    assert cards.client.get_experiment(cards.experiment_id).name == "cards"
    assert tracking.connect("cards") is cards


def test_the_shared_fields_are_those_of_dagster_mlflow(tracking: Tracking):
    config = tracking.dagster_mlflow_config("cards")

    assert set(config) <= set(CONFIG_SCHEMA)
    assert config["experiment_name"] == "cards"
    assert config["parent_run_id"] is None, "dagster-mlflow's own default completes the configuration"


def test_what_dagster_mlflow_would_refuse_is_refused():
    broken = tracking_at("sqlite:///x").model_copy(update={"extra_tags": 1})

    with pytest.raises(TrackingError, match="dagster-mlflow"):
        broken.dagster_mlflow_config("e")


def test_a_server_that_is_not_there_is_one_quick_error(closed_port: int):
    started = time.monotonic()

    with pytest.raises(TrackingError, match="does not answer") as caught:
        tracking_at(f"http://user:hidden@127.0.0.1:{closed_port}").connect()

    assert time.monotonic() - started < 10
    assert str(closed_port) in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_refuses_is_one_error(failing_server: str):
    with pytest.raises(TrackingError, match="does not answer"):
        tracking_at(failing_server).connect()


def test_a_store_below_a_file_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="MLOPS_HOME"):
        tracking_at(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}").connect()


def test_a_store_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("this is not SQLite, and long enough to be read as a header" * 10)

    with pytest.raises(PlatformError, match="MLOPS_TRACKING_URI"):
        tracking_at(f"sqlite:///{tmp_path / 'mlflow.db'}").connect()


UNITY = Tracking(mlflow_tracking_uri="databricks", mlflow_registry_uri="databricks-uc")


@pytest.mark.parametrize(
    "name", ["fraud", "main.fraud", "main..fraud", ".s.fraud", "a.b.c.d", "main.s.my fraud", "main.s.a/b", "main.s."]
)
def test_a_model_in_unity_catalog_has_three_levels(name: str):
    """Said before the search is paid for, and before anyone is asked: there is no workspace here."""
    with pytest.raises(TrackingError, match=r"expects catalog\.schema\.model") as caught:
        UNITY.model(name)
    assert caught.value.where == "registry databricks-uc"


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a\nb"])
def test_a_model_in_mlflows_registry_has_one(tracking: Tracking, name: str):
    with pytest.raises(TrackingError, match="is not a valid model name"):
        tracking.model(name)


def test_the_name_is_that_of_the_profile(monkeypatch: pytest.MonkeyPatch):
    """The binding place renders it; `databricks` without a workspace is as far as this goes."""
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://adb-1.2.azuredatabricks.net")
    monkeypatch.setenv("MLOPS_DATABRICKS_CATALOG", "lake")
    made: Tracking = build_resources(Settings(target="databricks"))["tracking"]

    assert made.model("fraud_cards") == "lake.mlops_assets_dev.fraud_cards"
    assert (made.mlflow_tracking_uri, made.mlflow_registry_uri) == ("databricks", "databricks-uc")
    assert made.experiment_folder == "/Shared/"

    monkeypatch.setenv("MLOPS_DATABRICKS_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLOPS_DATABRICKS_REGISTRY_URI", "http://127.0.0.1:5000")
    made = build_resources(Settings(target="databricks"))["tracking"]
    assert (made.model("fraud_cards"), made.experiment_folder) == ("fraud_cards", "")
