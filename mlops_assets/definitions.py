"""Building `Definitions` from settings.

What belongs here: choosing resources from settings, and listing the content of the code location. What does not: logic
about data or models, reading the environment (`settings`), and imports of pyspark, xgboost, hyperopt or mlflow: loading
the code location must stay as fast as Dagster itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from mlops_assets.assets.as_of_backtest import as_of_backtest
from mlops_assets.assets.daily_arrivals import daily_arrivals
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, raw_transactions
from mlops_assets.assets.registered_model import registered_model
from mlops_assets.assets.reporting import column_schema, label_schema, technical_schema
from mlops_assets.assets.shell import with_code_references
from mlops_assets.assets.splits import splits
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS, transaction_labels
from mlops_assets.assets.tuned_model import tuned_model
from mlops_assets.assets.upkeep import table_upkeep
from mlops_assets.automation.alerts import failure_sensor
from mlops_assets.automation.calendar import freshness, schedules_of
from mlops_assets.automation.conditions import conditions, follow_sensors
from mlops_assets.automation.doctor import doctor_job
from mlops_assets.automation.jobs import JOBS, LOAD_DATA, MERGE_LABELS, UPKEEP, backfill_arrivals, merge_labels
from mlops_assets.automation.sensors import arrival_sensors, label_sensors
from mlops_assets.automation.triggers import TrainingPace
from mlops_assets.data.columns import QUARANTINE_COLUMNS, raw_columns, technical_columns
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.labels.labels import require_labels
from mlops_assets.data.sources.arrivals import Arrivals
from mlops_assets.databricks.launch.reaper import reaper_sensor
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.tables import mounted
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.placement import check_placement
from mlops_assets.resources.sources import SOURCES, LabelFiles
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.profile import DatabricksProfile

ASSETS = (raw_transactions, splits, tuned_model, registered_model, table_upkeep, as_of_backtest)


def assets_of(settings: Settings) -> tuple[dg.AssetsDefinition, ...]:
    """Return the assets for these settings."""
    late_labels = () if settings.labels is None else (transaction_labels,)
    arrivals = (daily_arrivals,) if _arrivals(settings) is Arrivals.FILES else ()
    return (*late_labels, *ASSETS, *arrivals)


def build_resources(settings: Settings) -> dict[str, Any]:
    """Return the resources for the settings; no resource connects to anything before it is used.

    Raises:
        ContractError: The contract is invalid, or it has no labels section although the settings name labels.
        SettingsError: The Databricks profile is invalid.
    """
    chosen = _on_databricks(settings) if settings.target == "databricks" else _embedded(settings)
    contract = load_contract(settings.contract)
    if settings.labels is not None:
        require_labels(contract)
        chosen["labels"] = LabelFiles(location=settings.labels)
    return {
        "source": SOURCES[settings.source_kind].at(settings.source_place, settings.home, contract.key is not None),
        "contract": ContractResource(yaml_text=contract.to_yaml()),
        **chosen,
    }


def _embedded_spark(settings: Settings) -> SparkResource:
    return SparkResource(
        home=str(settings.home),
        master=settings.spark_master,
        driver_memory=settings.driver_memory,
        java_home=settings.java_home,
    )


def _embedded(settings: Settings) -> dict[str, Any]:
    return {
        "lakehouse": LakehouseResource(
            spark=_embedded_spark(settings),
            database=settings.database_name,
            root=str(settings.home / "lakehouse" / settings.database_name),
            locks=str(settings.home / "locks"),
        ),
        "tracking": Tracking(
            experiment_name=settings.experiment,
            mlflow_tracking_uri=settings.mlflow_uri,
            artifact_root=None if settings.mlflow_artifacts is None else str(settings.mlflow_artifacts),
            registered_model=settings.registered_model_name,
            dagster_url=settings.dagster_url,
        ),
        "loader_cluster": StepLauncherResource(cost_class="loader", active=False),
        "trials_cluster": StepLauncherResource(cost_class="trials", active=False),
    }


def _on_databricks(settings: Settings) -> dict[str, Any]:
    profile = settings.profile()
    in_catalog = profile.tables == "catalog"
    folder = mounted(profile.staging_path if profile.table_root is None else profile.table_root)
    in_unity = profile.registry_uri.startswith("databricks-uc")
    model = settings.registered_model_name
    # On Databricks an experiment is a path in the workspace.
    experiment = settings.experiment
    if profile.tracking_uri.startswith("databricks") and not experiment.startswith("/"):
        experiment = f"/Shared/{experiment}"
    return {
        "lakehouse": LakehouseResource(
            # On the launching side, only assets that are placed there use it.
            spark=SparkResource(home=str(settings.home), on_cluster=True)
            if settings.on_cluster
            else _embedded_spark(settings),
            database=profile.db_schema if in_catalog else settings.database_name,
            catalog=profile.catalog if in_catalog else "",
            root=f"{folder}/{settings.database_name}",
        ),
        "tracking": Tracking(
            experiment_name=experiment,
            mlflow_tracking_uri=profile.tracking_uri,
            mlflow_registry_uri=profile.registry_uri,
            registered_model=profile.three_level(model) if in_unity else model,
            dagster_url=settings.dagster_url,
        ),
        "loader_cluster": _launcher(settings, profile, "loader"),
        "trials_cluster": _launcher(settings, profile, "trials"),
    }


def _launcher(
    settings: Settings, profile: DatabricksProfile, cost_class: Literal["loader", "trials"]
) -> StepLauncherResource:
    if settings.on_cluster:  # the step already runs there: no launcher, and no credentials
        return StepLauncherResource(cost_class=cost_class, active=False)
    credentials: dict[str, Any] = {
        name: dg.EnvVar(variable) for name, variable in settings.databricks_credentials().items()
    }
    return StepLauncherResource(
        cost_class=cost_class,
        # Dagster's config accepts no null in a mapping; omitted values become null again when the profile is parsed.
        profile=profile.model_dump(mode="json", by_alias=True, exclude_none=True),
        env=settings.for_cluster(),
        placement=check_placement(
            assets_of(settings), profile.placement, where=f"profile {settings.databricks_profile}, placement"
        ),
        **credentials,
    )


def _sensors(settings: Settings, contract: Contract) -> list[dg.SensorDefinition]:
    if settings.on_cluster:
        return []
    status = dg.DefaultSensorStatus.RUNNING if settings.automation == "on" else dg.DefaultSensorStatus.STOPPED
    place, has_key = settings.source_place, contract.key is not None
    return [
        *follow_sensors(status),
        failure_sensor(settings.alert_webhook, settings.dagster_url, status=status),
        *arrival_sensors(_arrivals(settings), place, LOAD_DATA, has_key=has_key, status=status),
        *(label_sensors(settings.labels, MERGE_LABELS, status=status) if settings.labels is not None else []),
        *([_reaper(settings)] if settings.target == "databricks" else []),
    ]


def _schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    if settings.on_cluster:
        return []
    status = dg.DefaultScheduleStatus.RUNNING if settings.automation == "on" else dg.DefaultScheduleStatus.STOPPED
    return schedules_of(_arrivals(settings), load=LOAD_DATA, upkeep=UPKEEP, status=status)


def _reaper(settings: Settings) -> dg.SensorDefinition:
    profile = settings.profile()

    def connect() -> tuple[Api, Staging]:
        # Read the login at each tick, so that a missing one is an error of the tick.
        login: dict[str, Any] = {**settings.databricks_login()}
        document = profile.model_dump(mode="json", by_alias=True)
        return StepLauncherResource(cost_class="loader", profile=document, **login).connect()

    return reaper_sensor(connect, keep_staging_on_failure=profile.keep_staging_on_failure)


def _arrivals(settings: Settings) -> Arrivals:
    return SOURCES[settings.source_kind].arrivals(settings.source_place)


def build_defs(settings: Settings, **overrides: Any) -> dg.Definitions:
    """Return the code location.

    Args:
        settings: The settings of the installation.
        overrides: Resources by name that replace those made from the settings (tests pass their own).
    """
    contract = load_contract(settings.contract)
    schema = column_schema(contract, technical_columns(contract))
    schemas = {
        RAW: column_schema(contract, raw_columns(contract)),
        **dict.fromkeys(SET_TABLES.values(), schema),
        QUARANTINED: technical_schema(QUARANTINE_COLUMNS),
    }
    resources = {**build_resources(settings), **overrides}
    late = settings.labels is not None
    if late:
        schemas[TRANSACTION_LABELS] = label_schema(contract)

    pace = TrainingPace(new_rows=settings.retrain_rows, days=settings.retrain_days)
    follows, ages = conditions(pace), freshness(pace)

    def bound(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        metadata = {"dagster/column_schema": schemas[name]} if name in schemas else {}
        described = spec.merge_attributes(metadata=metadata)
        if name == RAW and not late:
            described = described.replace_attributes(deps=[])
        return described.replace_attributes(automation_condition=follows.get(name), freshness_policy=ages.get(name))

    assets = dg.map_asset_specs(bound, assets_of(settings))
    return dg.Definitions(
        assets=[with_code_references(asset) for asset in assets],
        jobs=[
            *JOBS,
            *([backfill_arrivals] if _arrivals(settings) is Arrivals.FILES else []),
            *([merge_labels] if late else []),
            doctor_job(settings, build_defs),
        ],
        sensors=_sensors(settings, contract),
        schedules=_schedules(settings),
        resources=resources,
        # One process per run: four steps in four processes would start four JVMs for a chain without parallel steps.
        executor=dg.in_process_executor,
    )


defs = build_defs(Settings.from_environment())
