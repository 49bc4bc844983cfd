"""Every error that the workspace can answer, as databricks-sdk reads it: its class, code and message."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import platform
from databricks.sdk.errors.base import DatabricksError

import databricks_loopback
from databricks_loopback import Workspace
from databricks_loopback.wire import ApiError

SOURCES = Path(databricks_loopback.__file__).parent
# Older APIs answer these with 400 where the code's class belongs to another status ("Status codes" of the reference;
# databricks-sdk-go, `apierr`): the code decides the class.
OLDER = {(400, "RESOURCE_ALREADY_EXISTS")}
# The SDK knows neither status nor code and hands on its base class; its own downloads look at nothing else.
WITHOUT_CLASS = {(412, "PRECONDITION_FAILED")}
_STATUS_AND_CODE = 2


def pairs() -> Iterator[tuple[int, str | int]]:
    """Yield status and code of each `ApiError` that the sources make."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
                values = [item.value for item in node.args[:_STATUS_AND_CODE] if isinstance(item, ast.Constant)]
                if len(values) == _STATUS_AND_CODE:
                    status, code = values
                    assert isinstance(status, int)
                    assert isinstance(code, str | int)
                    yield status, code


PAIRS = sorted(set(pairs()), key=str)


def test_the_sources_make_the_common_ones():
    assert {(404, "RESOURCE_DOES_NOT_EXIST"), (400, "INVALID_PARAMETER_VALUE"), (409, "ALREADY_EXISTS")} <= set(PAIRS)


@pytest.mark.parametrize(("status", "code"), PAIRS)
def test_the_sdk_has_a_class_for_it(workspace: Workspace, status: int, code: str | int):
    def refuse(_request: object, _proceed: object) -> None:
        raise ApiError(status, code, "said so")

    # What is transient is not waited for.
    client = WorkspaceClient(config=Config(host=workspace.host, token=workspace.token, retry_timeout_seconds=1))
    fault = workspace.faults.on_call("refused", refuse, path="/api/2.0/preview/scim/v2/Me", times=None)  # type: ignore[arg-type]
    with fault, pytest.raises((DatabricksError, TimeoutError)) as raised:
        client.current_user.me()
    # The SDK wraps what it has retried in vain.
    error: BaseException = raised.value
    caught = error if isinstance(error, DatabricksError) else error.__cause__
    assert isinstance(caught, DatabricksError)
    assert str(caught.error_code) == str(code)
    assert "said so" in str(caught)
    assert (type(caught) is DatabricksError) == ((status, code) in WITHOUT_CLASS)
    if (status, code) in WITHOUT_CLASS:
        return
    by_status = platform.STATUS_CODE_MAPPING[status]
    if (status, code) not in OLDER:
        assert isinstance(caught, by_status), f"{type(caught).__name__} is no {by_status.__name__}"
