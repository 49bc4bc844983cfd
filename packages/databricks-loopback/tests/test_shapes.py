"""One answer of each endpoint against the shape that the platform documents.

Each answer is checked by the SDK's data class, which is generated from the platform's OpenAPI: a field that it does not
know, has another type or is an unknown enum value fails, and so does a field that the public examples always show and
the answer lacks. `source` says where those were read.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import catalog, compute, files, iam, jobs, sql
from databricks.sdk.service import workspace as workspace_files
from databricks.sdk.service.catalog import VolumeType

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, submit, wait_for_end
from databricks_loopback.schema import check_object

REFERENCE = "REST API reference"
CLUSTER: dict[str, Any] = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0}
# Sent by the platform (flyteorg/flytekit PR 1935) and absent from the SDK's classes.
UNDOCUMENTED = {"format"}
JOBS_20 = "docs.databricks.com Jobs API 2.0, response structures"


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        call: Verb and path with query, names in braces filled from the prepared state.
        shape: Class of the answer, None where it is an empty object.
        shown: Fields that it must have.
        body: JSON to send.
        source: Where the shape was read.
    """

    call: str
    shape: type | None
    shown: str = ""
    body: Any = None
    source: str = REFERENCE


RUN_FIELDS = "job_id run_id creator_user_name run_name run_type state status run_page_url start_time end_time"
CASES = [
    Case("GET /api/2.0/preview/scim/v2/Me", iam.User, "userName displayName active emails id", source="RFC 7643, 4.1"),
    Case("POST /api/2.0/dbfs/create", files.CreateResponse, "handle", {"path": "/shape/new", "overwrite": True}),
    Case("POST /api/2.0/dbfs/add-block", None, body={"handle": "{handle}", "data": "YQ=="}),
    Case("POST /api/2.0/dbfs/close", None, body={"handle": "{handle}"}),
    Case("POST /api/2.0/dbfs/put", None, body={"path": "/shape/put", "contents": "YQ==", "overwrite": True}),
    Case("POST /api/2.0/dbfs/mkdirs", None, body={"path": "/shape/folder"}),
    Case("POST /api/2.0/dbfs/move", None, body={"source_path": "/shape/a", "destination_path": "/shape/b"}),
    Case("POST /api/2.0/dbfs/delete", None, body={"path": "/shape/none"}),
    Case("GET /api/2.0/dbfs/read?path=/shape/file", files.ReadResponse, "bytes_read data"),
    Case("GET /api/2.0/dbfs/get-status?path=/shape/file", files.FileInfo, "path is_dir file_size modification_time"),
    Case("GET /api/2.0/dbfs/list?path=/shape", files.ListStatusResponse, "files"),
    Case("GET /api/2.0/fs/directories/Volumes/shapes/s/v", files.ListDirectoryResponse, "contents"),
    Case("POST /api/2.0/workspace/mkdirs", None, body={"path": "/Shared/shapes"}),
    Case(
        "POST /api/2.0/workspace/import",
        None,
        body={"path": "/Shared/shape.txt", "format": "RAW", "content": "YQ==", "overwrite": True},
    ),
    Case(
        "GET /api/2.0/workspace/get-status?path=/Shared/shape",
        workspace_files.ObjectInfo,
        "object_type path object_id created_at modified_at resource_id size",
        source="databricks/cli issue 3691",
    ),
    *(
        Case(
            call,
            sql.StatementResponse,
            "statement_id status",
            # A schema that is not there: an answer without a start of the warehouse.
            body={"statement": "SELECT 1", "warehouse_id": "{warehouse}", "catalog": "shapes", "schema": "none"},
        )
        for call in ("POST /api/2.0/sql/statements/", "POST /api/2.0/sql/statements")
    ),
    Case("GET /api/2.0/sql/statements/{statement}", sql.StatementResponse, "statement_id status"),
    Case("POST /api/2.0/sql/statements/{statement}/cancel", None),
    Case("GET /api/2.0/sql/warehouses/{warehouse}", sql.GetWarehouseResponse, "id name state"),
    Case("GET /api/2.0/workspace/list?path=/Shared", workspace_files.ListResponse, "objects"),
    Case("GET /api/2.0/workspace/export?path=/Shared/shape", workspace_files.ExportResponse, "content file_type"),
    Case("POST /api/2.0/workspace/delete", None, body={"path": "/Shared/gone"}),
    Case("POST /api/2.2/jobs/runs/submit", jobs.SubmitRunResponse, "run_id", "{submission}"),
    Case("GET /api/2.2/jobs/runs/get?run_id={run}", jobs.Run, f"{RUN_FIELDS} tasks", source="flytekit PR 1935"),
    Case("GET /api/2.2/jobs/runs/get-output?run_id={task}", jobs.RunOutput, "metadata logs", source=JOBS_20),
    Case("GET /api/2.2/jobs/runs/list", jobs.ListRunsResponse, "runs has_more"),
    Case("POST /api/2.2/jobs/runs/cancel", None, body={"run_id": "{run}"}),
    Case("POST /api/2.2/jobs/runs/delete", None, body={"run_id": "{old_run}"}),
    Case(
        "GET /api/2.1/clusters/get?cluster_id={job_cluster}",
        compute.ClusterDetails,
        "cluster_id state state_message spark_version num_workers termination_reason creator_user_name cluster_source",
    ),
    Case("GET /api/2.1/clusters/list", compute.ListClustersResponse, "clusters"),
    Case("POST /api/2.1/clusters/create", compute.CreateClusterResponse, "cluster_id", CLUSTER),
    Case("POST /api/2.1/clusters/delete", None, body={"cluster_id": "{cluster}"}),
    Case("POST /api/2.1/clusters/start", None, body={"cluster_id": "{stopped}"}),
    Case("POST /api/2.1/clusters/permanent-delete", None, body={"cluster_id": "{old_cluster}"}),
    Case("GET /api/2.1/clusters/list-node-types", compute.ListNodeTypesResponse, "node_types"),
    Case("GET /api/2.1/clusters/spark-versions", compute.GetSparkVersionsResponse, "versions"),
    Case("GET /api/2.0/policies/clusters/get?policy_id={policy}", compute.Policy, "policy_id name definition"),
    Case("GET /api/2.0/policies/clusters/list", compute.ListPoliciesResponse, "policies"),
    Case(
        "POST /api/2.0/policies/clusters/create",
        compute.CreatePolicyResponse,
        "policy_id",
        {"name": "another", "definition": "{}"},
    ),
    Case(
        "POST /api/2.0/policies/clusters/edit",
        None,
        body={"policy_id": "{policy}", "name": "shape", "definition": "{}"},
    ),
    Case(
        "GET /api/2.0/instance-pools/get?instance_pool_id={pool}",
        compute.GetInstancePool,
        "instance_pool_id instance_pool_name node_type_id state stats",
    ),
    Case("GET /api/2.0/instance-pools/list", compute.ListInstancePools, "instance_pools"),
    Case("GET /api/2.0/permissions/clusters/{cluster}", iam.ObjectPermissions, "object_id object_type"),
    Case(
        "PUT /api/2.0/permissions/jobs/{job}",
        iam.ObjectPermissions,
        "access_control_list",
        {"access_control_list": [{"group_name": "g", "permission_level": "CAN_VIEW"}]},
    ),
    Case(
        "PATCH /api/2.0/permissions/jobs/{job}",
        iam.ObjectPermissions,
        "access_control_list",
        {"access_control_list": [{"service_principal_name": "p", "permission_level": "CAN_MANAGE"}]},
    ),
    Case(
        "GET /api/2.0/permissions/jobs/{job}/permissionLevels",
        iam.GetPermissionLevelsResponse,
        "permission_levels",
    ),
    Case("POST /api/2.0/secrets/scopes/create", None, body={"scope": "shape-new"}),
    Case("GET /api/2.0/secrets/scopes/list", workspace_files.ListScopesResponse, "scopes"),
    Case("POST /api/2.0/secrets/put", None, body={"scope": "shape", "key": "k", "string_value": "v"}),
    Case("GET /api/2.0/secrets/get?scope=shape&key=k", workspace_files.GetSecretResponse, "key value"),
    Case("GET /api/2.0/secrets/list?scope=shape", workspace_files.ListSecretsResponse, "secrets"),
    Case("POST /api/2.0/secrets/delete", None, body={"scope": "shape", "key": "gone"}),
    Case("POST /api/2.0/secrets/scopes/delete", None, body={"scope": "shape-gone"}),
    Case("GET /api/2.1/unity-catalog/catalogs", catalog.ListCatalogsResponse, "catalogs"),
    Case("GET /api/2.1/unity-catalog/catalogs/shapes", catalog.CatalogInfo, "name owner catalog_type"),
    Case("GET /api/2.1/unity-catalog/schemas?catalog_name=shapes", catalog.ListSchemasResponse, "schemas"),
    Case(
        "POST /api/2.1/unity-catalog/schemas",
        catalog.SchemaInfo,
        "full_name",
        {"name": "made", "catalog_name": "shapes"},
    ),
    Case("GET /api/2.1/unity-catalog/schemas/shapes.s", catalog.SchemaInfo, "name catalog_name full_name owner"),
    Case(
        "GET /api/2.1/unity-catalog/volumes?catalog_name=shapes&schema_name=s",
        catalog.ListVolumesResponseContent,
        "volumes",
    ),
    Case(
        "POST /api/2.1/unity-catalog/volumes",
        catalog.VolumeInfo,
        "full_name",
        {"name": "made", "catalog_name": "shapes", "schema_name": "s", "volume_type": VolumeType.MANAGED.value},
    ),
    Case(
        "GET /api/2.1/unity-catalog/volumes/shapes.s.v",
        catalog.VolumeInfo,
        "name full_name volume_type volume_id storage_location owner created_at created_by",
    ),
    Case("DELETE /api/2.1/unity-catalog/volumes/shapes.s.gone", None),
    Case(
        "GET /api/2.1/unity-catalog/tables?catalog_name=shapes&schema_name=s",
        catalog.ListTablesResponse,
        "tables",
    ),
    Case(
        "GET /api/2.1/unity-catalog/tables/shapes.s.t",
        catalog.TableInfo,
        "name full_name table_type data_source_format table_id owner properties created_at updated_at",
        source="open-metadata/OpenMetadata, a recorded TableInfo",
    ),
]
# Answered with headers or bytes instead of JSON (`test_files`), or by the OAuth server (`test_server`).
OAUTH = {"/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server", "/oidc/v1/token"}
WITHOUT_JSON = {"/", "/api/2.0/fs/files{path}"} | OAUTH


@pytest.fixture(scope="module")
def prepared(shared_workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Something for each call to be about, and its names."""
    workspace = shared_workspace
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    handle = client.dbfs.create("/shape/streamed", overwrite=True).handle
    for name in ("file", "a"):
        client.dbfs.put(f"/shape/{name}", contents=base64.b64encode(b"12").decode(), overwrite=True)
    workspace.catalog.add_schema("shapes.s")
    for name in ("v", "gone"):
        workspace.catalog.add_volume(f"shapes.s.{name}")
    workspace.catalog.add_table("shapes.s.t", {"delta.lastUpdateVersion": "0"})
    for name in ("shape", "gone"):
        client.workspace.import_(f"/Shared/{name}", content="YQ==", format=workspace_files.ImportFormat.RAW)
    for scope, key in (("shape", "k"), ("shape", "gone"), ("shape-gone", "k")):
        workspace.secrets.put(scope, key, "v")
    task = python_task("print(1)", client)
    run, old = (wait_for_end(client, submit(client, task)) for _ in range(2))
    assert run.tasks is not None
    assert run.tasks[0].cluster_instance is not None
    clusters = [client.clusters.create(**CLUSTER).result().cluster_id for _ in range(3)]
    client.clusters.delete(str(clusters[1])).result()
    warehouse = workspace.warehouses.add()
    failed = client.statement_execution.execute_statement("SELECT 1", warehouse, catalog="shapes", schema="none")
    yield {
        "warehouse": warehouse,
        "statement": failed.statement_id,
        "handle": handle,
        "run": run.run_id,
        "task": run.tasks[0].run_id,
        "job": run.job_id,
        "old_run": old.run_id,
        "job_cluster": run.tasks[0].cluster_instance.cluster_id,
        "cluster": clusters[0],
        "stopped": clusters[1],
        "old_cluster": clusters[2],
        "policy": workspace.policies.add("shape", {}, creator="admin"),
        "pool": workspace.pools.add("shape", "i3.xlarge"),
        "submission": {"run_name": "shape", "tasks": [task.as_dict()]},
    }
    for active in client.jobs.list_runs(active_only=True):
        assert active.run_id is not None
        client.jobs.cancel_run(active.run_id)
        wait_for_end(client, active.run_id)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.call)
def test_answer_has_the_documented_shape(workspace: Workspace, prepared: dict[str, Any], case: Case):
    method, path = case.call.split(" ")
    answer = requests.request(
        method,
        workspace.host + path.format(**prepared),
        json=filled(case.body, prepared),
        headers={"Authorization": f"Bearer {workspace.token}"},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    if case.shape is None:
        assert document == {}
        return
    lacking = [name for name in case.shown.split() if name not in document]
    assert lacking == [], f"{case.source} shows them"
    check_object(without_undocumented(document), renamed(case.shape))


def test_each_endpoint_has_a_case(shared_workspace: Workspace):
    routes = {(route.method, route.template) for _, route in shared_workspace._server._router._routes}
    tested = set()
    for case in CASES:
        method, path = case.call.split(" ")
        route, _ = shared_workspace._server._router.find(method, path.split("?")[0])
        tested.add((route.method, route.template))
    untested = {(method, template) for method, template in routes - tested if template not in WITHOUT_JSON}
    # MLflow's own messages say the shape of these: see test_model_registry.
    untested = {(method, template) for method, template in untested if not template.startswith("/api/2.0/mlflow")}
    without_body = {("PUT", "/api/2.0/fs/directories{path}"), ("DELETE", "/api/2.0/fs/directories{path}")}
    assert untested == without_body | {("HEAD", "/api/2.0/fs/directories{path}")}, "tested in test_files"


def filled(body: Any, prepared: dict[str, Any]) -> Any:
    """Return a body with the texts that are a name in braces replaced by what they name."""
    if isinstance(body, dict):
        return {name: filled(item, prepared) for name, item in body.items()}
    if isinstance(body, str) and body.startswith("{") and body.strip("{}") in prepared:
        return prepared[body.strip("{}")]
    return body


def without_undocumented(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_undocumented(item) for name, item in value.items() if name not in UNDOCUMENTED}
    if isinstance(value, list):
        return [without_undocumented(item) for item in value]
    return value


def renamed(shape: type) -> type:
    """Return the class that says what is on the wire: SCIM writes names in camel case, the SDK's class does not."""
    return WireUser if shape is iam.User else shape


@dataclass
class WireUser:
    """`iam.User` as `iam.User.as_dict` writes it."""

    schemas: list[iam.UserSchema]
    id: str
    userName: str  # noqa: N815 - SCIM's name
    displayName: str  # noqa: N815 - SCIM's name
    active: bool
    emails: list[iam.ComplexValue]
    groups: list[iam.ComplexValue]
