"""The Files API on volumes, and Unity Catalog, through the SDK."""

from __future__ import annotations

import io

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import AlreadyExists, BadRequest, InvalidParameterValue, NotFound
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.catalog import VolumeType

from databricks_loopback import Workspace

VOLUME = "/Volumes/main/lake/staging"


@pytest.fixture(autouse=True, scope="module")
def volume(shared_workspace: Workspace):
    shared_workspace.catalog.add_schema("main.lake")
    shared_workspace.catalog.add_volume("main.lake.staging")


def test_file_comes_back_with_its_metadata(workspace: Workspace, client: WorkspaceClient):
    client.files.upload(f"{VOLUME}/a b/ü.bin", io.BytesIO(b"\x00\xff" * 500))
    answer = client.files.download(f"{VOLUME}/a b/ü.bin")
    assert answer.contents is not None
    assert answer.contents.read() == b"\x00\xff" * 500
    assert answer.content_length == 1_000
    metadata = client.files.get_metadata(f"{VOLUME}/a b/ü.bin")
    assert (metadata.content_length, metadata.content_type) == (1_000, "application/octet-stream")
    assert metadata.last_modified == answer.last_modified
    assert (workspace.storage.volumes / "main/lake/staging/a b/ü.bin").stat().st_size == 1_000


def test_part_of_a_file(client: WorkspaceClient):
    client.files.upload(f"{VOLUME}/part", io.BytesIO(b"0123456789"))
    path = f"/api/2.0/fs/files{VOLUME}/part"
    whole = client.files.download(f"{VOLUME}/part")
    headers = {"Range": "bytes=4-6", "If-Unmodified-Since": str(whole.last_modified)}
    assert client.api_client.do("GET", path, headers=headers, raw=True)["contents"].read() == b"456"
    with pytest.raises(DatabricksError, match="modified"):
        client.api_client.do("GET", path, headers={"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, raw=True)


def test_overwrite_is_the_default_and_can_be_refused(client: WorkspaceClient):
    client.files.upload(f"{VOLUME}/over", io.BytesIO(b"1"))
    client.files.upload(f"{VOLUME}/over", io.BytesIO(b"2"))
    with pytest.raises(AlreadyExists):
        client.files.upload(f"{VOLUME}/over", io.BytesIO(b"3"), overwrite=False)
    contents = client.files.download(f"{VOLUME}/over").contents
    assert contents is not None
    assert contents.read() == b"2"


def test_directories(client: WorkspaceClient):
    client.files.create_directory(f"{VOLUME}/d/e")
    client.files.create_directory(f"{VOLUME}/d/e")
    client.files.upload(f"{VOLUME}/d/f", io.BytesIO(b"12"))
    client.files.get_directory_metadata(f"{VOLUME}/d")
    entries = {
        entry.path: (entry.is_directory, entry.file_size, entry.name)
        for entry in client.files.list_directory_contents(f"{VOLUME}/d")
    }
    assert entries == {f"{VOLUME}/d/e/": (True, None, "e"), f"{VOLUME}/d/f": (False, 2, "f")}
    assert len(list(client.files.list_directory_contents(f"{VOLUME}/d", page_size=1))) == 2
    with pytest.raises(BadRequest) as caught:
        client.files.delete_directory(f"{VOLUME}/d")
    assert caught.value.error_code == "FILES_API_DIRECTORY_IS_NOT_EMPTY"
    client.files.delete(f"{VOLUME}/d/f")
    client.files.delete_directory(f"{VOLUME}/d/e")
    client.files.delete_directory(f"{VOLUME}/d")
    with pytest.raises(NotFound):
        client.files.get_directory_metadata(f"{VOLUME}/d")


def test_what_is_missing_is_404(client: WorkspaceClient):
    for call in (client.files.download, client.files.delete, client.files.get_metadata):
        with pytest.raises(NotFound):
            call(f"{VOLUME}/none")
    with pytest.raises(NotFound, match="directory being accessed is not found"):
        list(client.files.list_directory_contents(f"{VOLUME}/none"))
    with pytest.raises(NotFound, match=r"Volume 'main\.lake\.none' does not exist"):
        client.files.upload("/Volumes/main/lake/none/a", io.BytesIO(b""))
    with pytest.raises(InvalidParameterValue):
        client.files.upload("/dbfs/a", io.BytesIO(b""))


def test_multipart_upload_is_said_to_be_missing(client: WorkspaceClient):
    with pytest.raises(DatabricksError, match="does not emulate multi-part uploads"):
        client.api_client.do("POST", f"/api/2.0/fs/files{VOLUME}/large", query={"action": "initiate-upload"})


def test_volumes_of_the_catalog(client: WorkspaceClient):
    staging = client.volumes.read("main.lake.staging")
    assert (staging.full_name, staging.volume_type, staging.catalog_name) == (
        "main.lake.staging",
        VolumeType.MANAGED,
        "main",
    )
    made = client.volumes.create("main", "lake", "more", VolumeType.MANAGED, comment="for a test")
    assert made.comment == "for a test"
    assert {volume.name for volume in client.volumes.list("main", "lake")} == {"staging", "more"}
    client.files.upload("/Volumes/main/lake/more/a", io.BytesIO(b"1"))
    with pytest.raises(DatabricksError, match="already exists"):
        client.volumes.create("main", "lake", "more", VolumeType.MANAGED)
    client.volumes.delete("main.lake.more")
    with pytest.raises(NotFound, match="does not exist"):
        client.volumes.read("main.lake.more")
    with pytest.raises(NotFound, match=r"Schema 'main\.none' does not exist"):
        client.volumes.create("main", "none", "more", VolumeType.MANAGED)


def test_catalogs_and_schemas(client: WorkspaceClient):
    assert client.catalogs.get("main").name == "main"
    assert "main" in [catalog.name for catalog in client.catalogs.list()]
    assert client.schemas.get("main.lake").full_name == "main.lake"
    assert client.schemas.create("second", "main").full_name == "main.second"
    assert {schema.name for schema in client.schemas.list("main")} >= {"lake", "second"}
    for call in (lambda: client.catalogs.get("none"), lambda: client.schemas.get("main.none")):
        with pytest.raises(NotFound):
            call()
