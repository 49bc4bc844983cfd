"""The tuned model: a search over validation rows, a refit, and one evaluation on test rows, stored as an MLflow run.

What belongs here: the asset's specification, and how a tuned model is shown. What does not: its configuration
(`tuning_config`), searching, fitting, evaluating and recording (`training/tuning`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.reporting import check_results, check_specs, known, pages_of_run, rounded, thumbnail
from mlops_assets.assets.run_tags import mlflow_tags, tag_run
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuning_config import TunedModelConfig, accepted
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse.pinned_sets import said_of
from mlops_assets.lineage import (
    BEST_POINT,
    EXPLANATION_FOLDER,
    MLFLOW_RUN_ID,
    MODEL_URI,
    PICTURES_FOLDER,
    PRODUCTION_MODEL_URI,
    SET_VERSIONS,
)
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec
from mlops_assets.training.plan import SEARCH_RULES

if TYPE_CHECKING:
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.production_run import ProductionRecord
    from mlops_assets.training.tuning import TuningReport

TUNED_MODEL = "tuned_model"
_CHECKS = {"refit_reproduces_best_trial": "The refitted model is the one that won the search, to the last bit."}


def build_tuned_model(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model."""
    key = key_of(spec, TUNED_MODEL)
    form = with_defaults(TunedModelConfig, spec.search, where=f"search of model {spec.title}")

    @dg.asset(
        key=key,
        group_name=spec.group,
        tags=stage_tag("training"),
        code_version=str(SEARCH_RULES),
        deps=[key_of(spec, table) for table in TABLES.values()],
        kinds={"xgboost", "mlflow", "spark"},
        owners=list(spec.owners),
        description=(
            "XGBoost model, tuned by hyperopt SparkTrials on validation rows, refitted on training rows and evaluated "
            "once on test rows; then fitted again on all of them for production. An MLflow run with a child run per "
            "trial holds all of it."
        ),
        check_specs=check_specs(_CHECKS, key),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="trials_cluster", config=form)
    def tuned_model(
        context: dg.AssetExecutionContext,
        config: TunedModelConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        trials_cluster: StepLauncherResource,
    ) -> Results:
        """Search, refit, evaluate, and record."""
        from mlops_assets.registry.retirement import require_active
        from mlops_assets.training.tuning import tune_model

        plan, evaluation = config.search_plan(), config.evaluation_plan(spec.contract, context.log.info)
        registered = tracking.model(spec.registered_model)  # this and the next two fail before the expensive part
        store = tracking.connect(spec.experiment)
        require_active(store, registered)
        report = tune_model(
            lakehouse.open(spec),
            spec.contract,
            store,
            plan,
            evaluation,
            accepted_leaks=config.accepted_leaks,
            engine=config.engine.value,
            production_refit=config.production_refit,
            name=TUNED_MODEL,
            origin=tracking.origin(context.op_execution_context.run_id),
            extra_tags=tracking.extra_tags,
            log=context.log.info,
            opened=lambda run_id, raw_version: tag_run(context, mlflow_tags(run_id, raw_version)),
        )
        made = report.model
        files = {PICTURES_FOLDER: made.pictures.files, EXPLANATION_FOLDER: made.explanation.pictures}
        pages = pages_of_run(tracking.pages, store.experiment_id, report.run_id, files)
        yield dg.MaterializeResult(
            metadata={**pages, **_metadata(report, plan), **accepted(config)},
            data_version=dg.DataVersion(report.model_sha256),
        )
        yield from check_results([made.reproduction], key)

    return tuned_model


def _production(record: "ProductionRecord | None") -> dict[str, Any]:
    if record is None:
        return {}
    model = record.model
    return {
        PRODUCTION_MODEL_URI: record.model_uri,
        "production_trees": model.trees,
        "production_rows": model.rows,
        "production_threshold": model.threshold.value,
        "rehearsed_average_precision": model.rehearsed_average_precision,
    }


def _metadata(report: "TuningReport", plan: "SearchPlan") -> dict[str, Any]:
    """Return the metadata for the asset's page, and for later steps and conditions."""
    search, model, best = report.search, report.model, report.search.best
    return {
        MLFLOW_RUN_ID: report.run_id,
        MODEL_URI: report.model_uri,
        **_production(report.production),
        "evaluation": dg.MetadataValue.md(model.evaluation.table_markdown()),
        **{name: thumbnail(svg, name) for name, svg in model.pictures.thumbnails.items()},
        "top_features": dg.MetadataValue.md(model.explanation.table_markdown()),
        "engine": report.engine.engine,
        "engine_reason": report.engine.reason,
        BEST_POINT: dg.MetadataValue.json(best.point),
        "best_trial": best.number,
        "trees": best.rounds,
        **known(**{f"validation_{plan.objective}": best.value}),
        **search.counts(),
        "search_seconds": rounded(search.seconds),
        "end_reason": search.end_reason,
        **known(search_notes=_listed(search.notes)),
        "threshold": model.threshold.value,
        **{f"test_{name}": interval.estimate for name, interval in model.evaluation.metrics.items()},
        **said_of(report.sets),
        **{SET_VERSIONS[name]: table.version for name, table in report.sets.items()},
    }


def _listed(notes: Sequence[str]) -> dg.MarkdownMetadataValue | None:
    return dg.MetadataValue.md("\n".join(f"- {note}" for note in notes)) if notes else None
