"""The Secrets API through the SDK, and references to secrets."""

from __future__ import annotations

import base64

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, ResourceAlreadyExists, ResourceDoesNotExist

from databricks_loopback.secret_store import SecretStore, UnresolvedSecretError


def test_scopes_and_secrets(client: WorkspaceClient):
    client.secrets.create_scope("api")
    with pytest.raises(ResourceAlreadyExists):
        client.secrets.create_scope("api")
    client.secrets.put_secret("api", "text", string_value="värde")
    client.secrets.put_secret("api", "bytes", bytes_value=base64.b64encode(b"\x00\xff").decode())
    assert "api" in [scope.name for scope in client.secrets.list_scopes()]
    assert [secret.key for secret in client.secrets.list_secrets("api")] == ["bytes", "text"]
    assert base64.b64decode(client.secrets.get_secret("api", "text").value or "").decode() == "värde"
    assert base64.b64decode(client.secrets.get_secret("api", "bytes").value or "") == b"\x00\xff"
    client.secrets.delete_secret("api", "text")
    with pytest.raises(ResourceDoesNotExist, match="scope: api and key: text"):
        client.secrets.get_secret("api", "text")
    client.secrets.delete_scope("api")
    for call in (
        lambda: list(client.secrets.list_secrets("api")),
        lambda: client.secrets.put_secret("api", "k", string_value="v"),
        lambda: client.secrets.delete_scope("api"),
    ):
        with pytest.raises(ResourceDoesNotExist, match="Scope api does not exist"):
            call()


def test_secret_has_exactly_one_value(client: WorkspaceClient):
    client.secrets.create_scope("one")
    with pytest.raises(InvalidParameterValue, match="Exactly one"):
        client.secrets.put_secret("one", "k")


def test_only_a_whole_value_is_a_reference():
    store = SecretStore()
    store.put("s", "k", "v")
    settings = {"whole": "{{secrets/s/k}}", "part": "x{{secrets/s/k}}", "plain": "k"}
    assert store.resolve(settings) == {"whole": "v", "part": "x{{secrets/s/k}}", "plain": "k"}
    for reference in ("{{secrets/s/other}}", "{{secrets/other/k}}", "{{secrets/s/ k}}"):
        with pytest.raises(UnresolvedSecretError):
            store.resolve({"a": reference})
