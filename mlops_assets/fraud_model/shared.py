"""What all models of a code location share: connections, the doctor, alerts, the reaper of clusters.

What belongs here: choosing resources and executor from the deployment's settings. What does not: anything of one model
(`factory`), reading the environment (`deployment`), and imports of pyspark, xgboost, hyperopt or mlflow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from mlops_assets.automation.alerts import failure_sensor
from mlops_assets.automation.doctor import doctor_job
from mlops_assets.automation.verifying import verify_job, verify_schedule
from mlops_assets.databricks.launch.reaper import reaper_sensor
from mlops_assets.deployment import Deployment
from mlops_assets.lakehouse.tables import mounted
from mlops_assets.resources.lakehouse import LakehouseResource, schema_of
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.profile import DatabricksProfile
    from mlops_assets.spec import FraudModelSpec

# Config of the executor of parallel launches: launch from one process.
IN_PROCESS = "in_process"


def build_shared(
    deployment: Deployment, load: Callable[[], object], *, resources: dict[str, Any] | None = None
) -> dg.Definitions:
    """Return the definitions that a code location needs beside those of its models.

    Args:
        deployment: Where everything is.
        load: Makes the code location; what it refuses is a finding of the doctor.
        resources: The resources, if they are not those of `build_resources`.
    """
    status = dg.DefaultSensorStatus.RUNNING if deployment.automation == "on" else dg.DefaultSensorStatus.STOPPED
    clock = dg.DefaultScheduleStatus.RUNNING if deployment.automation == "on" else dg.DefaultScheduleStatus.STOPPED
    alerts = failure_sensor(deployment.alert_webhook, deployment.dagster_url, status=status)
    reapers = [_reaper(deployment)] if deployment.target == "databricks" else []
    bound = build_resources(deployment) if resources is None else resources
    return dg.Definitions(
        jobs=[doctor_job(deployment, load), verify_job(deployment, load, bound)],
        schedules=[verify_schedule(status=clock)] if deployment.starts_runs else [],
        sensors=[alerts, *reapers] if deployment.starts_runs else [],
        resources=bound,
        executor=build_executor(deployment),
    )


def build_executor(deployment: Deployment) -> dg.ExecutorDefinition:
    """Return how the steps of one run are executed; the same object for the same answer, as Dagster demands.

    Locally one after another in the run's process: two steps in two processes would start two JVMs. With Databricks
    each step in a process of its own, which only waits for its launch, so that steps that don't need each other (two
    models in one run) are launched together. On a cluster it executes nothing, but the run's config is read there too.

    Raises:
        SettingsError: The Databricks profile is invalid.
    """
    if deployment.target == "databricks":
        return _parallel_launches(deployment.profile().max_concurrent_launches)
    return dg.in_process_executor


@cache
def _parallel_launches(at_once: int) -> dg.ExecutorDefinition:
    def chosen(config: dict[str, Any]) -> dict[str, Any]:
        return {"in_process": {}} if config["in_process"] else {"multiprocess": {"max_concurrent": at_once}}

    one_process = dg.Field(bool, default_value=False, description="Launch one step after another, from one process.")
    executor: dg.ExecutorDefinition = dg.multi_or_in_process_executor.configured(
        chosen, config_schema={IN_PROCESS: one_process}, name="parallel_launches"
    )
    return executor


def build_resources(deployment: Deployment) -> dict[str, Any]:
    """Return the resources of a deployment; no resource connects to anything before it is used.

    Raises:
        SettingsError: The Databricks profile is invalid.
    """
    return _on_databricks(deployment) if deployment.target == "databricks" else _embedded(deployment)


def table_name(spec: FraudModelSpec, deployment: Deployment, name: str) -> str:
    """Return the name of a model's table for the catalog: database and table, or three levels."""
    if deployment.target == "databricks":
        profile = deployment.profile()
        if profile.tables == "catalog":
            return f"{profile.catalog}.{schema_of(profile.db_schema, spec)}.{name}"
    return f"{spec.database}.{name}"


def _prefix(deployment: Deployment) -> str:
    return f"{deployment.branch}_" if deployment.branch else ""


def _embedded_spark(deployment: Deployment) -> SparkResource:
    return SparkResource(
        home=str(deployment.home),
        master=deployment.spark_master,
        driver_memory=deployment.driver_memory,
        java_home=deployment.java_home,
    )


def _embedded(deployment: Deployment) -> dict[str, Any]:
    return {
        "lakehouse": LakehouseResource(
            spark=_embedded_spark(deployment),
            root=str(deployment.lakehouse_root),
            locks=str(deployment.home / "locks"),
        ),
        "tracking": Tracking(
            mlflow_tracking_uri=deployment.mlflow_uri,
            artifact_root=None if deployment.mlflow_artifacts is None else str(deployment.mlflow_artifacts),
            experiment_folder=_prefix(deployment),
            registry_prefix=_prefix(deployment),
            dagster_url=deployment.dagster_url,
            ui=deployment.mlflow_pages,
        ),
        "loader_cluster": StepLauncherResource(cost_class="loader", active=False),
        "trials_cluster": StepLauncherResource(cost_class="trials", active=False),
    }


def _on_databricks(deployment: Deployment) -> dict[str, Any]:
    profile = deployment.profile()
    in_catalog = profile.tables == "catalog"
    in_unity = profile.registry_uri.startswith("databricks-uc")
    return {
        "lakehouse": LakehouseResource(
            # On the launching side, only assets that are placed there use it.
            spark=SparkResource(home=str(deployment.home), on_cluster=True)
            if deployment.on_cluster
            else _embedded_spark(deployment),
            root=mounted(profile.staging_path if profile.table_root is None else profile.table_root),
            catalog=profile.catalog if in_catalog else "",
            schema_name=profile.db_schema if in_catalog else "",
            explorer=f"{profile.host.rstrip('/')}/explore/data" if in_catalog else "",
            workspace=profile.host if in_catalog else "",
            warehouse_id=profile.warehouse_id or "",
        ),
        "tracking": Tracking(
            mlflow_tracking_uri=profile.tracking_uri,
            mlflow_registry_uri=profile.registry_uri,
            # On Databricks an experiment is a path in the workspace.
            experiment_folder=("/Shared/" if profile.tracking_uri.startswith("databricks") else "")
            + _prefix(deployment),
            # In Unity Catalog the schema is the branch's own.
            registry_prefix=profile.three_level("") if in_unity else _prefix(deployment),
            dagster_url=deployment.dagster_url,
            runtime_version=deployment.runtime_version or "",
            ui=deployment.mlflow_pages,
        ),
        "loader_cluster": _launcher(deployment, profile, "loader"),
        "trials_cluster": _launcher(deployment, profile, "trials"),
    }


def _launcher(
    deployment: Deployment, profile: DatabricksProfile, cost_class: Literal["loader", "trials"]
) -> StepLauncherResource:
    if deployment.on_cluster:  # the step already runs there: no launcher, and no credentials
        return StepLauncherResource(cost_class=cost_class, active=False)
    credentials: dict[str, Any] = {
        name: dg.EnvVar(variable) for name, variable in deployment.databricks_credentials().items()
    }
    return StepLauncherResource(
        cost_class=cost_class,
        # Dagster's config accepts no null in a mapping; omitted values become null again when the profile is parsed.
        profile=profile.model_dump(mode="json", by_alias=True, exclude_none=True),
        env=deployment.for_cluster(),
        unified_login=not credentials,
        **credentials,
    )


def _reaper(deployment: Deployment) -> dg.SensorDefinition:
    profile = deployment.profile()

    def connect() -> tuple[Api, Staging]:
        # Read the login at each tick, so that a missing one is an error of the tick.
        login: dict[str, Any] = {**deployment.databricks_login()}
        document = profile.model_dump(mode="json", by_alias=True)
        launcher = StepLauncherResource(cost_class="loader", profile=document, unified_login=not login, **login)
        return launcher.connect()

    return reaper_sensor(connect, keep_staging_on_failure=profile.keep_staging_on_failure)
