"""Calls: what is tried again and for how long, and that credentials stay where they belong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from databricks.sdk.errors import BadRequest

from databricks_loopback import Workspace
from databricks_loopback.wire import Reply
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.errors import LaunchError

ME = "/api/2.0/preview/scim/v2/Me"


@pytest.fixture
def api(workspace: Workspace) -> Api:
    return Api(Credentials(workspace.host, workspace.token), retry_seconds=20)


@pytest.mark.parametrize("fault", ["throttle", "server_error", "unavailable", "drop", "lose_answer"])
def test_passing_trouble_is_waited_out(workspace: Workspace, api: Api, fault: str):
    getattr(workspace.faults, fault)(ME, times=2)
    assert api.call("GET", ME)["userName"] == "engineer@example.com"
    assert len(workspace.calls.matching("GET", ME)) == 3


def test_page_of_a_gateway_is_passing_trouble(workspace: Workspace, api: Api):
    page = Reply(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"})
    workspace.faults.on_call("gateway", lambda _request, _proceed: page, path=ME)
    assert api.call("GET", ME)["userName"] == "engineer@example.com"


def test_retry_after_is_respected(workspace: Workspace, api: Api):
    workspace.faults.throttle(ME, times=1, retry_after_s=2)
    started = time.monotonic()
    api.call("GET", ME)
    assert time.monotonic() - started >= 2


@pytest.mark.parametrize("fault", ["throttle", "server_error", "drop"])
def test_lasting_trouble_ends_with_what_and_where(workspace: Workspace, fault: str):
    api = Api(Credentials(workspace.host, workspace.token), retry_seconds=2)
    with getattr(workspace.faults, fault)(ME, times=None):
        started = time.monotonic()
        with pytest.raises(LaunchError, match=r"does not answer \(GET .*/Me\): tried for 2 s, last "):
            api.call("GET", ME)
        assert time.monotonic() - started < 8


def test_refusal_is_not_tried_again(workspace: Workspace, api: Api):
    with pytest.raises(BadRequest, match="Missing required field"):
        api.call("GET", "/api/2.0/dbfs/list")
    assert len(workspace.calls) == 1


@pytest.mark.parametrize("token", ["dapi-wrong", "expired"])
def test_rejected_token_says_what_to_renew(workspace: Workspace, token: str):
    if token == "expired":  # noqa: S105 - the name of a case
        token = workspace.tokens.issue("engineer@example.com", lifetime_s=0)
    with pytest.raises(LaunchError, match=r"rejects the credentials.*DATABRICKS_TOKEN") as caught:
        Api(Credentials(workspace.host, token)).call("GET", ME)
    assert token not in str(caught.value)


def test_service_principal(workspace: Workspace):
    secret = workspace.tokens.register("app-id")
    api = Api(Credentials(workspace.host, client_id="app-id", client_secret=secret))
    assert api.call("GET", ME)["userName"] == "app-id"
    with pytest.raises(LaunchError, match="a credential"):
        api.call("POST", "/api/2.0/dbfs/mkdirs", body={"path": f"/{secret}"})


def test_without_credentials_nothing_is_guessed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)  # of who, is for `settings` to say
    with pytest.raises(LaunchError, match="there are no credentials"):
        Api(Credentials(workspace.host)).call("GET", ME)
    assert len(workspace.calls) == 0


def test_the_sdk_looks_for_a_login_where_it_is_told_to(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A profile of the Databricks CLI; the workspace's own address wins over the profile's."""
    (tmp_path / "cfg").write_text(f"[team]\nhost = https://elsewhere.example.com\ntoken = {workspace.token}\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "cfg"))
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "team")
    api = Api(Credentials(workspace.host, unified=True))
    assert api.call("GET", ME)["userName"] == "engineer@example.com"
    with pytest.raises(LaunchError, match="a credential"):
        api.call("POST", "/api/2.0/dbfs/mkdirs", body={"path": f"/{workspace.token}"})


def test_a_workload_logs_in_by_federation(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No secret of the workspace is kept: a token of the CI or pod is exchanged for one of an hour."""
    (tmp_path / "token").write_text("header.claims.signature")
    for name, value in (
        ("DATABRICKS_AUTH_TYPE", "file-oidc"),
        ("DATABRICKS_CLIENT_ID", "app-id"),
        ("DATABRICKS_OIDC_TOKEN_FILE", str(tmp_path / "token")),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match="no login to the workspace"):
        Api(Credentials(workspace.host, unified=True), retry_seconds=5).call("GET", ME)
    workspace.tokens.trust("app-id", "header.claims.signature")
    api = Api(Credentials(workspace.host, unified=True))
    assert api.call("GET", ME)["userName"] == "app-id"


def test_no_login_is_found(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LaunchError, match=r"no login to the workspace.*DATABRICKS_CONFIG_PROFILE"):
        Api(Credentials(workspace.host, unified=True)).call("GET", ME)
    assert len(workspace.calls) == 0


def test_credentials_of_the_environment_do_not_mix_in(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, api: Api):
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "other")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "other")
    monkeypatch.setenv("DATABRICKS_HOST", "https://elsewhere.example.com")
    assert api.call("GET", ME)["userName"] == "engineer@example.com"


def test_credentials_are_not_printed(workspace: Workspace):
    assert workspace.token not in repr(Credentials(workspace.host, workspace.token))
