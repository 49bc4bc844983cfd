"""Which errors of an MLflow server pass by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.tracking.connection import Address, connect
from mlops_assets.tracking.throttling import is_transient
from mlops_assets_tests.data.sources.web_server import Reply, WebServer


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started


@pytest.mark.parametrize(("status", "transient"), [(503, True), (429, True), (401, False), (500, False)])
def test_a_server_that_is_busy_may_answer_later_and_one_that_refuses_will_not(
    server: WebServer, status: int, transient: bool
):
    server.serve("/health", Reply(status=status))

    with pytest.raises(TrackingError) as caught:
        connect(Address("e", server.url, server.url))

    assert caught.value.transient is transient


def test_a_closed_port_may_open():
    with WebServer() as gone:
        url = gone.url

    with pytest.raises(TrackingError) as caught:
        connect(Address("e", url, url))

    assert caught.value.transient


@pytest.mark.parametrize(("status", "transient"), [(503, True), (403, False)])
def test_what_mlflows_own_client_raises_is_told_apart(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, status: int, transient: bool
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.serve("/api/2.0/mlflow/runs/get", Reply(b"{}", status=status))

    with pytest.raises(MlflowException) as caught:
        MlflowClient(server.url).get_run("a" * 32)

    assert is_transient(caught.value) is transient


def test_an_error_of_mlflows_own_is_not_transient(server: WebServer):
    assert not is_transient(MlflowException("a bug"))
    assert not is_transient(KeyError("a bug"))
