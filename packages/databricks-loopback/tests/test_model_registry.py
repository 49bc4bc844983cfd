"""Models in Unity Catalog: each answer against MLflow's own messages, and what the registry refuses.

The messages (`databricks_uc_registry_messages_pb2`) are generated from the platform's; a field that they do not know
fails. How MLflow's client uses the calls together is tested in `databricks/test_mlflow_there`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped] # its types are a package of their own
from mlflow.protos import databricks_uc_registry_messages_pb2 as messages

from databricks_loopback import Workspace

NAME = "main.registry.m"
VERSION = {"name": NAME, "version": "1"}
ALIAS = {"name": NAME, "alias": "champion"}
Call = Callable[..., requests.Response]
# In the order in which each needs what the ones before have made.
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("POST registered-models/create", {"name": NAME}, messages.CreateRegisteredModelResponse),
    ("GET registered-models/get", {"name": NAME}, messages.GetRegisteredModelResponse),
    (
        "POST model-versions/create",
        {"name": NAME, "source": "models:/m-1", "run_id": "r"},
        messages.CreateModelVersionResponse,
    ),
    ("POST model-versions/finalize", VERSION, messages.FinalizeModelVersionResponse),
    ("GET model-versions/get", VERSION, messages.GetModelVersionResponse),
    ("PATCH model-versions/update", {**VERSION, "description": "d"}, messages.UpdateModelVersionResponse),
    ("GET model-versions/search", {"filter": "run_id = 'r'"}, messages.SearchModelVersionsResponse),
    ("POST registered-models/alias", {**ALIAS, "version": "1"}, messages.SetRegisteredModelAliasResponse),
    ("GET registered-models/alias", ALIAS, messages.GetModelVersionByAliasResponse),
    (
        "GET registered-models:is-databricks-sdk-models-artifact-repository-enabled",
        {},
        messages.IsDatabricksSdkModelsArtifactRepositoryEnabledResponse,
    ),
    ("POST model-versions/emit-lineage", VERSION, messages.EmitModelVersionLineageResponse),
    (
        "POST registered-models/set-tag",
        {"name": NAME, "key": "k", "value": "v"},
        messages.SetRegisteredModelTagResponse,
    ),
    ("DELETE registered-models/delete-tag", {"name": NAME, "key": "k"}, messages.DeleteRegisteredModelTagResponse),
    ("POST model-versions/set-tag", {**VERSION, "key": "k", "value": "v"}, messages.SetModelVersionTagResponse),
    ("DELETE model-versions/delete-tag", {**VERSION, "key": "k"}, messages.DeleteModelVersionTagResponse),
    ("DELETE registered-models/alias", ALIAS, messages.DeleteRegisteredModelAliasResponse),
]


TAKEN = {"name": "main.taken.m", "version": "1"}


@pytest.fixture
def call(workspace: Workspace) -> Call:
    def send(call: str, fields: dict[str, Any]) -> requests.Response:
        method, path = call.split(" ")
        return requests.request(
            method,
            f"{workspace.host}/api/2.0/mlflow/unity-catalog/{path}",
            headers={"Authorization": f"Bearer {workspace.token}"},
            timeout=10,
            params=fields if method == "GET" else None,
            json=None if method == "GET" else fields,
        )

    return send


def test_answers_have_the_shape_of_mlflows_messages(call: Call, workspace: Workspace):
    workspace.catalog.add_schema("main.registry")
    model = workspace.storage.internal / "Models/main/registry/m/1/MLmodel"
    model.parent.mkdir(parents=True)
    model.write_text("")
    shown = {}
    for name, fields, message in CASES:
        answer = call(name, fields)
        assert answer.status_code == 200, (name, answer.text)
        ParseDict(answer.json(), message())
        shown[name] = answer.json()
    assert shown["POST model-versions/create"]["model_version"]["status"] == "PENDING_REGISTRATION"
    assert shown["POST model-versions/finalize"]["model_version"]["status"] == "READY"
    assert shown["GET registered-models/alias"]["model_version"]["version"] == "1"
    assert len(shown["GET model-versions/search"]["model_versions"]) == 1


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("POST registered-models/create", {"name": "two.levels"}, "INVALID_PARAMETER_VALUE"),
        ("POST registered-models/create", {"name": "main.nowhere.m"}, "SCHEMA_DOES_NOT_EXIST"),
        ("POST registered-models/create", {"name": "main.taken.m"}, "ALREADY_EXISTS"),
        ("GET registered-models/get", {"name": "main.taken.none"}, "RESOURCE_DOES_NOT_EXIST"),
        ("GET registered-models/alias", {"name": "main.taken.m", "alias": "none"}, "NOT_FOUND"),
        ("GET model-versions/get", {"name": "main.taken.m", "version": "9"}, "RESOURCE_DOES_NOT_EXIST"),
        (
            "POST registered-models/set-tag",
            {"name": "main.taken.none", "key": "k", "value": "v"},
            "RESOURCE_DOES_NOT_EXIST",
        ),
        (
            "POST registered-models/set-tag",
            {"name": "main.taken.m", "key": "k", "value": "v" * 1001},
            "INVALID_PARAMETER_VALUE",
        ),
        ("POST model-versions/finalize", {"name": "main.taken.m", "version": "1"}, "INVALID_PARAMETER_VALUE"),
        ("GET model-versions/search", {"filter": "name = 'm' and run_id = 'r'"}, "INVALID_PARAMETER_VALUE"),
        ("POST model-versions/set-tag", {**TAKEN, "key": "a.b", "value": "c"}, "INVALID_PARAMETER_VALUE"),
        ("POST model-versions/set-tag", {**TAKEN, "key": "a", "value": " c"}, "INVALID_PARAMETER_VALUE"),
        ("POST model-versions/set-tag", {**TAKEN, "key": "a", "value": "c" * 1001}, "INVALID_PARAMETER_VALUE"),
        (
            "POST model-versions/create",
            {"name": "main.taken.m", "source": "models:/m-1", "tags": [{"key": "a-b", "value": "c"}]},
            "INVALID_PARAMETER_VALUE",
        ),
        ("GET model-versions/get-download-uri", {"name": "main.taken.m", "version": "1"}, "NOT_IMPLEMENTED"),
    ],
)
def test_what_it_refuses(call: Call, workspace: Workspace, name: str, fields: dict[str, Any], code: str):
    workspace.catalog.add_schema("main.taken")
    call("POST registered-models/create", {"name": "main.taken.m"})
    call("POST model-versions/create", {"name": "main.taken.m", "source": "models:/m-1"})
    assert call(name, fields).json()["error_code"] == code
