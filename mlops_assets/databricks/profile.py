"""A workspace and how to use it: one YAML file per environment, with overrides from environment variables.

What belongs here: addresses, names, placements and clusters of one environment, validated. What does not: credentials
(they stay in the environment of the launching process; `credentials` keeps them out), reading the environment
(`mlops_assets.deployment`) and the file (`profile_document`), calling the workspace.

An override is `MLOPS_DATABRICKS_<FIELD>`, two underscores going one level down: `MLOPS_DATABRICKS_HOST`,
`MLOPS_DATABRICKS_CLUSTERS__TRIALS__WORKERS`. Its value is a string; `null` unsets a field, and a value that starts
with `{` or `[` is parsed as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlops_assets.databricks.clouds import Cloud
from mlops_assets.databricks.cluster import ClusterSpec, CostClass
from mlops_assets.databricks.credentials import SecretRef
from mlops_assets.databricks.profile_document import SHIPPED, read_document, refused_document

__all__ = ["SHIPPED", "Clusters", "DatabricksProfile", "Placement", "cloud_of", "load_profile"]

Placement = Literal["loader", "trials", "local"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VOLUME = re.compile(r"/Volumes(/[^/\s:]+){3,}")
_DBFS = re.compile(r"dbfs:(/[^/\s:]+)+")


class Clusters(BaseModel):
    """The cluster of each cost class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loader: ClusterSpec
    trials: ClusterSpec

    @model_validator(mode="before")
    @classmethod
    def _named_by_place(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            name: {"cost_class": name, **spec} if name in ("loader", "trials") and isinstance(spec, Mapping) else spec
            for name, spec in value.items()
        }

    @model_validator(mode="after")
    def _in_place(self) -> Self:
        for name, spec in (("loader", self.loader), ("trials", self.trials)):
            if spec.cost_class != name:
                raise ValueError(f"{name} has cost_class {spec.cost_class}; leave cost_class out")
        return self


class DatabricksProfile(BaseModel):
    """One environment on Databricks.

    Attributes:
        host: Address of the workspace.
        staging: Storage for code and events of a run: a Unity Catalog `volume`, or `dbfs` in old workspaces.
        staging_path: Folder for them, `/Volumes/<catalog>/<schema>/<volume>[/...]` or `dbfs:/...`; defaults to a
            volume `staging` in `catalog` and `schema`, or to `dbfs:/mlops_assets`.
        catalog: Unity Catalog catalog of tables and models.
        db_schema: Schema of tables and models; `schema` in YAML.
        tables: `catalog` names tables `catalog.schema.table`; `path` stores them in folders of `table_root`, for old
            workspaces and the loopback workspace.
        table_root: Folder of the tables with `tables: path`, `dbfs:/...`; a volume can't hold tables.
        secrets: Environment variables of a step on the cluster, each with its secret.
        tracking_uri: MLflow tracking on the cluster; `databricks` uses the cluster's own identity.
        registry_uri: MLflow registry on the cluster.
        launcher: `step` launches Dagster steps, `pipes` uses Dagster Pipes.
        clusters: A cluster for each cost class.
        package_index: Address of a package index that clusters install from instead of PyPI, without credentials.
        budget_policy_id: Budget policy that runs are billed to.
        warehouse_id: With `tables: catalog`: SQL warehouse through which the ledger of champions is read and written;
            without one no ledger is kept.
        placement: Assets that run elsewhere than their definition says: on another cost class, or `local`, where
            Dagster runs. Each launch starts a cluster, which may not be worth it for a small asset; with `local`, that
            machine must be able to reach the asset's tables. Assets of one step (the three sets) share one place.
        keep_staging_on_failure: Whether the staged files of a failed run are kept.
        poll_seconds: Longest pause between two polls of a run, and longest time that its reports wait on the cluster;
            at first and after a change polls are more frequent.
        max_concurrent_launches: How many runs may launch steps at once (limit of the Dagster pool of launches), and how
            many steps of one run.
        reap_after_minutes: A Databricks run whose Dagster run is gone is cancelled after this many minutes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    host: str
    staging: Literal["volume", "dbfs"] = "volume"
    staging_path: str = ""
    catalog: str
    # `schema` is taken by pydantic's BaseModel.
    db_schema: str = Field(alias="schema")
    tables: Literal["catalog", "path"] = "catalog"
    table_root: str | None = None
    secrets: Mapping[str, SecretRef] = Field(default_factory=dict)
    tracking_uri: str = "databricks"
    registry_uri: str = "databricks-uc"
    launcher: Literal["step", "pipes"] = "step"
    clusters: Clusters
    package_index: str | None = None
    budget_policy_id: str | None = Field(default=None, min_length=1)
    warehouse_id: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    placement: Mapping[str, Placement] = Field(default_factory=dict)
    keep_staging_on_failure: bool = True
    poll_seconds: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)
    max_concurrent_launches: int = Field(default=2, ge=1)
    reap_after_minutes: int = Field(default=10, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, value: Any) -> Any:
        """Fill in fields that follow from others."""
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        clusters = filled.get("clusters")
        if isinstance(clusters, Mapping) and filled.get("host"):
            cloud = cloud_of(str(filled["host"]))
            filled["clusters"] = {
                name: {"cloud": cloud, **spec} if isinstance(spec, Mapping) else spec for name, spec in clusters.items()
            }
        if not filled.get("staging_path"):
            schema = filled.get("schema", filled.get("db_schema"))
            volume = f"/Volumes/{filled.get('catalog')}/{schema}/staging"
            filled["staging_path"] = "dbfs:/mlops_assets" if filled.get("staging") == "dbfs" else volume
        return filled

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        parts = urlsplit(host)
        local = parts.hostname in ("127.0.0.1", "localhost")
        if not parts.hostname or parts.scheme not in (("https", "http") if local else ("https",)):
            raise ValueError("use the workspace's address, https://<workspace>")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            raise ValueError(f"give only the address, without a path: https://{parts.hostname}")
        return host.rstrip("/")

    @field_validator("package_index")
    @classmethod
    def _index(cls, address: str | None) -> str | None:
        if address is not None:
            parts = urlsplit(address)
            if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
                raise ValueError(
                    "use https://<index>/simple without credentials; set those for the workspace (Settings, Compute, "
                    "Default package repositories) or in an init script"
                )
        return address

    @field_validator("staging_path")
    @classmethod
    def _no_trailing_slash(cls, path: str) -> str:
        return path.rstrip("/")

    @field_validator("catalog", "db_schema")
    @classmethod
    def _identifier(cls, name: str) -> str:
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError("use letters, digits and underscores, not starting with a digit")
        return name

    @field_validator("secrets")
    @classmethod
    def _no_databricks_token(cls, secrets: Mapping[str, SecretRef]) -> Mapping[str, SecretRef]:
        for name in secrets:
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name} is not a valid name of an environment variable")
            if name.startswith("DATABRICKS_"):
                raise ValueError(f"{name} is never sent to a cluster, which has its own identity; remove it")
        return secrets

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        pattern, example = {
            "volume": (_VOLUME, "/Volumes/<catalog>/<schema>/<volume>"),
            "dbfs": (_DBFS, "dbfs:/<folder>"),
        }[self.staging]
        if not pattern.fullmatch(self.staging_path) or ".." in self.staging_path.split("/"):
            raise ValueError(f"staging_path {self.staging_path!r}: with staging: {self.staging} use {example}")
        if (self.tables == "path") != (self.table_root is not None):
            raise ValueError("set table_root with tables: path, and only then")
        if self.table_root is not None and self.table_root.startswith("/Volumes"):
            # "You can't use volumes as a location for tables" (Databricks, "What are Unity Catalog volumes?").
            raise ValueError(
                f"table_root {self.table_root!r}: Databricks keeps no tables in volumes; use tables: catalog"
            )
        if self.table_root is not None and not _DBFS.fullmatch(self.table_root):
            raise ValueError(f"table_root {self.table_root!r}: use dbfs:/<folder>")
        if self.warehouse_id is not None and self.tables == "path":
            raise ValueError("warehouse_id needs tables: catalog; in folders the ledger is written without a warehouse")
        if self.clusters.loader.compute == "serverless" and (self.staging, self.tables) != ("volume", "catalog"):
            raise ValueError("compute: serverless needs staging: volume and tables: catalog; it has no access to DBFS")
        if self.launcher == "pipes" and (self.clusters.loader.reuse_minutes or self.clusters.trials.reuse_minutes):
            raise ValueError("reuse_minutes needs launcher: step; Pipes opens a run for each asset")
        return self

    def cluster(self, cost_class: CostClass) -> ClusterSpec:
        """Return the cluster of a cost class."""
        return self.clusters.loader if cost_class == "loader" else self.clusters.trials

    def place(self, asset: str, default: Placement) -> Placement:
        """Return where an asset runs; `default` is the place in its definition."""
        return self.placement.get(asset, default)

    def of_branch(self, branch: str) -> Self:
        """Return the profile of a branch deployment: its schema, volumes in it and folder of tables are its own.

        Args:
            branch: Its name; letters, digits and underscores.
        """
        schema = f"{self.db_schema}_{branch}"

        def own(path: str) -> str:
            here = f"/Volumes/{self.catalog}/"
            return path.replace(f"{here}{self.db_schema}/", f"{here}{schema}/")

        root = None if self.table_root is None else f"{self.table_root.rstrip('/')}/{branch}"
        return self.model_copy(update={"db_schema": schema, "staging_path": own(self.staging_path), "table_root": root})

    def three_level(self, name: str) -> str:
        """Return the Unity Catalog name of a table or model."""
        return f"{self.catalog}.{self.db_schema}.{name}"


def load_profile(name_or_path: str | Path, environ: Mapping[str, str]) -> DatabricksProfile:
    """Read a profile and put the overrides on top.

    Args:
        name_or_path: `dev`, `staging` or `prod`, or the path of a YAML file.
        environ: Variables; those that do not start with `MLOPS_DATABRICKS_` are ignored, empty ones count as not set.

    Raises:
        SettingsError: There is no such profile; a field is missing, misspelt or out of range; it contains credentials.
    """
    fields = [item.alias or field for field, item in DatabricksProfile.model_fields.items()]
    where, document = read_document(name_or_path, environ, fields)
    try:
        return DatabricksProfile.model_validate(document)
    except ValidationError as error:
        # Without the cause: pydantic's text repeats the values.
        raise refused_document(error, where) from None


def cloud_of(host: str) -> Cloud:
    """Return the cloud of a workspace, from its address."""
    name = urlsplit(host).hostname or ""
    if name.endswith((".azuredatabricks.net", ".databricks.azure.us", ".databricks.azure.cn")):
        return "azure"
    return "gcp" if name.endswith(".gcp.databricks.com") else "aws"
