"""The compute that steps run on, clusters or serverless: a typed model that renders the JSON of the Jobs API.

What belongs here: sizes, machines, Spark settings and tags, and their JSON. What does not: rules that concern more than
one field (`cluster_rules`), who may see and manage it (`permissions`), which settings must be secrets (`credentials`),
which asset runs where (`profile`), what is installed (`libraries`), submitting (`launch`).

Rules and fields: "Jobs API 2.2" (`runs/submit`, `new_cluster`) and "Create a single-node cluster with the API" of the
Databricks reference.
dagster-databricks (0.29) has a cluster schema of its own, which supports neither service principals in permissions nor
an instance pool together with a driver pool nor, on Azure, spot with fallback. What this module makes goes to the Jobs
API without that schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlops_assets.databricks.clouds import Cloud, attributes_of
from mlops_assets.databricks.cluster_rules import (
    LONGEST_TAG,
    MOST_TAGS,
    check_compute,
    check_existing,
    check_machines,
    check_reuse,
    check_serverless,
    check_size,
    check_tags,
    check_trials,
)
from mlops_assets.databricks.credentials import check_setting, reference_of
from mlops_assets.databricks.destinations import check_init_script, check_log_destination, init_script, log_conf
from mlops_assets.databricks.permissions import Permissions
from mlops_assets.databricks.runtimes import RUNTIMES, SERVERLESS, Runtime
from mlops_assets.errors import SettingsError

CostClass = Literal["loader", "trials"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BREAKS_EXPORT = frozenset("'\"`\n\r")
_TASK_CPUS = "spark.task.cpus"


class Autoscale(BaseModel):
    """Bounds for the number of workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_workers: int = Field(ge=1)
    max_workers: int

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.max_workers <= self.min_workers:
            raise ValueError("max_workers must be above min_workers")
        return self


class ClusterSpec(BaseModel):
    """One kind of cluster, or serverless compute instead.

    Attributes:
        compute: `classic` starts a cluster; `serverless` (loader only) uses the workspace's serverless compute, which
            has no machines, Spark settings, environment variables, tags or access lists of a cluster to set.
        runtime: Key of the Databricks Runtime, see `runtimes`; with `compute: serverless` of its environment.
        spark_version: Another build of that runtime, by its name in the workspace (photon, gpu, another minor).
        cost_class: `loader` reads and writes tables, `trials` runs SparkTrials.
        workers: Number of workers; 0 makes a single-node cluster (loader only).
        autoscale: Bounds instead of a number (loader only).
        node_type: Machine type of the workers.
        driver_node_type: Machine type of the driver; defaults to that of the workers.
        instance_pool_id: Pool for the workers, instead of a machine type.
        driver_instance_pool_id: Pool for the driver; defaults to that of the workers.
        existing_cluster_id: All-purpose cluster to run on instead of a new one. It has its own size and settings.
        autotermination_minutes: Only with an existing cluster: `doctor` checks that it terminates after at most this
            many idle minutes. A job's cluster ends with its run, which `timeout_minutes` bounds.
        task_cpus: Cores of a Spark task (`spark.task.cpus`). For trials it is the number of cores of a worker: one
            trial at a time on each, with all its cores.
        spot: Workers on spot capacity, falling back to on-demand; the driver stays on-demand.
        cloud: The cloud provider, needed for spot; `profile` derives it from the workspace's address.
        policy_id: Cluster policy.
        apply_policy_default_values: Whether the policy's defaults fill in what is not set here.
        runtime_engine: `PHOTON` or `STANDARD`; by default that of the runtime's build.
        instance_profile_arn: On AWS, the instance profile of the machines.
        init_scripts: Scripts that each machine runs when it starts: workspace files, or files of a volume.
        log_destination: Folder, in a volume or DBFS, to which the logs of the machines are delivered.
        spark_conf: More Spark settings.
        spark_env_vars: Environment of the cluster's processes. The platform puts each into a shell script, as
            `export NAME='value'` without escaping, so quotes and line breaks are refused. A value that looks like a
            secret must be a reference, `{{secrets/<scope>/<key>}}`.
        tags: Tags of the machines, such as the cost centre.
        timeout_minutes: Time limit of the run, for all steps that share its cluster.
        reuse_minutes: How long the cluster waits after a step for the next one of the same Dagster run; 0 ends it with
            the step.
        permissions: Access lists.
    """

    # In YAML `18` and `200` are numbers, where the platform expects strings.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    compute: Literal["classic", "serverless"] = "classic"
    runtime: str
    spark_version: str | None = None
    cost_class: CostClass
    workers: int | None = Field(default=None, ge=0)
    autoscale: Autoscale | None = None
    node_type: str | None = Field(default=None, min_length=1)
    driver_node_type: str | None = Field(default=None, min_length=1)
    instance_pool_id: str | None = Field(default=None, min_length=1)
    driver_instance_pool_id: str | None = Field(default=None, min_length=1)
    existing_cluster_id: str | None = Field(default=None, min_length=1)
    autotermination_minutes: Annotated[int, Field(ge=10)] | None = None
    task_cpus: Annotated[int, Field(ge=1)] | None = None
    spot: bool = False
    cloud: Cloud | None = None
    policy_id: str | None = Field(default=None, min_length=1)
    apply_policy_default_values: bool = False
    runtime_engine: Literal["PHOTON", "STANDARD"] | None = None
    instance_profile_arn: str | None = Field(default=None, pattern=r"^arn:aws[\w-]*:iam::\d{12}:instance-profile/\S+$")
    init_scripts: tuple[str, ...] = Field(default=(), max_length=10)
    log_destination: str | None = None
    spark_conf: Mapping[str, str] = Field(default_factory=dict)
    spark_env_vars: Mapping[str, str] = Field(default_factory=dict)
    tags: Mapping[str, str] = Field(default_factory=dict)
    timeout_minutes: int = Field(default=120, ge=1)
    reuse_minutes: int = Field(default=0, ge=0)
    permissions: Permissions = Permissions()

    @model_validator(mode="before")
    @classmethod
    def _environment(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("compute") == "serverless":
            return {"runtime": SERVERLESS, **value}
        return value

    @field_validator("runtime")
    @classmethod
    def _supported(cls, key: str) -> str:
        if key not in RUNTIMES:
            raise ValueError(f"not a supported Databricks Runtime (Spark 4.0 or 4.1); use one of {', '.join(RUNTIMES)}")
        return key

    @field_validator("spark_conf", "spark_env_vars", mode="after")
    @classmethod
    def _no_secrets(cls, settings: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in settings.items():
            check_setting(name, value)
        return settings

    @field_validator("init_scripts")
    @classmethod
    def _scripts(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            check_init_script(path)
        return paths

    @field_validator("log_destination")
    @classmethod
    def _logs(cls, path: str | None) -> str | None:
        if path is not None:
            check_log_destination(path)
        return path

    @field_validator("spark_env_vars")
    @classmethod
    def _as_shell_script(cls, variables: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in variables.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is not a valid name of an environment variable")
            if set(value) & _BREAKS_EXPORT:
                raise ValueError(f"{name}: Databricks exports the value unescaped; it can't have quotes or line breaks")
        return variables

    @field_validator("tags")
    @classmethod
    def _tag_sizes(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        check_tags(tags)
        return tags

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.spark_version is not None and not self.databricks_runtime.names(self.spark_version):
            raise ValueError(f"spark_version {self.spark_version} is not a build of runtime {self.runtime}")
        check_compute(self)
        if self.compute == "serverless":
            check_serverless(self)
        elif self.existing_cluster_id is not None:
            check_existing(self)
        else:
            check_size(self)
            check_machines(self)
        if _TASK_CPUS in self.spark_conf:
            raise ValueError(f"set task_cpus instead of {_TASK_CPUS} in spark_conf")
        if self.cost_class == "trials":
            check_trials(self)
        check_reuse(self)
        return self

    @property
    def databricks_runtime(self) -> Runtime:
        """The runtime, which names the image."""
        return RUNTIMES[self.runtime]

    @property
    def starts_cluster(self) -> bool:
        """Whether a launch starts a cluster."""
        return self.compute == "classic" and self.existing_cluster_id is None

    @property
    def api_spark_version(self) -> str:
        """`spark_version` for the Jobs API."""
        return self.spark_version or self.databricks_runtime.spark_version

    @property
    def timeout_seconds(self) -> int:
        """`timeout_seconds` of the run."""
        return self.timeout_minutes * 60

    @property
    def secret_references(self) -> tuple[tuple[str, str], ...]:
        """Scope and key of each secret that the cluster's settings refer to."""
        values = [*self.spark_conf.values(), *self.spark_env_vars.values()]
        return tuple(sorted({reference for value in values if (reference := reference_of(value))}))

    def new_cluster(self, *, tags: Mapping[str, str]) -> dict[str, Any]:
        """Return the `new_cluster` object of the Jobs API.

        Args:
            tags: Tags on top of the cluster's own; values longer than the platform's limit are cut. The tags of a
                launch (asset, Dagster run ...) are added when it is submitted.

        Raises:
            SettingsError: There are too many tags.
            ValueError: The spec starts no cluster.
        """
        if not self.starts_cluster:
            raise ValueError(
                f"cluster {self.existing_cluster_id} exists already" if self.existing_cluster_id else "none"
            )
        single = {"ResourceClass": "SingleNode"} if self.workers == 0 else {}
        custom_tags = {**self.tags, **{name: value[:LONGEST_TAG] for name, value in tags.items()}, **single}
        if len(custom_tags) > MOST_TAGS:
            raise SettingsError(
                f"{len(custom_tags)} tags, counting that of the cost class; the limit is {MOST_TAGS}",
                where=f"clusters.{self.cost_class}.tags",
                fix=f"remove {len(custom_tags) - MOST_TAGS}",
            )
        cluster = {
            "spark_version": self.api_spark_version,
            "data_security_mode": "SINGLE_USER",
            "num_workers": self.workers,
            "autoscale": self.autoscale.model_dump() if self.autoscale else None,
            "node_type_id": self.node_type,
            "driver_node_type_id": self.driver_node_type,
            "instance_pool_id": self.instance_pool_id,
            "driver_instance_pool_id": self.driver_instance_pool_id,
            "policy_id": self.policy_id,
            "apply_policy_default_values": self.apply_policy_default_values or None,
            "runtime_engine": self.runtime_engine,
            "init_scripts": [init_script(path) for path in self.init_scripts] or None,
            "cluster_log_conf": None if self.log_destination is None else log_conf(self.log_destination),
            "spark_conf": self._spark_conf() or None,
            "spark_env_vars": dict(self.spark_env_vars) or None,
            "custom_tags": custom_tags or None,
            **attributes_of(self.cloud, spot=self.spot, instance_profile_arn=self.instance_profile_arn),
        }
        return {name: value for name, value in cluster.items() if value is not None}

    def access_control(self) -> dict[str, list[dict[str, str]]]:
        """Return the access lists: `job` for `access_control_list` of `runs/submit`, `cluster` for the Permissions API.

        Both take users, groups and service principals.
        """
        return {
            "job": [permission.entry(permission.level) for permission in self.permissions.job],
            "cluster": [permission.entry(permission.level) for permission in self.permissions.cluster],
        }

    def _spark_conf(self) -> dict[str, str]:
        # Without these two settings a cluster without workers accepts jobs and never runs them.
        single = {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"}
        cpus = {} if self.task_cpus is None else {_TASK_CPUS: str(self.task_cpus)}
        return {**(single if self.workers == 0 else {}), **self.spark_conf, **cpus}
