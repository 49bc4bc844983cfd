"""A model as it would have been made at the end of a past day, and how it does on the days after.

What belongs here: the asset's shell - a day in, a pinned version, an MLflow run out. What does not: which version and
how it is cut (`data/splits/as_of`), how to search, fit and evaluate (`training/`).

It stands beside the main chain: the sets, the registry and the champion are not touched, and its MLflow runs are of a
stage that is never registered.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.days import DAYS, day_of, end_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.reporting import OWNERS, check_results, check_specs, picture, rounded
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.tuned_model import count_trials, origin_tags, watched_search
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.errors import SplitError, StorageError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from datetime import date

    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.splits.as_of import AsOfBlocks
    from mlops_assets.evaluation.backtest import DayAfter
    from mlops_assets.tracking.store import ParentRun
    from mlops_assets.training.final_model import FinalModel
    from mlops_assets.training.records import SearchResult

AS_OF_BACKTEST = "as_of_backtest"
AS_OF_TAG, SCORED_VERSION_TAG = "mlops_assets.as_of", "mlops_assets.scored_raw_version"
_CHECKS = {"refit_reproduces_best_trial": "The refitted model is the one that won the search, to the last bit."}
_GONE = "FILE_NOT_EXIST"


class AsOfConfig(TunedModelConfig):
    """How to search as of a past day, and what to score."""

    trials: int = Field(default=8, ge=1, description="Number of trials.")
    days_after: float = Field(default=7.0, gt=0, description="Days of event time to score after the newest event.")
    validation_fraction: float = Field(default=0.2, description="Share of the past rows in the validation block.")
    gap_days: float | None = Field(
        default=None, description="Days left out before each cut; the contract's label delay when not given."
    )


@dg.asset(
    name=AS_OF_BACKTEST,
    group_name="training",
    deps=[RAW],
    kinds={"xgboost", "mlflow", "spark"},
    owners=OWNERS,
    description=(
        f"Trains on the version that {RAW} had at the end of a day (UTC), and scores the rows of today's version whose "
        "event time is later than the newest that was known then. Nothing of it is registered."
    ),
    partitions_def=DAYS,
    check_specs=check_specs(_CHECKS, AS_OF_BACKTEST),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="trials_cluster")
def as_of_backtest(
    context: dg.AssetExecutionContext,
    config: AsOfConfig,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    tracking: Tracking,
    trials_cluster: StepLauncherResource,
) -> Results:
    """Search and refit on what was known, score what came after, record."""
    from mlops_assets.tracking.store import BACKTEST, TableInput
    from mlops_assets.training.engines.choice import choose_engine, cluster_memory
    from mlops_assets.training.engines.engines import SplitTables, rows_in_place
    from mlops_assets.training.search.trial_writer import TrialWriter

    search, plan = config.search_plan(), config.evaluation_plan()
    store = tracking.connect()  # before anything is paid for
    past = _Past.choose(day_of(context), config, contract.load(), lakehouse)
    tables = SplitTables(lakehouse.session, past.frames.__getitem__, past.contract)
    choice = choose_engine(
        tables.searched_rows(), len(past.contract.features), cluster_memory(tables.spark), config.engine.value
    )
    context.log.info(f"{RAW} version {past.version} is that of {past.day}; engine {choice.engine}: {choice.reason}")
    tags = {**tracking.extra_tags, **past.tags(context.op_execution_context.run_id)}
    with store.open_run(f"{AS_OF_BACKTEST} {lakehouse.database} {past.day}", tags, stage=BACKTEST) as run:
        address = lakehouse.location(RAW)
        run.log_inputs(
            [TableInput(RAW, address, past.version, "training"), TableInput(RAW, address, past.today, "scoring")]
        )
        with (
            TrialWriter(run, search.objective, f"{BACKTEST}-{run.run_id}") as writer,
            rows_in_place(choice.engine, tables) as engine,
        ):
            found = watched_search(context.log.info, writer, engine, search, ())
            model = engine.finish(found, search, plan)
        days = past.by_day(model, config)
        metadata = _record(run, past, model, found, days, config)
    yield dg.MaterializeResult(asset_key=AS_OF_BACKTEST, metadata=metadata)
    yield from check_results([model.reproduction], AS_OF_BACKTEST)


@dataclass(frozen=True)
class _Past:
    """What was known at the end of a day, and what came after.

    Attributes:
        day: The day.
        contract: Names and roles of the columns.
        lakehouse: Where the tables are.
        version: Version of the raw table that was the newest then.
        committed: When it was committed, in seconds since 1970.
        today: Version that is the newest now.
        blocks: How the rows are cut.
        frames: Rows by the set whose part they take.
    """

    day: "date"
    contract: "Contract"
    lakehouse: Lakehouse
    version: int
    committed: float
    today: int
    blocks: "AsOfBlocks"
    frames: "Mapping[str, DataFrame]"

    @classmethod
    def choose(cls, day: "date", config: AsOfConfig, contract: "Contract", lakehouse: Lakehouse) -> "_Past":
        from mlops_assets.data.splits.as_of import version_as_of
        from mlops_assets.data.splits.as_of_frames import cut_as_of, rows_as_of
        from mlops_assets.lakehouse.catalog_errors import spark_errors

        today = lakehouse.require(RAW, made_by=RAW).version
        committed = lakehouse.commits(RAW)
        version = version_as_of(committed, end_of(day), where=lakehouse.location(RAW))
        rows = lakehouse.read(RAW, version)
        where = f"{RAW} version {version}, as of {day}"
        try:
            blocks = cut_as_of(
                rows,
                contract,
                validation_fraction=config.validation_fraction,
                gap_days=contract.label_delay_days if config.gap_days is None else config.gap_days,
                days_after=config.days_after,
                where=where,
            )
        except spark_errors() as error:
            if _GONE not in str(error):
                raise
            raise StorageError(
                f"the files of version {version} of {day} are gone: vacuumed, or deleted by someone",
                where=lakehouse.location(RAW),
                fix="choose a later day; `upkeep` keeps what a registered model is pinned to, and a week beside",
            ) from None
        frames = rows_as_of(rows, lakehouse.read(RAW, today), contract, blocks)
        if frames["test"].isEmpty():
            raise SplitError(
                f"no row of version {today} has an event time within {config.days_after:g} days after the newest that "
                "was known",
                where=where,
                fix="load what came after, choose an earlier day, or raise days_after",
            )
        return cls(day, contract, lakehouse, version, committed[version], today, blocks, frames)

    def tags(self, dagster_run: str) -> dict[str, str]:
        return {
            **origin_tags(dagster_run, self.lakehouse, self.version),
            AS_OF_TAG: self.day.isoformat(),
            SCORED_VERSION_TAG: str(self.today),
        }

    def by_day(self, model: "FinalModel", config: AsOfConfig) -> "list[DayAfter]":
        """Evaluate each day after by itself."""
        from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
        from mlops_assets.evaluation.backtest import days_after
        from mlops_assets.training.matrix import day_numbers, in_order

        time, target = self.contract.event_time, self.contract.target
        rows = in_order(self.frames["test"].select(time, BATCH_ID, ROW_NUMBER, target).toArrow(), self.contract)
        return days_after(
            y=rows.column(target).to_numpy(),
            scores=model.test_scores,
            days=day_numbers(rows.column(time)),
            dated=self.contract.column(time).type == "timestamp",
            threshold=model.threshold.value,
            alerts_per_day=config.alerts_per_day,
            replicates=config.replicates,
            seed=config.seed,
        )

    def newest_event(self) -> dg.MetadataValue | float:
        """Return the newest event time that was known."""
        dated = self.contract.column(self.contract.event_time).type == "timestamp"
        return dg.MetadataValue.timestamp(self.blocks.newest) if dated else self.blocks.newest


def _record(
    run: "ParentRun",
    past: _Past,
    model: "FinalModel",
    found: "SearchResult",
    days: "list[DayAfter]",
    config: AsOfConfig,
) -> dict[str, Any]:
    """Write everything said of the model into the run, and return it as metadata."""
    import hashlib

    from mlops_assets.evaluation.backtest import days_markdown
    from mlops_assets.evaluation.plots.backtest import days_after_picture

    overall = model.evaluation.metrics["average_precision"]
    shown = {**model.pictures, "days_after.png": days_after_picture(days, overall, as_of=past.day.isoformat())}
    report = {"overall": model.evaluation.to_json_dict(), "days": [day.to_json_dict() for day in days]}
    best, value = found.best, float(found.best.value or 0.0)
    digest = hashlib.sha256(model.booster.save_raw()).hexdigest()
    run.log_files({"backtest.json": json.dumps(report, indent=2).encode()}, "evaluation")
    run.log_files(shown, "pictures")
    run.log(
        params={
            **best.point,
            "objective": config.objective.value,
            "trials": config.trials,
            "seed": config.seed,
            "days_after": config.days_after,
            "validation_fraction": config.validation_fraction,
            "threshold_rule": config.threshold_rule.value,
            "alerts_per_day": config.alerts_per_day,
        },
        metrics={
            f"validation_{config.objective.value}": value,
            **count_trials(found),
            **model.evaluation.flat("after"),
        },
        tags={"mlops_assets.model_sha256": digest},
    )
    return {
        "mlflow_run_id": run.run_id,
        "as_of": past.day.isoformat(),
        "raw_version": past.version,
        "raw_version_committed": dg.MetadataValue.timestamp(datetime.fromtimestamp(past.committed, UTC)),
        "scored_raw_version": past.today,
        "newest_event": past.newest_event(),
        "rows_scored": model.evaluation.rows,
        "frauds_scored": model.evaluation.frauds,
        "days": dg.MetadataValue.md(days_markdown(days)),
        "days_after": picture(shown["days_after.png"], "days_after.png"),
        "evaluation": dg.MetadataValue.md(model.evaluation.table_markdown()),
        "precision_recall": picture(shown["precision_recall.png"], "precision_recall.png"),
        "top_features": dg.MetadataValue.md(model.explanation.table_markdown()),
        "best_point": dg.MetadataValue.json(best.point),
        f"validation_{config.objective.value}": value,
        **count_trials(found),
        "search_seconds": rounded(found.seconds),
        "threshold": model.threshold.value,
        "model_sha256": digest,
        **{f"after_{name}": interval.estimate for name, interval in model.evaluation.metrics.items()},
    }
