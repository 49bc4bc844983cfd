"""Rate limits: what is counted, and that a client which waits gets through."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.rates import LIMITS, Rates
from databricks_loopback.wire import ApiError, Request


def request(method: str, path: str) -> Request:
    return Request(method=method, path=path, query={}, headers={}, body=b"")


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/api/2.2/jobs/runs/submit", 35),
        ("GET", "/api/2.2/jobs/runs/get", 100),
        ("POST", "/api/2.0/dbfs/put", 30),
        ("PATCH", "/api/2.0/permissions/clusters/1", 30),
        ("POST", "/api/2.0/mlflow/runs/search", 7),
        ("POST", "/api/2.0/mlflow/runs/log-batch", 120),
    ],
)
def test_one_call_too_many_in_a_second_is_refused_and_the_next_second_is_free(method: str, path: str, limit: int):
    now = 0.0
    rates = Rates(lambda: now)
    for _ in range(limit):
        rates.check(request(method, path))
    with pytest.raises(ApiError) as refused:
        rates.check(request(method, path))
    assert refused.value.status == 429
    now = 1.0
    rates.check(request(method, path))


def test_calls_without_a_known_limit_are_not_counted():
    rates = Rates(lambda: 0.0)
    for _ in range(2 * max(limit for _, _, limit in LIMITS)):
        rates.check(request("GET", "/api/2.0/fs/files/Volumes/a/b/c/d"))


def test_the_sdk_waits_and_gets_through(tmp_path: Path):
    with Workspace(tmp_path, limit_rates=True) as workspace:
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        for number in range(15):  # create, add-block and close
            client.dbfs.upload(f"/file-{number}", io.BytesIO(b"x"))
        assert len(list(client.dbfs.list("/"))) == 15
        answers = [call.status for call in workspace.calls.matching("*", "/api/2.0/dbfs/*")]
    assert 429 in answers
