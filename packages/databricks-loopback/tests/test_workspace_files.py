"""The Workspace API through the SDK."""

from __future__ import annotations

import base64
import io

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, ResourceAlreadyExists, ResourceDoesNotExist
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.workspace import ImportFormat, Language, ObjectType

from databricks_loopback import Workspace

HOME = "/Users/engineer@example.com"


def test_python_file_is_imported_as_a_file(workspace: Workspace, client: WorkspaceClient):
    client.workspace.upload(f"{HOME}/step.py", io.BytesIO(b"print(1)\n"), format=ImportFormat.AUTO)
    status = client.workspace.get_status(f"/Workspace{HOME}/step.py")
    assert (status.object_type, status.path, status.size) == (ObjectType.FILE, f"{HOME}/step.py", 9)
    assert status.object_id == client.workspace.get_status(f"{HOME}/step.py").object_id
    assert client.workspace.download(f"{HOME}/step.py").read() == b"print(1)\n"
    assert (workspace.storage.files / HOME.lstrip("/") / "step.py").is_file()


def test_import_takes_json_too(client: WorkspaceClient):
    content = base64.b64encode(b"a: 1\n").decode()
    client.workspace.import_(f"{HOME}/conf.yaml", content=content, format=ImportFormat.RAW)
    exported = client.workspace.export(f"{HOME}/conf.yaml")
    assert base64.b64decode(exported.content or "") == b"a: 1\n"


def test_source_becomes_a_notebook(client: WorkspaceClient):
    client.workspace.upload(f"{HOME}/nb", io.BytesIO(b"1 + 1\n"), language=Language.PYTHON)
    status = client.workspace.get_status(f"{HOME}/nb")
    assert (status.object_type, status.language) == (ObjectType.NOTEBOOK, Language.PYTHON)
    source = b"# Databricks notebook source\n1\n"
    client.workspace.upload(f"{HOME}/auto.py", io.BytesIO(source), format=ImportFormat.AUTO)
    assert client.workspace.get_status(f"{HOME}/auto").object_type == ObjectType.NOTEBOOK


def test_existing_path_needs_overwrite(client: WorkspaceClient):
    client.workspace.upload(f"{HOME}/over.txt", io.BytesIO(b"1"), format=ImportFormat.AUTO)
    with pytest.raises(ResourceAlreadyExists, match=f"Path .{HOME}/over.txt. already exists"):
        client.workspace.upload(f"{HOME}/over.txt", io.BytesIO(b"2"), format=ImportFormat.AUTO)
    client.workspace.upload(f"{HOME}/over.txt", io.BytesIO(b"2"), format=ImportFormat.AUTO, overwrite=True)
    assert client.workspace.download(f"{HOME}/over.txt").read() == b"2"


def test_folders(client: WorkspaceClient):
    with pytest.raises(ResourceDoesNotExist, match=r"parent folder .*/deep. does not exist"):
        client.workspace.upload(f"{HOME}/deep/f.txt", io.BytesIO(b"1"), format=ImportFormat.AUTO)
    client.workspace.mkdirs(f"{HOME}/deep")
    client.workspace.upload(f"{HOME}/deep/f.txt", io.BytesIO(b"1"), format=ImportFormat.AUTO)
    assert [entry.path for entry in client.workspace.list(f"{HOME}/deep")] == [f"{HOME}/deep/f.txt"]
    with pytest.raises(ResourceAlreadyExists):
        client.workspace.mkdirs(f"{HOME}/deep/f.txt/g")
    with pytest.raises(BadRequest) as caught:
        client.workspace.delete(f"{HOME}/deep")
    assert caught.value.error_code == "DIRECTORY_NOT_EMPTY"
    client.workspace.delete(f"{HOME}/deep", recursive=True)
    for call in (client.workspace.get_status, client.workspace.delete, client.workspace.export):
        with pytest.raises(ResourceDoesNotExist, match="doesn't exist"):
            call(f"{HOME}/deep")


def test_limits(client: WorkspaceClient):
    with pytest.raises(BadRequest, match="exceeded max size"):
        client.workspace.upload(f"{HOME}/large", io.BytesIO(b"x" * (10 * 1024 * 1024 + 1)), format=ImportFormat.RAW)
    with pytest.raises(DatabricksError, match="does not emulate imports of format DBC"):
        client.workspace.upload(f"{HOME}/x", io.BytesIO(b"x"), format=ImportFormat.DBC)
