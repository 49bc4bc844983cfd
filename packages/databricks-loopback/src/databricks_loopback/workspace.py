"""The workspace: constructs, starts and stops its parts.

What belongs here: construction, start and stop, and the handles that tests use. What does not: any behaviour.

It is stricter than the platform, so that what passes here passes there: unknown fields of a request are rejected, the
output of a run is available only from its tasks, a task has neither `__file__` nor its folder on `sys.path`, and
`sys.exit` fails it. It supports less: only one-time runs of Python files on classic compute, one catalog whose tables
outlive a cluster (`spark_catalog`, see `metastore`), no access control, `local[n]` instead of workers, and libraries
are checked instead of installed. What it does not support is answered with 501 NOT_IMPLEMENTED, which the platform
never sends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from databricks_loopback import sandbox
from databricks_loopback.api import identity
from databricks_loopback.api.clusters import ClustersApi
from databricks_loopback.api.dbfs import DbfsApi
from databricks_loopback.api.files import FilesApi
from databricks_loopback.api.jobs import JobsApi
from databricks_loopback.api.mlflow_tracking import MlflowTrackingApi
from databricks_loopback.api.model_registry import ModelRegistryApi
from databricks_loopback.api.pages import Pages
from databricks_loopback.api.permissions import PermissionsApi
from databricks_loopback.api.secret_scopes import SecretScopesApi
from databricks_loopback.api.sql_statements import SqlStatementsApi
from databricks_loopback.api.unity_catalog import UnityCatalogApi
from databricks_loopback.api.workspace_files import WorkspaceFilesApi
from databricks_loopback.attempt import Platform
from databricks_loopback.auth import Tokens
from databricks_loopback.calls import CallLog
from databricks_loopback.catalog import Catalog
from databricks_loopback.clusters import Clusters
from databricks_loopback.compute_presets import Policies, Pools
from databricks_loopback.faults import Faults
from databricks_loopback.model_registry import ModelRegistry
from databricks_loopback.rates import Rates
from databricks_loopback.routing import Router
from databricks_loopback.runner import Runner
from databricks_loopback.runs import Runs
from databricks_loopback.secret_store import SecretStore
from databricks_loopback.server import LoopbackServer
from databricks_loopback.sql_warehouse import Warehouses
from databricks_loopback.storage import Storage
from databricks_loopback.wire import invalid

_WORKSPACE_ID = 1234567890123456
# The name of open-source Spark's own metastore.
_LOCAL_CATALOG = "spark_catalog"


class Workspace:
    """A Databricks workspace on 127.0.0.1, for the length of a `with` block.

    Example:
        >>> with Workspace(folder, delta_jars=jars) as workspace:
        ...     client = WorkspaceClient(host=workspace.host, token=workspace.token)
        ...     workspace.faults.spot_loss(after_s=2.0)

    Args:
        folder: Empty folder for all its files.
        delta_jars: Delta's jars for the clusters; without them Spark has no Delta.
        user: User of the workspace's first token.
        cores: Spark's local cores on a cluster.
        driver_memory: Heap of a cluster's driver, in JVM notation.
        java_home: JAVA_HOME of the clusters; defaults to that of the `java` on the PATH.
        dbfs: Whether clusters mount DBFS at `/dbfs`.
        metastore: Whether tables outlive a cluster, as `spark_catalog.<schema>.<table>`; clusters that use tables then
            can't run at the same time.
        mlflow_server: Address of a real MLflow server behind the tracking URI `databricks`; its artifact root must be
            `api.mlflow_tracking.ARTIFACTS`.
        oauth_lifetime_s: Lifetime of OAuth tokens.
        port: Port of 127.0.0.1; 0 takes a free one.
        limit_rates: Whether more calls per second than the platform allows are answered with 429. Off by default,
            because answers come so much faster here that a test's own calls would be throttled.

    Attributes:
        token: A valid personal access token.
        calls: Record of all calls.
        faults: Fault injection.
        storage: Local folders of DBFS, volumes and workspace files.
        secrets: Secret scopes.
        tokens: Creates more tokens and service principals.
        clusters: Clusters, and the available machine types.
        policies: Cluster policies.
        pools: Instance pools.
        catalog: Catalogs, schemas and volumes.
        models: Models in Unity Catalog.
        warehouses: SQL warehouses.
        runs: Runs with their tasks' local log folders.
    """

    def __init__(
        self,
        folder: Path,
        *,
        delta_jars: Sequence[Path] = (),
        user: str = "engineer@example.com",
        cores: int = 2,
        driver_memory: str = "1g",
        java_home: Path | None = None,
        dbfs: bool = True,
        metastore: bool = False,
        mlflow_server: str | None = None,
        oauth_lifetime_s: float = 3600.0,
        port: int = 0,
        limit_rates: bool = False,
    ) -> None:
        self._folder = folder
        self.calls, self.faults = CallLog(), Faults()
        self.tokens = Tokens(oauth_lifetime_s)
        self.token = self.tokens.issue(user)
        self.storage, self.secrets = Storage(folder), SecretStore()
        self.policies, self.pools = Policies(), Pools()
        self.clusters = Clusters(self.policies, self.pools)
        self.catalog = Catalog(self.storage, user)
        self.models = ModelRegistry(self.catalog, self.storage)
        self.runs = Runs(folder / "runs")
        rates = Rates() if limit_rates else None
        self._server = LoopbackServer(self.tokens, self.faults, self.calls, port, rates)
        jars = folder / "jars"
        jars.mkdir()
        for jar in delta_jars:
            shutil.copy(jar, jars)
        java = java_home or _java_home()
        self.warehouses = Warehouses(folder / "warehouses", self.storage, self.catalog, jars, java, driver_memory)
        platform = Platform(
            storage=self.storage,
            secrets=self.secrets,
            clusters=self.clusters,
            faults=self.faults,
            jars=jars,
            java_home=java,
            hidden=sandbox.editable_projects(),
            cores=cores,
            memory=driver_memory,
            dbfs=dbfs,
            metastore=_made(folder / "metastore") if metastore else None,
            schemas=lambda: self.catalog.names_of_schemas(_LOCAL_CATALOG),
            identify=lambda cluster, user: (self.host, self.tokens.issue(f"{user} on cluster {cluster.id}")),
        )
        self._runner = Runner(platform, self._server.bugs)
        self._user, self._mlflow_server = user, mlflow_server

    @property
    def host(self) -> str:
        """Address, `http://127.0.0.1:PORT`."""
        return self._server.url

    def __enter__(self) -> Self:
        """Start the server.

        Raises:
            LoopbackError: This machine can't emulate a cluster's machines.
        """
        sandbox.require_namespaces()
        self._server.start(self._router())
        return self

    @property
    def table_tags(self) -> dict[str, dict[str, str]]:
        """Tags by three-level name of the table; tasks set them with `ALTER TABLE ... SET TAGS`."""
        notes = self._folder / "metastore" / "tags.jsonl"
        found: dict[str, dict[str, str]] = {}
        for line in notes.read_text("utf-8").splitlines() if notes.exists() else []:
            note = json.loads(line)
            found.setdefault(note["table"], {}).update(note["tags"])
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.stop(self.runs)
        self.warehouses.stop()
        self._server.stop()
        if self._server.bugs and error is None:
            raise AssertionError("the loopback workspace has a bug:\n" + "\n".join(self._server.bugs))

    def _router(self) -> Router:
        permissions = PermissionsApi(self._check_exists, self._user)
        jobs = JobsApi(
            self.runs,
            self._runner,
            self.clusters,
            self.storage,
            permissions,
            url=lambda: self.host,
            workspace_id=_WORKSPACE_ID,
        )
        return Router(
            [
                *self.tokens.routes(lambda: self.host, _WORKSPACE_ID),
                *identity.routes(),
                *DbfsApi(self.storage).routes(),
                *FilesApi(self.storage, self.catalog).routes(),
                *WorkspaceFilesApi(self.storage, self._user).routes(),
                *jobs.routes(),
                *ClustersApi(self.clusters, self.policies, self.pools).routes(),
                *permissions.routes(),
                *SecretScopesApi(self.secrets).routes(),
                *UnityCatalogApi(self.catalog).routes(),
                *SqlStatementsApi(self.warehouses).routes(),
                *Pages(self.runs).routes(),
                *ModelRegistryApi(self.models).routes(),
                *(MlflowTrackingApi(self._mlflow_server, _WORKSPACE_ID).routes() if self._mlflow_server else ()),
            ]
        )

    def _check_exists(self, object_type: str, object_id: str) -> None:
        if object_type == "clusters":
            self.clusters.get(object_id)
        elif object_type == "cluster-policies":
            self.policies.get(object_id)
        elif object_type == "instance-pools":
            self.pools.get(object_id)
        elif not any(str(run.job_id) == object_id for run in self.runs):
            raise invalid(f"Job {object_id} does not exist.")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _java_home() -> Path | None:
    java = shutil.which("java")
    return Path(java).resolve().parents[1] if java else None
