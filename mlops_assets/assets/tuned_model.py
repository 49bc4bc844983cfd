"""The tuned model: a search over validation rows, a refit, and one evaluation on test rows, stored as an MLflow run.

What belongs here: the asset's specification, and how a tuned model is shown. What does not: its configuration
(`tuning_config`), searching, fitting, evaluating and recording (`training/tuning`).
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.naming import group_of, key_of
from mlops_assets.assets.reporting import check_results, check_specs, picture, rounded
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuning_config import TunedModelConfig, accepted
from mlops_assets.lineage import BEST_POINT, MLFLOW_RUN_ID, MODEL_URI, PRODUCTION_MODEL_URI, SET_VERSIONS
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL
from mlops_assets.spec import FraudModelSpec

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
        group_name=group_of(spec, "training"),
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
        from mlops_assets.training.tuning import tune_model

        plan, evaluation = config.search_plan(), config.evaluation_plan()
        tracking.model(spec.registered_model)  # this and the next fail before the expensive part
        store = tracking.connect(spec.experiment)
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
        )
        yield dg.MaterializeResult(metadata={**_metadata(report, plan), **accepted(config)})
        yield from check_results([report.model.reproduction], key)

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
        **{name.removesuffix(".png"): picture(png, name) for name, png in model.pictures.items()},
        "top_features": dg.MetadataValue.md(model.explanation.table_markdown()),
        **{name.removesuffix(".png"): picture(png, name) for name, png in model.explanation.pictures.items()},
        "engine": report.engine.engine,
        "engine_reason": report.engine.reason,
        BEST_POINT: dg.MetadataValue.json(best.point),
        "best_trial": best.number,
        "trees": best.rounds,
        f"validation_{plan.objective}": float(best.value or 0.0),
        **search.counts(),
        "parallelism": search.parallelism,
        "threads": search.threads,
        "search_seconds": rounded(search.seconds),
        "end_reason": search.end_reason,
        "search_notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in search.notes) or "none"),
        "seed": plan.seed,
        "threshold": model.threshold.value,
        **{f"test_{name}": interval.estimate for name, interval in model.evaluation.metrics.items()},
        **{SET_VERSIONS[name]: table.version for name, table in report.sets.items()},
    }
