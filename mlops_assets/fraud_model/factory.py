"""From a spec to everything that one model needs in Dagster: assets, checks, jobs, sensors, schedules, conditions.

What belongs here: which definitions a model has, and what is bound to its assets. What does not: the definitions
(assets, automation), what models share (`shared`), reading the environment (`deployment`), and imports of pyspark,
xgboost, hyperopt or mlflow: loading the code location must stay as fast as Dagster itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

import mlops_assets
from mlops_assets.assets.as_of_backtest import build_as_of_backtest
from mlops_assets.assets.batch_scores import build_batch_scores
from mlops_assets.assets.daily_arrivals import build_daily_arrivals
from mlops_assets.assets.inference_log import build_inference_log
from mlops_assets.assets.label_sources import LabelConfig, labels_of
from mlops_assets.assets.origins import build_origins
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, build_raw_transactions
from mlops_assets.assets.registered_model import build_registered_model
from mlops_assets.assets.reporting import column_schema, label_schema, technical_schema
from mlops_assets.assets.run_config import close_form
from mlops_assets.assets.shell import code_reference
from mlops_assets.assets.sources import SourceConfig, source_of
from mlops_assets.assets.splits import TABLES, build_splits
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS, build_transaction_labels
from mlops_assets.assets.tuned_model import build_tuned_model
from mlops_assets.assets.upkeep import build_table_upkeep
from mlops_assets.automation.calendar import freshness, schedules_of
from mlops_assets.automation.champion import reconcile_sensor, rollback_job
from mlops_assets.automation.conditions import conditions, follow_sensors
from mlops_assets.automation.jobs import jobs_of
from mlops_assets.automation.predictions import predictions_sensor
from mlops_assets.automation.retired import Retired
from mlops_assets.automation.sensors import arrival_sensors, label_sensors
from mlops_assets.data.columns import QUARANTINE_COLUMNS, raw_columns, technical_columns
from mlops_assets.data.sources.arrivals import Arrivals
from mlops_assets.deployment import Deployment
from mlops_assets.fraud_model.retired import retired
from mlops_assets.fraud_model.shared import table_name
from mlops_assets.lineage import MODEL_DOCUMENT_PREFIX
from mlops_assets.resources.landing import opener_of
from mlops_assets.resources.placement import PLACE_TAG, check_placement
from mlops_assets.spec import INFERENCE_LOG, FraudModelSpec, models_in


def build_fraud_model(
    spec: FraudModelSpec, deployment: Deployment, *, source: SourceConfig | None = None
) -> dg.Definitions:
    """Return a model's definitions; merge them with those of `deployment.build_shared`, which has their resources.

    Args:
        spec: The model.
        deployment: Where it runs; sensors, schedules and conditions exist where runs may start by themselves.
        source: Its source, if that is of a kind that a spec can't name.

    Raises:
        SettingsError: The spec's defaults or its placement, or the placement of the Databricks profile, are invalid.
    """
    source = source or source_of(spec, deployment.home)
    days = source.arrivals is Arrivals.FILES
    labels = labels_of(spec, source)
    serving = deployment.home / "serving"
    assets = [
        *([] if labels is None else [build_transaction_labels(spec, labels)]),
        build_raw_transactions(spec, source),
        build_splits(spec),
        build_tuned_model(spec),
        build_registered_model(spec),
        build_table_upkeep(spec),
        build_as_of_backtest(spec),
        *([build_daily_arrivals(spec, source)] if days else []),
        *([] if spec.batch_scores is None else [build_batch_scores(spec)]),
        *([] if spec.inference_log is None else [build_inference_log(spec, **_log(spec, deployment), bundles=serving)]),
    ]
    for asset in assets:
        close_form(asset.op)
    here, is_retired = deployment.starts_runs, retired(spec, deployment)
    bound = _bound(assets, spec, _places(assets, spec, deployment), deployment, is_retired)
    return dg.Definitions(
        assets=_linked([*build_origins(spec, source, labels), *bound], deployment),
        jobs=[*jobs_of(spec, days=days), rollback_job(spec)],
        sensors=_sensors(spec, deployment, source, labels, is_retired) if here else [],
        schedules=_schedules(spec, deployment, source, is_retired) if here else [],
        metadata={f"{MODEL_DOCUMENT_PREFIX}{spec.title}": spec.model_dump(mode="json")},
    )


def models_of(definitions: dg.Definitions) -> tuple[FraudModelSpec, ...]:
    """Return the models of a code location, by their titles."""
    return models_in(definitions.metadata)


def _bound(
    assets: list[dg.AssetsDefinition],
    spec: FraudModelSpec,
    places: Mapping[str, str],
    deployment: Deployment,
    is_retired: Retired,
) -> list[dg.AssetsDefinition]:
    """Return the assets with names and columns of their tables, conditions, ages that they may reach, and places."""
    contract = spec.contract
    tables = {
        RAW: column_schema(contract, raw_columns(contract)),
        **dict.fromkeys(TABLES.values(), column_schema(contract, technical_columns(contract))),
        QUARANTINED: technical_schema(QUARANTINE_COLUMNS),
    }
    if spec.labels is not None:
        tables[TRANSACTION_LABELS] = label_schema(contract)
    # Dagster has a sensor of its own for conditions without one, which somebody could switch on.
    follows, ages = {} if deployment.is_branch_deployment else conditions(spec, is_retired), freshness(spec)

    def bound(found: dg.AssetSpec, reference: Mapping[str, Any]) -> dg.AssetSpec:
        name = found.key.path[-1]
        schema = {}
        if name in tables:
            schema = {"dagster/column_schema": tables[name], "dagster/table_name": table_name(spec, deployment, name)}
        tags = {PLACE_TAG: places[name]} if name in places else {}
        return found.merge_attributes(metadata={**schema, **reference}, tags=tags).replace_attributes(
            automation_condition=follows.get(found.key), freshness_policy=ages.get(found.key)
        )

    return [asset.map_asset_specs(partial(bound, reference=code_reference(asset))) for asset in assets]


def _linked(assets: list[dg.AssetsDefinition], deployment: Deployment) -> Sequence[Any]:
    """Return the assets with links to their code in the repository, where the deployment says which commit it is."""
    if deployment.code_at is None:
        return assets
    repository, commit = deployment.code_at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # at each load, and users can't fix it
        package = Path(mlops_assets.__file__).parent
        mapping = dg.AnchorBasedFilePathMapping(local_file_anchor=package, file_anchor_path_in_repository=package.name)
        return dg.link_code_references_to_git(assets, repository, commit, mapping)


def _places(assets: list[dg.AssetsDefinition], spec: FraudModelSpec, deployment: Deployment) -> dict[str, str]:
    """Return the places that the model gives its assets, otherwise the Databricks profile."""
    places = check_placement(assets, spec.placement, where=f"placement of model {spec.title}")
    if deployment.target == "databricks":
        where = f"profile {deployment.databricks_profile}, placement"
        return check_placement(assets, deployment.profile().placement, where=where) | places
    return places


def _sensors(
    spec: FraudModelSpec,
    deployment: Deployment,
    source: SourceConfig,
    labels: LabelConfig | None,
    is_retired: Retired,
) -> list[dg.SensorDefinition]:
    on = deployment.automation == "on"
    status = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
    how: Any = {"status": status, "retired": is_retired, "opened": opener_of(deployment)}
    return [
        *follow_sensors(spec, status),
        reconcile_sensor(spec, status=status, moves_back=spec.restore_champion, retired=is_retired),
        *arrival_sensors(spec, source.arrivals, **how),
        *([] if labels is None else label_sensors(spec, labels.arrivals, **how)),
        *([] if spec.inference_log is None else [_predictions(spec, deployment, status, is_retired)]),
    ]


def _log(spec: FraudModelSpec, deployment: Deployment) -> dict[str, Any]:
    """Return where the log of predictions lies, and what reads the broker's login once it is needed."""
    address = spec.inference_log or ""
    beside = str(deployment.lakehouse_root / spec.database / INFERENCE_LOG)
    table = address.removeprefix("delta:") if address.startswith("delta:") else beside
    return {"table": table, "login": lambda: deployment.serving().kafka_login}


def _predictions(
    spec: FraudModelSpec, deployment: Deployment, status: dg.DefaultSensorStatus, is_retired: Retired
) -> dg.SensorDefinition:
    return predictions_sensor(spec, **_log(spec, deployment), status=status, retired=is_retired)


def _schedules(
    spec: FraudModelSpec, deployment: Deployment, source: SourceConfig, is_retired: Retired
) -> list[dg.ScheduleDefinition]:
    on = deployment.automation == "on"
    status = dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED
    return schedules_of(spec, source.arrivals, status=status, retired=is_retired)
