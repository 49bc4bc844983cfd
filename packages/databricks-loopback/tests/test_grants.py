"""Privileges on single objects: what is revoked is denied to that user in Unity Catalog's words; nothing else is."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied

from databricks_loopback import Workspace
from databricks_loopback.driving import SUCCESS, output, python_task, states, submit, wait_for_end

SCHEMA = "grants.s"
VOLUME, TABLE, FOLDER = f"{SCHEMA}.v", f"{SCHEMA}.t", "/Volumes/grants/s/v"


@pytest.fixture
def reader(workspace: Workspace) -> WorkspaceClient:
    if SCHEMA not in {schema["full_name"] for name in ("grants",) for schema in _schemas(workspace, name)}:
        workspace.catalog.add_schema(SCHEMA)
        workspace.catalog.add_volume(VOLUME)
        workspace.catalog.add_table(TABLE)
    return WorkspaceClient(host=workspace.host, token=workspace.tokens.issue("reader@example.com"))


def _schemas(workspace: Workspace, catalog: str) -> list[dict[str, Any]]:
    return (
        workspace.catalog.schemas(catalog) if catalog in {item["name"] for item in workspace.catalog.catalogs()} else []
    )


CALLS: list[tuple[str, str, str, Callable[[WorkspaceClient], object]]] = [
    ("READ VOLUME", VOLUME, "Volume", lambda client: list(client.files.list_directory_contents(FOLDER))),
    (
        "WRITE VOLUME",
        VOLUME,
        "Volume",
        lambda client: client.files.upload(f"{FOLDER}/a", io.BytesIO(b"x"), overwrite=True),
    ),
    ("SELECT", TABLE, "Table", lambda client: client.tables.get(TABLE)),
    ("USE SCHEMA", SCHEMA, "Schema", lambda client: client.tables.get(TABLE)),
    ("USE SCHEMA", SCHEMA, "Schema", lambda client: list(client.files.list_directory_contents(FOLDER))),
]


@pytest.mark.parametrize(("privilege", "name", "kind", "call"), CALLS)
def test_what_is_revoked_is_denied_to_that_user(
    workspace: Workspace,
    client: WorkspaceClient,
    reader: WorkspaceClient,
    privilege: Any,
    name: str,
    kind: str,
    call: Any,
):
    call(reader)
    workspace.catalog.revoke(privilege, name, "reader@example.com")
    try:
        with pytest.raises(PermissionDenied, match=rf"User does not have {privilege} on {kind} '{name}'"):
            call(reader)
        call(client)
    finally:
        workspace.catalog.grant(privilege, name, "reader@example.com")
    call(reader)


def test_a_privilege_that_is_not_emulated_is_refused(workspace: Workspace):
    with pytest.raises(ValueError, match="MODIFY is not emulated"):
        workspace.catalog.revoke("MODIFY", TABLE, "reader@example.com")  # type: ignore[arg-type]


def test_a_table_that_is_not_there(reader: WorkspaceClient):
    with pytest.raises(NotFound, match="does not exist"):
        reader.tables.get(f"{SCHEMA}.none")


def test_a_volume_is_no_disk(workspace: Workspace, client: WorkspaceClient, reader: WorkspaceClient):
    del reader
    client.files.create_directory("/Volumes/grants/s/v/kept")
    code = """
        import pathlib
        file = pathlib.Path("/Volumes/grants/s/v/log")
        file.write_text("one")
        print(file.read_text())
        for mode in ("a", "r+"):
            try:
                file.open(mode)
            except OSError as error:
                print(mode, error.strerror)
        try:
            file.rename(file.with_name("other"))
        except OSError as error:
            print("rename", error.strerror)
        print("folder", pathlib.Path("/Volumes/grants/s/v/kept").stat().st_mtime)
        pathlib.Path("/tmp/log").open("a").write("fine elsewhere")
        pathlib.Path("/tmp/log").rename("/tmp/other")
    """
    run = wait_for_end(client, submit(client, python_task(code, client)))
    assert states(run) == SUCCESS, output(client, run).error
    lines = (output(client, run).logs or "").splitlines()
    refused = [f"{what} Operation not supported" for what in ("a", "r+", "rename")]
    assert lines[:5] == ["one", *refused, "folder 0.0"]
    entries = {entry.name: entry for entry in client.files.list_directory_contents("/Volumes/grants/s/v")}
    assert entries["kept"].last_modified is None
    assert entries["log"].last_modified
    assert (workspace.storage.volumes / "grants/s/v/log").read_text() == "one"
