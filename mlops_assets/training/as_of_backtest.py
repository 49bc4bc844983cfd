"""Backtest: train the model as of the end of a past day, evaluate it on the days after, record it in MLflow.

What belongs here: the order of these steps, and the content of the MLflow run. What does not: which version of the
table belongs to a day and how it is split (`data/splits/as_of`), searching and fitting (`tuning`, `engines`), metrics
by day (`evaluation/backtest`), Dagster.

There is no production refit here: a threshold is carried over to a refit on rows that neither model has seen
(`production`), and no such rows lie between the past and the days to score. The rehearsal of each tuned model says what
a refit is worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.days import day_numbers, on_whole_days
from mlops_assets.data.splits.as_of import AsOfBlocks, version_as_of
from mlops_assets.data.splits.as_of_frames import cut_as_of, frauds_until, rows_as_of, waiting_after
from mlops_assets.errors import SplitError
from mlops_assets.evaluation.backtest import DayAfter, days_after
from mlops_assets.evaluation.plots.backtest import days_after_picture
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.replaced_rows import replaced_rows
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import (
    AS_OF_TAG,
    BACKTEST_FILE,
    DAYS_AFTER_PICTURE,
    MODEL_SHA256_TAG,
    PICTURES_FOLDER,
    SCORED_VERSION_TAG,
)
from mlops_assets.tracking.artifacts import sha256_of
from mlops_assets.tracking.provenance import Origin
from mlops_assets.tracking.runs import ParentRun, TableInput
from mlops_assets.tracking.store import BACKTEST, Store
from mlops_assets.training.engines.choice import AskedEngine, engine_for
from mlops_assets.training.engines.engines import SetName, SplitTables, rows_in_place
from mlops_assets.training.final_model import EvaluationPlan, FinalModel
from mlops_assets.training.matrix import entity_ids, event_seconds, hashed, in_order
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.readiness import require_ready
from mlops_assets.training.records import SearchResult
from mlops_assets.training.search.trial_writer import TrialWriter
from mlops_assets.training.tuning import watched_search

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class PastDay:
    """The day to go back to, and the days to score.

    Attributes:
        day: The day (UTC).
        ends_at: The first moment after it, in seconds since 1970.
        days_after: Days of event time to score after the newest event known on that day.
        validation_fraction: Share of the past rows in the validation block.
        gap_days: Days left out before each cut; None uses the contract's label delay.
    """

    day: date
    ends_at: float
    days_after: float = 7.0
    validation_fraction: float = 0.2
    gap_days: float | None = None

    def gap(self, contract: Contract) -> float:
        """Return the days left out before each cut."""
        return contract.label_delay_days if self.gap_days is None else self.gap_days


@dataclass(frozen=True)
class BacktestReport:
    """A model of a past day and its performance on the days after.

    Attributes:
        run_id: MLflow run that holds the results.
        version: Newest version of the raw table at the time.
        committed: When that version was committed, in seconds since 1970.
        scored_version: Newest version now, whose later rows were scored.
        newest_event: The newest event time known then, in seconds.
        waiting: Rows of the days after that can't be scored yet, and how many of them are known as frauds.
        search: The finished search.
        model: The refitted model, evaluated on the rows that came after.
        days: Metrics of each day after.
        picture: Plot of `days`, a PNG.
        model_sha256: Digest of the model's own bytes.
    """

    run_id: str
    version: int
    committed: float
    scored_version: int
    newest_event: float
    waiting: tuple[int, int]
    search: SearchResult
    model: FinalModel
    days: list[DayAfter]
    picture: bytes
    model_sha256: str


def backtest(
    lakehouse: Lakehouse,
    contract: Contract,
    store: Store,
    past_day: PastDay,
    plan: SearchPlan,
    evaluation: EvaluationPlan,
    *,
    accepted_leaks: Mapping[str, str],
    engine: AskedEngine,
    name: str,
    origin: Origin,
    extra_tags: Mapping[str, str],
    log: Callable[[str], None],
) -> BacktestReport:
    """Search and refit on the data known at the end of a day, score the rows that came after, and record the results.

    Args:
        lakehouse: Where the raw table is.
        contract: Names and roles of the columns.
        store: Where the MLflow run goes; runs of this stage are never registered.
        past_day: The day to go back to, and the days to score.
        plan: What to search.
        evaluation: How to evaluate.
        accepted_leaks: Reasons for features that the leak check may name, by feature.
        engine: Where to train; `auto` decides by size.
        name: Name of the MLflow run; database and day are appended.
        origin: The Dagster run behind it.
        extra_tags: More tags of the MLflow run.
        log: Writes a line to the run's log.

    Raises:
        SplitError: The rows of that day can't be split, or no rows came after.
        EvaluationError: A block has one class only, or amounts that can't be used.
        LeakError: A feature gives the target away and is not accepted.
        StorageError: The table did not exist yet, or the files of its version are gone.
        SearchError: The rows can't be used for a search, or no trial finished.
        TrackingError: MLflow rejects a request or can't be reached.
    """
    past = _Past.choose(lakehouse, contract, past_day)
    tables = SplitTables(
        lakehouse.session,
        past.frames.__getitem__,
        contract,
        gap_days=past_day.gap(contract),
        earlier_frauds=lambda: frauds_until(lakehouse.read(RAW, past.today), contract, past.blocks.newest),
    )
    where = f"{RAW} version {past.version}, as of {past_day.day}"
    names: dict[SetName, str] = {
        "train": f"training rows of {where}",
        "validation": f"validation rows of {where}",
        "test": f"the {past_day.days_after:g} days after, in version {past.today}",
    }
    require_ready(tables, evaluation, accepted_leaks, {}, log, names=names)
    choice = engine_for(tables, plan, engine)
    log(f"{past_day.day} had {RAW} version {past.version}; engine {choice.engine}: {choice.reason}")
    tags = {
        **extra_tags,
        **origin.tags(lakehouse.database, past.version),
        AS_OF_TAG: past_day.day.isoformat(),
        SCORED_VERSION_TAG: str(past.today),
    }
    with store.open_run(f"{name} {lakehouse.database} {past_day.day}", tags, stage=BACKTEST) as run:
        address = lakehouse.location(RAW)
        run.log_inputs(
            [TableInput(RAW, address, past.version, "training"), TableInput(RAW, address, past.today, "scoring")]
        )
        with (
            TrialWriter(run, plan.objective, f"{BACKTEST}-{run.run_id}") as writer,
            rows_in_place(choice.engine, tables, folds=plan.folds) as placed,
        ):
            result = watched_search(log, writer, placed, plan, ())
            model = placed.finish(result, plan, evaluation)
        days = _by_day(past, contract, model, evaluation)
        picture = days_after_picture(
            days, model.evaluation.metrics["average_precision"], as_of=past_day.day.isoformat()
        )
        digest = sha256_of(model.booster)
        report = BacktestReport(
            run.run_id,
            past.version,
            past.committed,
            past.today,
            past.blocks.newest,
            past.waiting,
            result,
            model,
            days,
            picture,
            digest,
        )
        _record(run, report, past_day, plan, evaluation)
    return report


@dataclass(frozen=True)
class _Past:
    """The data known at the end of a day, and the rows that came after.

    Attributes:
        version: Newest version of the raw table at the time.
        committed: When that version was committed, in seconds since 1970.
        today: Newest version now.
        blocks: How the rows are split.
        frames: Rows by the name of the set.
        waiting: Rows to score that can't be used yet, and how many of them are known as frauds.
    """

    version: int
    committed: float
    today: int
    blocks: AsOfBlocks
    frames: Mapping[str, DataFrame]
    waiting: tuple[int, int]

    @classmethod
    def choose(cls, lakehouse: Lakehouse, contract: Contract, past_day: PastDay) -> _Past:
        today = lakehouse.require(RAW, made_by=RAW).version
        committed = lakehouse.commits(RAW)
        version = version_as_of(committed, past_day.ends_at, where=lakehouse.location(RAW))
        rows = lakehouse.read(RAW, version)
        where = f"{RAW} version {version}, as of {past_day.day}"
        lakehouse.require_files(
            RAW,
            version,
            fix="choose a later day; `upkeep` keeps a week, and versions that registered models are pinned to",
        )
        blocks = cut_as_of(
            rows,
            contract,
            validation_fraction=past_day.validation_fraction,
            gap_days=past_day.gap(contract),
            days_after=past_day.days_after,
            where=where,
        )
        frames = rows_as_of(rows, lakehouse.read(RAW, today), contract, blocks, replaced_rows(lakehouse))
        waiting = waiting_after(lakehouse.read(RAW, today), contract, blocks)
        if frames["test"].isEmpty():
            young = f", except for {waiting[0]:,} that have no mature label yet" if waiting[0] else ""
            raise SplitError(
                f"no row of version {today} has an event time within {past_day.days_after:g} days after the newest "
                f"event known then{young}",
                where=where,
                fix="load later data, choose an earlier day, or raise days_after",
            )
        return cls(version, committed[version], today, blocks, frames, waiting)


def _by_day(past: _Past, contract: Contract, model: FinalModel, evaluation: EvaluationPlan) -> list[DayAfter]:
    """Evaluate each of the days after on its own."""
    time, target, entity = contract.event_time, contract.target, contract.entity
    named = [name for name in (time, BATCH_ID, ROW_NUMBER, target, entity) if name is not None]
    table = in_order(past.frames["test"].select(*named).toArrow(), contract)
    at = event_seconds(table.column(time))
    rows = Rows(
        y=table.column(target).to_numpy(),
        days=day_numbers(at, contract.time_zone),
        on_whole_day=on_whole_days(at, contract.time_zone),
        alerts_per_day=evaluation.alerts_per_day,
        entities=None if entity is None else entity_ids(hashed(table.column(entity))),
    )
    return days_after(
        rows,
        scores=model.test_scores,
        dated=contract.column(time).type == "timestamp",
        threshold=model.threshold.value,
        design=evaluation.design,
    )


def _record(
    run: ParentRun, report: BacktestReport, past_day: PastDay, plan: SearchPlan, evaluation: EvaluationPlan
) -> None:
    """Write the model's results into the run."""
    model, best = report.model, report.search.best
    figures = {"overall": model.evaluation.to_json_dict(), "days": [day.to_json_dict() for day in report.days]}
    run.log_files({BACKTEST_FILE: json.dumps(figures, indent=2).encode()})
    run.log_files({**model.pictures.files, DAYS_AFTER_PICTURE: report.picture}, PICTURES_FOLDER)
    run.log(
        params={
            **best.point,
            "objective": plan.objective,
            "trials": plan.trials,
            "seed": plan.seed,
            "days_after": past_day.days_after,
            "validation_fraction": past_day.validation_fraction,
            "threshold_rule": evaluation.threshold_rule,
            "alerts_per_day": evaluation.alerts_per_day,
        },
        metrics={
            f"validation_{plan.objective}": float(best.value or 0.0),
            **report.search.counts(),
            **model.evaluation.flat("after"),
        },
        tags={MODEL_SHA256_TAG: report.model_sha256},
    )
