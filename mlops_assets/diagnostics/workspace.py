"""Checks of a Databricks workspace: address, credentials, staging, schema, SQL warehouse, secrets, MLflow.

What belongs here: checks that change nothing, except for a probe file that is removed again. What does not: clusters
and their parts (`clusters`).
"""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Callable, Iterator, Mapping

import requests
from databricks.sdk import WorkspaceClient

from mlops_assets.databricks.login import LOGIN_FIX, Credentials
from mlops_assets.databricks.preflight import Finding
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.diagnostics.clusters import check_cluster
from mlops_assets.diagnostics.findings import PATIENCE_SECONDS, PROBE, WORKSPACE_ERRORS, in_one_line, ok, wrong
from mlops_assets.errors import LaunchError


def check_workspace(profile: DatabricksProfile, credentials: Mapping[str, str]) -> Iterator[Finding]:
    """Check the workspace of a profile; without a login, only the address is checked.

    Args:
        profile: The Databricks environment.
        credentials: By the names of databricks-sdk (`token`, or `client_id` and `client_secret`); if empty, the SDK
            looks for them (`~/.databrickscfg`, the clouds' own tools).
    """
    reached = _host(profile.host)
    yield reached
    if reached.level == "error":
        return
    try:
        login = Credentials(profile.host, **credentials, unified=not credentials)
        config = login.config(http_timeout_seconds=PATIENCE_SECONDS, retry_timeout_seconds=PATIENCE_SECONDS)
        client = WorkspaceClient(config=config)
        user = client.current_user.me().user_name
    except LaunchError as error:
        yield wrong("credentials", f"{error.what}; {error.fix}")
        return
    except (*WORKSPACE_ERRORS, ValueError) as error:  # ValueError: a login server refuses them at the first call
        yield wrong("credentials", f"rejected: {in_one_line(error)}; {LOGIN_FIX}")
        return
    yield ok("credentials", f"accepted, as {user} ({config.auth_type})")
    yield _staging(client, profile)
    if profile.tables == "catalog":
        yield _schema(client, profile)
    if profile.warehouse_id is not None:
        yield _warehouse(client, profile.warehouse_id)
    for spec in (profile.clusters.loader, profile.clusters.trials):
        yield from check_cluster(client, spec)
    yield from _secrets(client, profile)
    yield _mlflow(client, profile.tracking_uri)


def _host(host: str) -> Finding:
    try:
        requests.get(host, timeout=PATIENCE_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        fix = "check the address (MLOPS_DATABRICKS_HOST), VPN and proxy"
        return wrong("host", f"{host} can't be reached: {in_one_line(error)}; {fix}")
    return ok("host", f"{host} answers")


def _staging(client: WorkspaceClient, profile: DatabricksProfile) -> Finding:
    write, remove = _probes(client, profile)
    try:
        write()
        remove()
    except WORKSPACE_ERRORS as error:
        fix = _staging_fix(profile, error)
        return wrong("staging", f"{profile.staging_path} is not writable: {in_one_line(error)}; {fix}")
    return ok("staging", f"{profile.staging_path} can be written and cleaned up")


def _probes(client: WorkspaceClient, profile: DatabricksProfile) -> tuple[Callable[[], object], Callable[[], object]]:
    name = f"{profile.staging_path}/.doctor-{uuid.uuid4().hex}"
    if profile.staging == "volume":
        return lambda: client.files.upload(name, io.BytesIO(PROBE)), lambda: client.files.delete(name)
    path = name.removeprefix("dbfs:")
    content = base64.b64encode(PROBE).decode()
    return lambda: client.dbfs.put(path, contents=content), lambda: client.dbfs.delete(path)


def _staging_fix(profile: DatabricksProfile, error: Exception) -> str:
    if profile.staging == "dbfs":
        if "disabled" in str(error):
            return "DBFS is disabled in this workspace: set `staging: volume` (MLOPS_DATABRICKS_STAGING=volume)"
        return "request write permission there, or set `staging: volume` (MLOPS_DATABRICKS_STAGING=volume)"
    volume = ".".join(profile.staging_path.split("/")[2:5])
    return (
        f"create it (CREATE VOLUME {volume}) and grant READ VOLUME and WRITE VOLUME on it; in a workspace without "
        "Unity Catalog set `staging: dbfs` (MLOPS_DATABRICKS_STAGING=dbfs)"
    )


def _schema(client: WorkspaceClient, profile: DatabricksProfile) -> Finding:
    name = f"{profile.catalog}.{profile.db_schema}"
    try:
        client.schemas.get(name)
    except WORKSPACE_ERRORS as error:
        fix = f"create it (CREATE SCHEMA {name}) and grant USE SCHEMA, CREATE TABLE and CREATE MODEL on it"
        return wrong("schema", f"{name}: {in_one_line(error)}; {fix}")
    return ok("schema", f"{name} exists")


def _warehouse(client: WorkspaceClient, warehouse_id: str) -> Finding:
    try:
        found = client.warehouses.get(warehouse_id)
    except WORKSPACE_ERRORS as error:
        fix = "check `warehouse_id` in the profile, and request CAN USE on the warehouse"
        return wrong("warehouse", f"{warehouse_id}: {in_one_line(error)}; {fix}")
    state = "" if found.state is None else f", {found.state.value.lower()}"
    return ok("warehouse", f"{found.name} exists{state}; it keeps the ledger of champions")


def _secrets(client: WorkspaceClient, profile: DatabricksProfile) -> Iterator[Finding]:
    wanted: dict[str, set[str]] = {}
    for secret in profile.secrets.values():
        wanted.setdefault(secret.scope, set()).add(secret.key)
    for spec in (profile.clusters.loader, profile.clusters.trials):
        for scope, key in spec.secret_references:
            wanted.setdefault(scope, set()).add(key)
    for scope, keys in sorted(wanted.items()):
        subject = f"secret scope {scope}"
        try:
            there = {secret.key for secret in client.secrets.list_secrets(scope)}
        except WORKSPACE_ERRORS as error:
            fix = f"create it (databricks secrets create-scope {scope}) or request READ on it"
            yield wrong(subject, f"{in_one_line(error)}; {fix}")
            continue
        absent = sorted(keys - there)
        if absent:
            yield wrong(subject, f"has no {', '.join(absent)}; databricks secrets put-secret {scope} {absent[0]}")
        else:
            yield ok(subject, f"has {', '.join(sorted(keys))}")


def _mlflow(client: WorkspaceClient, tracking_uri: str) -> Finding:
    if tracking_uri.startswith("databricks"):
        try:
            next(iter(client.experiments.search_experiments(max_results=1)), None)
        except WORKSPACE_ERRORS as error:
            return wrong("mlflow", f"{in_one_line(error)}; request workspace access, or set tracking_uri to a server")
        return ok("mlflow", "the workspace's MLflow responds")
    if not tracking_uri.startswith(("http://", "https://")):
        return Finding(
            "warning", "mlflow", f"{tracking_uri} is on the cluster, and is lost when the cluster terminates"
        )
    try:
        status = requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=PATIENCE_SECONDS).status_code
    except requests.RequestException as error:
        return wrong("mlflow", f"{tracking_uri} can't be reached: {in_one_line(error)}; fix tracking_uri, or start it")
    if status != requests.codes.ok:
        return wrong("mlflow", f"{tracking_uri}/health returned {status}; is it an MLflow server?")
    return ok("mlflow", f"{tracking_uri} responds")
