"""The DBFS API through the SDK."""

from __future__ import annotations

import base64
import io

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.errors.base import DatabricksError

from databricks_loopback import Workspace

BLOCK = 1024 * 1024


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_streamed_file_comes_back_whole(workspace: Workspace, client: WorkspaceClient):
    content = bytes(range(256)) * 10_000  # 2.4 blocks
    client.dbfs.upload("/stream/a.bin", io.BytesIO(content))
    assert client.dbfs.download("/stream/a.bin").read() == content
    assert (workspace.storage.dbfs / "stream" / "a.bin").read_bytes() == content
    assert len(workspace.calls.matching("POST", "*/add-block")) == 3


def test_streamed_file_is_there_once_closed(client: WorkspaceClient):
    handle = client.dbfs.create("/stream/late").handle
    assert handle is not None
    client.dbfs.add_block(handle, text(b"abc"))
    assert not client.dbfs.exists("/stream/late")
    client.dbfs.close(handle)
    assert client.dbfs.get_status("/stream/late").file_size == 3
    for call in (lambda: client.dbfs.add_block(handle, text(b"d")), lambda: client.dbfs.close(handle)):
        with pytest.raises(ResourceDoesNotExist):
            call()


def test_block_over_one_megabyte_is_refused(client: WorkspaceClient):
    handle = client.dbfs.create("/stream/large", overwrite=True).handle
    assert handle is not None
    client.dbfs.add_block(handle, text(b"x" * BLOCK))
    for call in (
        lambda: client.dbfs.add_block(handle, text(b"x" * (BLOCK + 1))),
        lambda: client.dbfs.put("/stream/put", contents=text(b"x" * (BLOCK + 1))),
    ):
        with pytest.raises(BadRequest, match=f"cannot exceed {BLOCK} bytes. Found: {BLOCK + 1}") as caught:
            call()
        assert caught.value.error_code == "MAX_BLOCK_SIZE_EXCEEDED"
    client.dbfs.close(handle)


def test_block_that_is_no_base64_is_refused(client: WorkspaceClient):
    with pytest.raises(BadRequest, match="base64"):
        client.dbfs.put("/stream/garbled", contents="*?*")


def test_existing_file_needs_overwrite(client: WorkspaceClient):
    client.dbfs.put("/over/a", contents=text(b"1"))
    with pytest.raises(ResourceAlreadyExists, match="/over/a"):
        client.dbfs.put("/over/a", contents=text(b"2"))
    with pytest.raises(ResourceAlreadyExists):
        client.dbfs.create("/over/a", overwrite=False)
    client.dbfs.put("/over/a", contents=text(b"2"), overwrite=True)
    assert client.dbfs.download("/over/a").read() == b"2"
    with pytest.raises(ResourceAlreadyExists):
        client.dbfs.put("/over", contents=text(b"2"), overwrite=True)


def test_missing_file_is_404_with_its_code(client: WorkspaceClient):
    for call in (client.dbfs.read, client.dbfs.get_status, lambda path: list(client.dbfs.list(path))):
        with pytest.raises(ResourceDoesNotExist, match=r"No file or directory exists on path /no/such\.") as caught:
            call("/no/such")
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_reads_have_offset_length_and_limits(client: WorkspaceClient):
    client.dbfs.put("/read/a", contents=text(b"0123456789"), overwrite=True)
    answer = client.dbfs.read("/read/a", offset=8, length=5)
    assert (answer.bytes_read, base64.b64decode(answer.data or "")) == (2, b"89")
    at_end = client.dbfs.read("dbfs:/read/a", offset=10, length=5)
    assert (at_end.bytes_read, at_end.data) == (0, "")
    with pytest.raises(BadRequest) as caught:
        client.dbfs.read("/read/a", length=BLOCK + 1)
    assert caught.value.error_code == "MAX_READ_SIZE_EXCEEDED"
    for call in (
        lambda: client.dbfs.read("/read/a", offset=-1),
        lambda: client.dbfs.read("/read/a", length=-1),
        lambda: client.dbfs.read("/read"),
        lambda: client.dbfs.read("read/a"),
    ):
        with pytest.raises(InvalidParameterValue):
            call()


def test_read_serves_half_a_megabyte_by_default(client: WorkspaceClient):
    client.dbfs.put("/read/half", contents=text(b"x" * BLOCK), overwrite=True)
    assert client.dbfs.read("/read/half").bytes_read == BLOCK // 2


def test_folders_are_made_listed_and_deleted(client: WorkspaceClient):
    client.dbfs.mkdirs("/tree/a/b")
    client.dbfs.put("/tree/a/f", contents=text(b"12"))
    listed = {entry.path: (entry.is_dir, entry.file_size) for entry in client.dbfs.list("/tree/a")}
    assert listed == {"/tree/a/b": (True, 0), "/tree/a/f": (False, 2)}
    assert [entry.path for entry in client.dbfs.list("/tree", recursive=True)] == ["/tree/a/f"]
    assert list(client.dbfs.list("/tree/a/b")) == []
    with pytest.raises(ResourceAlreadyExists):
        client.dbfs.mkdirs("/tree/a/f/g")
    with pytest.raises(DatabricksError) as caught:
        client.api_client.do("POST", "/api/2.0/dbfs/delete", body={"path": "/tree"})
    assert caught.value.error_code == "IO_ERROR"
    client.dbfs.delete("/tree", recursive=True)
    assert not client.dbfs.exists("/tree")
    client.dbfs.delete("/tree")  # what is gone can be deleted again
    with pytest.raises(InvalidParameterValue):
        client.dbfs.delete("/", recursive=True)


def test_moves_files_and_folders(client: WorkspaceClient):
    client.dbfs.put("/move/a/f", contents=text(b"1"))
    client.dbfs.move("/move/a", "/move/b")
    assert client.dbfs.exists("/move/b/f")
    client.dbfs.put("/move/g", contents=text(b"2"))
    with pytest.raises(ResourceAlreadyExists):
        client.dbfs.move("/move/g", "/move/b/f")
    with pytest.raises(ResourceDoesNotExist):
        client.dbfs.move("/move/none", "/move/h")


def test_path_can_not_leave_the_root(workspace: Workspace, client: WorkspaceClient):
    client.dbfs.put("/../../escape", contents=text(b"1"), overwrite=True)
    assert (workspace.storage.dbfs / "escape").is_file()


def test_volumes_are_not_served_by_dbfs(client: WorkspaceClient):
    with pytest.raises(PermissionDenied, match="No operations allowed on this path"):
        client.dbfs.get_status("/Volumes/main/default")


def test_unknown_and_mistyped_fields_are_refused(client: WorkspaceClient):
    for body, field in (
        ({"path": "/x", "overwite": True}, "overwite"),
        ({"path": "/x", "overwrite": "yes"}, "overwrite"),
        ({"path": 7}, "path"),
    ):
        with pytest.raises(BadRequest, match=field) as caught:
            client.api_client.do("POST", "/api/2.0/dbfs/create", body=body)
        assert caught.value.error_code == "MALFORMED_REQUEST"
    with pytest.raises(InvalidParameterValue, match="Missing required field: path"):
        client.api_client.do("POST", "/api/2.0/dbfs/create", body={})


def test_file_can_be_posted_as_a_form(client: WorkspaceClient):
    client.api_client.do(
        "POST", "/api/2.0/dbfs/put", files={"contents": b"\x00\xff"}, data={"path": "/form/a", "overwrite": "true"}
    )
    assert client.dbfs.download("/form/a").read() == b"\x00\xff"
