"""A workspace and how to use it: one YAML file per environment, with overrides from environment variables.

What belongs here: addresses, names, placements and clusters of one environment, validated. What does not: credentials
(they stay in the environment of the launching process; `credentials` keeps them out), reading the environment
(`settings`), calling the workspace.

An override is `MLOPS_DATABRICKS_<FIELD>`, two underscores going one level down: `MLOPS_DATABRICKS_HOST`,
`MLOPS_DATABRICKS_CLUSTERS__TRIALS__WORKERS`. Its value is a string; `null` unsets a field, and a value that starts
with `{` or `[` is parsed as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlops_assets.databricks.cluster import Cloud, ClusterSpec, CostClass
from mlops_assets.databricks.credentials import SecretRef, refuse_credentials
from mlops_assets.errors import SettingsError

SHIPPED: Final = ("dev", "staging", "prod")
PREFIX: Final = "MLOPS_DATABRICKS_"
Placement = Literal["loader", "trials", "local"]

# Names the profile; not a field of it.
_SELECTOR = f"{PREFIX}PROFILE"
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
        table_root: Folder of the tables with `tables: path`.
        secrets: Environment variables of a step on the cluster, each with its secret.
        tracking_uri: MLflow tracking on the cluster; `databricks` uses the cluster's own identity.
        registry_uri: MLflow registry on the cluster.
        launcher: `step` launches Dagster steps, `pipes` uses Dagster Pipes.
        clusters: A cluster for each cost class.
        placement: Assets that run elsewhere than their definition says: on another cost class, or `local`, where
            Dagster runs. Each launch starts a cluster, which may not be worth it for a small asset; with `local`, that
            machine must be able to reach the asset's tables. Assets of one step (the three sets) share one place.
        keep_staging_on_failure: Whether the staged files of a failed run are kept.
        poll_seconds: Longest pause between two polls of a run, and longest time that its reports wait on the cluster;
            at first and after a change polls are more frequent.
        max_concurrent_launches: Limit of the Dagster pool of launches.
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
        if self.table_root is not None and not (_VOLUME.fullmatch(self.table_root) or _DBFS.fullmatch(self.table_root)):
            raise ValueError(
                f"table_root {self.table_root!r}: use dbfs:/... or /Volumes/<catalog>/<schema>/<volume>/..."
            )
        return self

    def cluster(self, cost_class: CostClass) -> ClusterSpec:
        """Return the cluster of a cost class."""
        return self.clusters.loader if cost_class == "loader" else self.clusters.trials

    def place(self, asset: str, default: Placement) -> Placement:
        """Return where an asset runs; `default` is the place in its definition."""
        return self.placement.get(asset, default)

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
    where, text = _text(name_or_path)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError("not valid YAML", where=where, fix=str(error).replace("\n", " ")) from None
    if not isinstance(document, dict):
        raise SettingsError("not a mapping of fields", where=where, fix="see mlops_assets/databricks/profiles/dev.yaml")
    refuse_credentials(document, where)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name != _SELECTOR and value:
            _override(document, name, value)
    try:
        return DatabricksProfile.model_validate(document)
    except ValidationError as error:
        # Without the cause: pydantic's text repeats the values, among which a secret may be.
        raise SettingsError("; ".join(_problems(error)), where=where, fix=_fix_of(error)) from None


def cloud_of(host: str) -> Cloud:
    """Return the cloud of a workspace, from its address."""
    name = urlsplit(host).hostname or ""
    if name.endswith((".azuredatabricks.net", ".databricks.azure.us", ".databricks.azure.cn")):
        return "azure"
    return "gcp" if name.endswith(".gcp.databricks.com") else "aws"


def _text(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name.startswith("{"):  # the document itself, which a step on a cluster receives: JSON is YAML
        return "profile from the launching side", name
    if name in SHIPPED:
        return f"profile {name}", (resources.files("mlops_assets.databricks") / "profiles" / f"{name}.yaml").read_text(
            "utf-8"
        )
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise SettingsError(
            f"no profile {name!r}", where="profile", fix=f"use one of {', '.join(SHIPPED)}, or the path of a YAML file"
        )
    try:
        return f"profile {path}", path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(
            f"can't be read: {reason}", where=f"profile {path}", fix=f"name one of {', '.join(SHIPPED)}, or a file"
        ) from error


def _override(document: dict[str, Any], name: str, text: str) -> None:
    fields = {item.alias or field for field, item in DatabricksProfile.model_fields.items()}
    parts = name.removeprefix(PREFIX).split("__")
    # The keys of `secrets` are names of variables, which keep their case.
    path = [parts[0].lower(), *(parts[1:] if parts[0] == "SECRETS" else [part.lower() for part in parts[1:]])]
    refuse_credentials({path[-1]: text}, name, ".".join(path[:-1]))
    if path[0] not in fields:
        guess = get_close_matches(path[0], fields, n=1, cutoff=0.6)
        fix = f"did you mean {PREFIX}{guess[0].upper()}?" if guess else f"the fields are {', '.join(sorted(fields))}"
        raise SettingsError(f"{path[0]} is not a field of a profile", where=name, fix=fix)
    value: Any = None if text == "null" else text
    if text.startswith(("{", "[")):
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError("not valid YAML", where=name, fix=str(error).replace("\n", " ")) from None
        refuse_credentials(value, name)
    target = document
    for part in path[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, Mapping) else {}
        target = target[part]
    target[path[-1]] = value


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        problems.append(f"{place}: {message}" if place else message)
    return problems


def _fix_of(error: ValidationError) -> str:
    missing = [str(item["loc"][0]) for item in error.errors() if item["type"] == "missing" and len(item["loc"]) == 1]
    if missing:
        return f"set {', '.join(f'{PREFIX}{name.upper()}' for name in missing)}, or write it into the profile"
    return f"fix the profile, or the {PREFIX}* variable that sets it"
