"""A model as it would have been trained at the end of a past week, and how it performs on the days after.

What belongs here: the asset's specification, its configuration, and how a backtest is shown. What does not: the
backtest itself (`training/as_of_backtest`).

It is separate from the main chain: it does not change the sets, the registry or the champion, and its MLflow runs have
a stage that is never registered.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.days import end_of, last_day_of_week, weeks_from
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.reporting import check_results, check_specs, known, pages_of_run, rounded, thumbnail
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.tuning_config import SearchConfig, accepted
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import AS_OF, BEST_POINT, DAYS_AFTER_PICTURE, MLFLOW_RUN_ID, PICTURES_FOLDER, RAW_VERSION
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec
from mlops_assets.training.plan import SEARCH_RULES

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.as_of_backtest import BacktestReport

AS_OF_BACKTEST = "as_of_backtest"
_CHECKS = {"refit_reproduces_best_trial": "The refitted model is the one that won the search, to the last bit."}


class AsOfConfig(SearchConfig):
    """How to search as of a past day, and what to score."""

    trials: int = Field(default=8, ge=1, description="Number of trials.")
    days_after: float = Field(default=7.0, gt=0, description="Days of event time to score after the newest event.")
    validation_fraction: float = Field(default=0.2, description="Share of the past rows in the validation block.")
    gap_days: float | None = Field(
        default=None, description="Days left out before each cut; the contract's label delay when not given."
    )


def build_as_of_backtest(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model."""
    key = key_of(spec, AS_OF_BACKTEST)

    @dg.asset(
        key=key,
        group_name=spec.group,
        tags=stage_tag("training"),
        code_version=str(SEARCH_RULES),
        deps=[key_of(spec, RAW)],
        kinds={"xgboost", "mlflow", "spark"},
        owners=list(spec.owners),
        description=(
            f"Trains on the version that {RAW} had at the end of a week (UTC), and scores the rows of today's version "
            "whose event time is later than the newest that was known then. Nothing of it is registered."
        ),
        partitions_def=weeks_from(spec.first_day),
        check_specs=check_specs(_CHECKS, key),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="trials_cluster")
    def as_of_backtest(
        context: dg.AssetExecutionContext,
        config: AsOfConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        trials_cluster: StepLauncherResource,
    ) -> Results:
        """Search and refit on the rows known then, score the rows after, record the result."""
        from mlops_assets.training.as_of_backtest import PastDay, backtest

        plan, evaluation = config.search_plan(), config.evaluation_plan(spec.contract, context.log.info)
        store = tracking.connect(spec.experiment)  # fail before the expensive part
        day = last_day_of_week(context)
        report = backtest(
            lakehouse.open(spec),
            spec.contract,
            store,
            PastDay(day, end_of(day), config.days_after, config.validation_fraction, config.gap_days),
            plan,
            evaluation,
            accepted_leaks=config.accepted_leaks,
            engine=config.engine.value,
            name=AS_OF_BACKTEST,
            origin=tracking.origin(context.op_execution_context.run_id),
            extra_tags=tracking.extra_tags,
            log=context.log.info,
        )
        files = {PICTURES_FOLDER: [DAYS_AFTER_PICTURE, *report.model.pictures.files]}
        metadata = {
            AS_OF: day.isoformat(),
            **pages_of_run(tracking.pages, store.experiment_id, report.run_id, files),
            **_metadata(report, plan.objective, spec.contract),
            **accepted(config),
        }
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=dg.DataVersion(report.model_sha256))
        yield from check_results([report.model.reproduction], key)

    return as_of_backtest


def _metadata(report: "BacktestReport", objective: str, contract: "Contract") -> dict[str, Any]:
    """Return the metadata for the asset's page."""
    from mlops_assets.evaluation.backtest import days_markdown

    model, best = report.model, report.search.best
    dated = contract.column(contract.event_time).type == "timestamp"
    return {
        MLFLOW_RUN_ID: report.run_id,
        RAW_VERSION: report.version,
        "raw_version_committed": dg.MetadataValue.timestamp(datetime.fromtimestamp(report.committed, UTC)),
        "scored_raw_version": report.scored_version,
        "newest_event": dg.MetadataValue.timestamp(report.newest_event) if dated else report.newest_event,
        "rows_scored": model.evaluation.rows,
        "frauds_scored": model.evaluation.frauds,
        "rows_waiting": report.waiting[0],
        "frauds_waiting": report.waiting[1],
        "days": dg.MetadataValue.md(days_markdown(report.days)),
        "evaluation": dg.MetadataValue.md(model.evaluation.table_markdown()),
        **{name: thumbnail(svg, name) for name, svg in model.pictures.thumbnails.items()},
        "top_features": dg.MetadataValue.md(model.explanation.table_markdown()),
        BEST_POINT: dg.MetadataValue.json(best.point),
        **known(**{f"validation_{objective}": best.value}),
        **report.search.counts(),
        "search_seconds": rounded(report.search.seconds),
        "threshold": model.threshold.value,
        "model_sha256": report.model_sha256,
        **{f"after_{name}": interval.estimate for name, interval in model.evaluation.metrics.items()},
    }
