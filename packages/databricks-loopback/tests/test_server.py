"""Tokens, unknown endpoints, the record of calls, and the server's own end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied, Unauthenticated

from databricks_loopback import Workspace
from databricks_loopback.routing import Route, Router
from databricks_loopback.wire import Reply


def test_personal_token_is_accepted_and_says_who_calls(workspace: Workspace):
    token = workspace.tokens.issue("second@example.com")
    me = WorkspaceClient(host=workspace.host, token=token).current_user.me()
    assert me.user_name == "second@example.com"


@pytest.mark.parametrize("token", ["dapi0000", ""])
def test_unknown_token_is_refused(workspace: Workspace, token: str):
    answer = requests.get(
        f"{workspace.host}/api/2.0/preview/scim/v2/Me", headers={"Authorization": f"Bearer {token}"}, timeout=5
    )
    # The platform sends the number itself as the code (databricks-sdk-go issue 917).
    expected = (403, "Invalid access token.") if token else (401, "Credential was not sent")
    assert answer.status_code == answer.json()["error_code"] == expected[0]
    assert answer.json()["message"].startswith(expected[1])


def test_call_without_a_token_is_unauthenticated(workspace: Workspace):
    client = WorkspaceClient(host=workspace.host, username="someone", password=workspace.token)
    with pytest.raises(Unauthenticated, match="Credential was not sent"):
        client.current_user.me()


def test_revoked_and_expired_tokens_are_denied(workspace: Workspace):
    gone = workspace.tokens.issue("gone@example.com")
    workspace.tokens.revoke(gone)
    stale = workspace.tokens.issue("stale@example.com", lifetime_s=20)
    for token, text in ((gone, "Invalid access token"), (stale, "expiring within 30 seconds")):
        with pytest.raises(PermissionDenied, match=text):
            WorkspaceClient(host=workspace.host, token=token).current_user.me()


def test_service_principal_gets_an_oauth_token(workspace: Workspace):
    secret = workspace.tokens.register("principal-1")
    client = WorkspaceClient(host=workspace.host, client_id="principal-1", client_secret=secret)
    assert client.config.auth_type == "oauth-m2m"
    assert client.current_user.me().user_name == "principal-1"
    client.current_user.me()
    assert len(workspace.calls.matching("POST", "/oidc/v1/token")) == 1, "the SDK keeps a token that lives"


def test_oauth_token_is_renewed_before_it_expires(tmp_path: Path):
    with Workspace(tmp_path, oauth_lifetime_s=35) as workspace:  # the SDK renews 40 s before the end
        secret = workspace.tokens.register("principal-2")
        client = WorkspaceClient(host=workspace.host, client_id="principal-2", client_secret=secret)
        client.current_user.me()
        client.current_user.me()
        assert len(workspace.calls.matching("POST", "/oidc/v1/token")) >= 2


def test_wrong_oauth_secret_is_refused(workspace: Workspace):
    secret = workspace.tokens.register("principal-3")
    for client_id, given in (("principal-3", secret[::-1]), ("principal-4", secret)):
        with pytest.raises(ValueError, match="invalid_client"):
            WorkspaceClient(host=workspace.host, client_id=client_id, client_secret=given).current_user.me()


def test_unknown_endpoint_is_named(client: WorkspaceClient):
    with pytest.raises(NotFound, match=r"No API found for 'GET /2\.0/no/such/thing'") as caught:
        client.api_client.do("GET", "/api/2.0/no/such/thing")
    assert caught.value.error_code == "ENDPOINT_NOT_FOUND"


def test_body_that_is_no_json_object_is_refused(workspace: Workspace):
    for body in (b"{", b"[]"):
        answer = requests.post(
            f"{workspace.host}/api/2.0/dbfs/mkdirs",
            data=body,
            headers={"Authorization": f"Bearer {workspace.token}"},
            timeout=5,
        )
        assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")


def test_body_in_chunks_is_read_and_the_connection_goes_on(workspace: Workspace):
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {workspace.token}"
        body = iter([b'{"path": ', b'"/chunks"}'])
        assert session.post(f"{workspace.host}/api/2.0/dbfs/mkdirs", data=body, timeout=5).ok
        assert session.get(f"{workspace.host}/api/2.0/dbfs/get-status?path=/chunks", timeout=5).json()["is_dir"]


def test_each_call_is_recorded(workspace: Workspace, client: WorkspaceClient):
    client.dbfs.put("/record/a", contents="A" * 8_000, overwrite=True)
    with pytest.raises(NotFound):
        client.dbfs.get_status("/record/b")
    put, status = workspace.calls.matching(path="/api/2.0/dbfs/*")
    assert (put.method, put.status, put.error_code, put.fault) == ("POST", 200, "", "")
    assert put.body == {"contents": "<8000 characters>", "overwrite": True, "path": "/record/a"}
    assert put.size > 8_000
    assert "databricks-sdk-py" in put.user_agent
    assert (status.method, status.status, status.error_code) == ("GET", 404, "RESOURCE_DOES_NOT_EXIST")
    assert status.query == {"path": "/record/b"}
    assert put.at <= status.at
    assert len(workspace.calls.matching(path="/api/*")) == 2
    workspace.calls.clear()
    assert list(workspace.calls) == []


def test_stopped_workspace_hangs_up_and_leaves_no_thread(tmp_path: Path):
    before = set(threading.enumerate())
    with Workspace(tmp_path) as workspace:
        session = requests.Session()
        url, headers = f"{workspace.host}/api/2.0/preview/scim/v2/Me", {"Authorization": f"Bearer {workspace.token}"}
        assert session.get(url, headers=headers, timeout=5).ok
    with pytest.raises(requests.ConnectionError):
        session.get(url, headers=headers, timeout=5)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive(), thread


def test_bug_of_the_emulator_fails_the_test_that_meets_it(tmp_path: Path):
    def broken(*_: object) -> Reply:
        raise ZeroDivisionError("planted")

    def meet_it() -> None:
        with Workspace(tmp_path) as workspace:
            workspace._server._router = Router([Route("GET", "/broken", broken, public=True)])
            answer = requests.get(f"{workspace.host}/broken", timeout=5)
            assert (answer.status_code, answer.json()["error_code"]) == (500, "EMULATOR_BUG")

    with pytest.raises(AssertionError, match="planted"):
        meet_it()
