"""From pinned sets to a tuned model in MLflow: search, refit, evaluate once, refit for production, record everything.

What belongs here: the order of these steps, and the content of the MLflow run. What does not: how to search
(`search`), where to train (`engines`), the refit and its evaluation (`final_model`), Dagster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlops_assets.data.contract.contract import Contract
from mlops_assets.evaluation.leaks import ChangedRows
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.mature_rows import mature_rows, split_version
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.lakehouse.replaced_rows import replaced_rows
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import (
    ACCEPTED_LEAKS_TAG,
    DAGSTER_URL_TAG,
    END_REASON_TAG,
    EVALUATION_FILE,
    EXPLANATION_FOLDER,
    MODEL_URI_TAG,
    OPERATING_POINTS_FILE,
    PICTURES_FOLDER,
    RAW_TABLE_TAG,
    RAW_VERSION,
    REFUSED_TAG,
    SCORES_FILE,
    SEARCH_KEY_TAG,
    SPLIT_ID,
    SPLIT_ID_TAG,
    SPLIT_SPEC,
    TEST_VERSION_TAG,
)
from mlops_assets.tracking.artifacts import scores_to_bytes, sha256_of
from mlops_assets.tracking.provenance import Origin, package_versions
from mlops_assets.tracking.runs import ParentRun, TableInput
from mlops_assets.tracking.store import Store
from mlops_assets.training.engines.choice import AskedEngine, EngineChoice, engine_for
from mlops_assets.training.engines.engines import SplitTables, TrainingEngine, key_of, rows_in_place
from mlops_assets.training.final_model import EvaluationPlan, FinalModel
from mlops_assets.training.matrix import as_declared
from mlops_assets.training.plan import SearchPlan, search_key
from mlops_assets.training.production_run import ProductionRecord, record_production
from mlops_assets.training.readiness import changed_rows, require_ready
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.search.progress import SearchProgress
from mlops_assets.training.search.resume import finished_trials
from mlops_assets.training.search.trial_writer import TrialWriter

if TYPE_CHECKING:
    import pandas as pd

_ROLES = {"train": "training", "validation": "validation", "test": "test"}


class _NotTheWinnerError(Exception):
    """The refit is not the model that won: what was measured stays on record, in a run that has failed."""


@dataclass(frozen=True)
class TuningReport:
    """A tuned model and how it was made.

    Attributes:
        run_id: MLflow run that holds the results.
        model_uri: The model in MLflow.
        sets: Version of each set, by the set's name.
        engine: Where trials were trained, and why.
        search: The finished search.
        model: The refitted model and its evaluation.
        production: The model fitted on all three sets; None where it was switched off, or where the refit is not the
            model that won.
    """

    run_id: str
    model_uri: str
    sets: Mapping[str, TableVersion]
    engine: EngineChoice
    search: SearchResult
    model: FinalModel
    production: ProductionRecord | None

    @property
    def model_sha256(self) -> str:
        """Digest of the booster that is going to be registered."""
        return sha256_of((self.model if self.production is None else self.production.model).booster)


def tune_model(
    lakehouse: Lakehouse,
    contract: Contract,
    store: Store,
    plan: SearchPlan,
    evaluation: EvaluationPlan,
    *,
    accepted_leaks: Mapping[str, str],
    engine: AskedEngine,
    production_refit: bool,
    name: str,
    origin: Origin,
    extra_tags: Mapping[str, str],
    log: Callable[[str], None],
    opened: Callable[[str, int], object],
) -> TuningReport:
    """Tune a model on the newest sets and record it.

    If an earlier search of the same plan on the same data was interrupted, this one resumes it. If the refit is not the
    model that won, the MLflow run ends FAILED, so nothing registers it, and no later search takes its trials over.

    Args:
        lakehouse: Where the sets are.
        contract: Names and roles of the columns.
        store: Where the MLflow run goes.
        plan: What to search.
        evaluation: How to evaluate.
        accepted_leaks: Reasons for features that the leak check may name, by feature; kept as a tag of the run.
        engine: Where to train; `auto` decides by size.
        production_refit: Whether to fit the winning point again on all three sets once it has been evaluated.
        name: Name of the MLflow run; the database is appended.
        origin: The Dagster run behind it.
        extra_tags: More tags of the MLflow run.
        log: Writes a line to the run's log.
        opened: Takes the MLflow run's id, once there is one, and the version of the raw table behind the sets.

    Raises:
        StorageError: A set is missing, the sets come from different splits, or what lies outside of them is needed and
            the files of that version of the raw table are gone.
        LeakError: A feature gives the target away and is not accepted.
        SearchError: The rows can't be used for a search, or no trial finished.
        EvaluationError: The model can't be evaluated as configured.
        TrackingError: MLflow rejects a request or can't be reached.
    """
    sets = pinned_sets(lakehouse)
    mature = cache(lambda: mature_rows(lakehouse, contract, sets))
    tables = SplitTables(
        lakehouse.session,
        lambda role: lakehouse.read(sets[role].name, sets[role].version),
        contract,
        gap_days=float(sets["test"].metadata[SPLIT_SPEC]["gap_days"]),
        mature=mature,
        earlier_frauds=lambda: mature().earlier_frauds,
    )
    if production_refit:
        mature()  # before the search is paid for: upkeep may have removed the version that was split
    tables.frauds_before_test()  # for the same reason
    changes = _changes(lakehouse, contract, sets["train"])
    require_ready(
        tables,
        evaluation,
        accepted_leaks,
        changes,
        log,
        names={"train": SET_TABLES["train"], "validation": SET_TABLES["validation"], "test": SET_TABLES["test"]},
    )
    choice = engine_for(tables, plan, engine, production=production_refit)
    key = search_key(plan, {**_searched_data(lakehouse, contract, sets), **key_of(choice.engine, tables.spark)})
    resumed = finished_trials(store, key)
    tags = {**extra_tags, **_tags(origin, lakehouse, sets), SEARCH_KEY_TAG: key}
    if accepted_leaks:
        tags[ACCEPTED_LEAKS_TAG] = json.dumps(dict(accepted_leaks))
    production = None
    with suppress(_NotTheWinnerError), store.open_run(f"{name} {lakehouse.database}", tags) as run:
        log(f"MLflow run {run.run_id}")
        opened(run.run_id, int(sets["train"].metadata[RAW_VERSION]))
        with TrialWriter(run, plan.objective, key) as writer:
            run.log_inputs(
                [TableInput(t.name, lakehouse.location(t.name), t.version, _ROLES[role]) for role, t in sets.items()]
            )
            log(f"engine {choice.engine}: {choice.reason}")
            with rows_in_place(choice.engine, tables, folds=plan.folds) as placed:
                rows = f"{placed.train_rows:,} training and {placed.validation_rows:,} validation rows"
                log(f"searching {plan.trials} points on {rows}")
                result = watched_search(log, writer, placed, plan, resumed)
                model = placed.finish(result, plan, evaluation)
                example = as_declared(model.example_frame, contract)
                uri = _record(run, model, example, result, choice, plan, evaluation)
                if not model.reproduction.passed:
                    run.log(tags={REFUSED_TAG: model.reproduction.description})
                    raise _NotTheWinnerError
                if production_refit:
                    production = record_production(
                        run, placed.refit(model, result, plan), uri, model, example, result, sets
                    )
                    log(production.message)
    return TuningReport(run.run_id, uri, sets, choice, result, model, production)


def watched_search(
    log: Callable[[str], None],
    writer: TrialWriter,
    engine: TrainingEngine,
    plan: SearchPlan,
    resumed: tuple[TrialRecord, ...],
) -> SearchResult:
    """Search, and report each trial to MLflow and to the run's log as it ends."""
    slots = engine.slots(plan)
    for note in slots.notes:
        log(note)
    progress = SearchProgress(plan, slots.parallelism, log)
    progress.take_over(resumed)
    for trial in resumed:
        writer.write(trial)

    def report(trial: TrialRecord) -> None:
        progress.report(trial)
        writer.write(trial)

    result = engine.search(plan, report, resumed)
    progress.end()
    best = result.best
    log(
        f"search ended after {result.seconds:.1f} s: {result.end_reason}; best trial {best.number}: "
        f"validation {plan.objective} {best.value:.4f}"
    )
    return result


def _changes(lakehouse: Lakehouse, contract: Contract, train: TableVersion) -> dict[str, ChangedRows]:
    """Compare the rows that were delivered again with what they replaced; empty if there are none."""
    replaced = replaced_rows(lakehouse)
    if contract.key is None or replaced is None:
        return {}
    return changed_rows(replaced, split_version(lakehouse, train), contract)


def _searched_data(lakehouse: Lakehouse, contract: Contract, sets: Mapping[str, TableVersion]) -> dict[str, str]:
    """Return everything but the plan that a search's trials depend on; it becomes part of the search's key."""
    versions = package_versions()
    return {
        **{name: f"{lakehouse.location(sets[name].name)}@{sets[name].version}" for name in ("train", "validation")},
        SPLIT_ID: str(sets["train"].metadata[SPLIT_ID]),
        "contract": contract.fingerprint,
        **({"monotone": json.dumps(contract.monotone, sort_keys=True)} if contract.monotone else {}),
        **{name: versions[name] for name in ("xgboost-cpu", "hyperopt")},
    }


def _tags(origin: Origin, lakehouse: Lakehouse, sets: Mapping[str, TableVersion]) -> dict[str, str]:
    test = sets["test"]
    return {
        **origin.tags(lakehouse.database, int(test.metadata[RAW_VERSION])),
        DAGSTER_URL_TAG: origin.url,
        RAW_TABLE_TAG: lakehouse.location(RAW),
        SPLIT_ID_TAG: str(test.metadata[SPLIT_ID]),
        TEST_VERSION_TAG: str(test.version),
    }


def _record(
    run: ParentRun,
    model: FinalModel,
    example: pd.DataFrame,
    result: SearchResult,
    choice: EngineChoice,
    plan: SearchPlan,
    evaluation: EvaluationPlan,
) -> str:
    """Write the model and its results into the run; return the model's URI."""
    point = result.best.point
    bag = plan.bag(point)
    uri = run.log_model(model.booster, example, point)
    calibration = None if model.calibration is None else model.calibration.to_json_dict()
    report = json.dumps({**model.evaluation.to_json_dict(), "calibration": calibration}, indent=2).encode()
    points = json.dumps(model.points.to_json_dict()).encode()
    files = {SCORES_FILE: scores_to_bytes(model.test_scores), EVALUATION_FILE: report, OPERATING_POINTS_FILE: points}
    run.log_files(files)
    run.log_files(model.pictures.files, PICTURES_FOLDER)
    run.log_files({**model.explanation.files, **model.explanation.pictures}, EXPLANATION_FOLDER)
    run.log(
        params={
            **point,
            "trees": result.best.rounds,
            "objective": plan.objective,
            "trials": plan.trials,
            "engine": choice.engine,
            "parallelism": result.parallelism,
            "threads": result.threads,
            "early_stopping_rounds": plan.early_stopping_rounds,
            "pruning": plan.pruning,
            "checkpoint_rounds": plan.checkpoint_rounds,
            "folds": 1 + len(result.older_rows),
            "screening": plan.screening,
            "use_idle_slots": plan.use_idle_slots,
            "bagging": bag.size,
            "anchor": "" if bag.anchor is None else json.dumps(bag.anchor),
            "max_seconds": plan.max_seconds,
            "seed": plan.seed,
            "space": json.dumps(plan.space.as_dict()),
            "threshold_rule": evaluation.threshold_rule,
            "alerts_per_day": evaluation.alerts_per_day,
            "alert_cost": evaluation.alert_cost,
            "calibrate": evaluation.calibrate,
            "bootstrap_replicates": evaluation.replicates,
        },
        metrics={
            f"validation_{plan.objective}": float(result.best.value or 0.0),
            "search_seconds": result.seconds,
            **result.counts(),
            **model.evaluation.flat("test"),
        },
        tags={MODEL_URI_TAG: uri, END_REASON_TAG: result.end_reason},
    )
    return uri
