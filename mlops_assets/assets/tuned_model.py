"""The tuned model: a search over validation rows, a refit, and one evaluation on test rows, kept as an MLflow run.

What belongs here: the asset's shell - configuration in, pinned sets in, MLflow run out, metadata. What does not: how to
search, fit or evaluate (`training/`).
"""

import json
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets import lineage as registry_tags
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    picture,
    rounded,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES, pinned_sets
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import RAW_VERSION_TAG
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL
from mlops_assets.training.plan import SearchPlan, search_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.tracking.store import ParentRun
    from mlops_assets.training.engines.choice import EngineChoice
    from mlops_assets.training.engines.engines import SplitTables, TrainingEngine
    from mlops_assets.training.final_model import EvaluationPlan, FinalModel
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.records import SearchResult, TrialRecord
    from mlops_assets.training.search.trial_writer import TrialWriter

TUNED_MODEL = "tuned_model"
DATABASE_TAG, TEST_VERSION_TAG = registry_tags.DATABASE_TAG, registry_tags.TEST_VERSION_TAG
DAGSTER_RUN_TAG = "dagster.run_id"
MODEL_URI_TAG = "mlops_assets.model_uri"
END_REASON_TAG = "mlops_assets.end_reason"
SCORES_FILE = "evaluation/test_scores.npy"
EVALUATION_FILE = "evaluation/evaluation.json"
_CHECKS = {"refit_reproduces_best_trial": "The refitted model is the one that won the search, to the last bit."}


@dg.asset(
    name=TUNED_MODEL,
    group_name="training",
    deps=list(TABLES.values()),
    kinds={"xgboost", "mlflow", "spark"},
    owners=OWNERS,
    description=(
        "XGBoost model, tuned by hyperopt SparkTrials on validation rows, refitted on training rows and evaluated once "
        "on test rows. An MLflow run with a child run per trial holds all of it."
    ),
    check_specs=check_specs(_CHECKS, TUNED_MODEL),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="trials_cluster")
def tuned_model(
    context: dg.AssetExecutionContext,
    config: TunedModelConfig,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    tracking: Tracking,
    trials_cluster: StepLauncherResource,
) -> Results:
    """Search, refit, evaluate, and record."""
    from mlops_assets.training.engines.choice import choose_engine, cluster_memory
    from mlops_assets.training.engines.engines import SplitTables, key_of
    from mlops_assets.training.search.resume import SEARCH_KEY, finished_trials
    from mlops_assets.training.search.trial_writer import TrialWriter

    search, evaluation = config.search_plan(), config.evaluation_plan()
    store = tracking.connect()  # before anything is paid for
    sets, rules = pinned_sets(lakehouse), contract.load()
    tables = SplitTables(lakehouse.session, lambda name: lakehouse.read(sets[name].name, sets[name].version), rules)
    memory = cluster_memory(tables.spark)
    choice = choose_engine(tables.searched_rows(), len(rules.features), memory, config.engine.value)
    data = {**_searched_data(lakehouse, rules, sets), **key_of(choice.engine, tables.spark)}
    key = search_key(search, data)
    resumed = finished_trials(store, key)
    tags = {**tracking.extra_tags, **_tags(context.op_execution_context.run_id, lakehouse, tracking, sets)}
    with store.open_run(f"{TUNED_MODEL} {lakehouse.database}", {**tags, SEARCH_KEY: key}) as run:
        context.log.info(f"MLflow run {run.run_id}")
        with TrialWriter(run, search.objective, key) as writer:
            result, reproduced = _tune(
                context.log.info, run, writer, choice, tables, lakehouse, sets, search, evaluation, resumed
            )
    yield result
    yield reproduced


def _tune(
    log: "Callable[[str], None]",
    run: "ParentRun",
    writer: "TrialWriter",
    choice: "EngineChoice",
    tables: "SplitTables",
    lakehouse: dg.ResourceParam[Lakehouse],
    sets: "Mapping[str, TableVersion]",
    search: SearchPlan,
    plan: "EvaluationPlan",
    resumed: "tuple[TrialRecord, ...]",
) -> tuple[dg.MaterializeResult[None], dg.AssetCheckResult]:
    from mlops_assets.tracking.store import TableInput
    from mlops_assets.training.engines.engines import rows_in_place

    roles = {"train": "training", "validation": "validation", "test": "test"}
    run.log_inputs(
        [
            TableInput(table.name, lakehouse.location(table.name), table.version, roles[name])
            for name, table in sets.items()
        ]
    )
    log(f"engine {choice.engine}: {choice.reason}")
    with rows_in_place(choice.engine, tables) as engine:
        rows = f"{engine.train_rows:,} training and {engine.validation_rows:,} validation rows"
        log(f"searching {search.trials} points on {rows}")
        found = watched_search(log, writer, engine, search, resumed)
        model = engine.finish(found, search, plan)
    best = found.best
    uri = _record(run, model, found, choice, search, plan)
    metadata: dict[str, dg.MetadataValue[Any] | str | int | float] = {
        "mlflow_run_id": run.run_id,
        "model_uri": uri,
        "evaluation": dg.MetadataValue.md(model.evaluation.table_markdown()),
        **{name.removesuffix(".png"): picture(png, name) for name, png in model.pictures.items()},
        "top_features": dg.MetadataValue.md(model.explanation.table_markdown()),
        **{name.removesuffix(".png"): picture(png, name) for name, png in model.explanation.pictures.items()},
        "engine": choice.engine,
        "engine_reason": choice.reason,
        "best_point": dg.MetadataValue.json(best.point),
        "best_trial": best.number,
        f"validation_{search.objective}": float(best.value or 0.0),
        **count_trials(found),
        "parallelism": found.parallelism,
        "threads": found.threads,
        "search_seconds": rounded(found.seconds),
        "end_reason": found.end_reason,
        "search_notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in found.notes) or "none"),
        "seed": search.seed,
        "threshold": model.threshold.value,
        **{f"test_{name}": interval.estimate for name, interval in model.evaluation.metrics.items()},
        **{f"{name}_version": table.version for name, table in sets.items()},
    }
    (reproduced,) = check_results([model.reproduction], TUNED_MODEL)
    return dg.MaterializeResult(metadata=metadata), reproduced


def watched_search(
    log: "Callable[[str], None]",
    writer: "TrialWriter",
    engine: "TrainingEngine",
    search: SearchPlan,
    resumed: "tuple[TrialRecord, ...]",
) -> "SearchResult":
    """Search, with each trial in MLflow and in the run's log while it goes on."""
    from mlops_assets.training.search.progress import Progress

    slots = engine.slots(search)
    for note in slots.notes:
        log(note)
    progress = Progress(search, slots.parallelism, log)
    progress.take_over(resumed)
    for trial in resumed:
        writer.write(trial)

    def report(trial: "TrialRecord") -> None:
        progress.report(trial)
        writer.write(trial)

    found = engine.search(search, report, resumed)
    progress.end()
    best = found.best
    log(
        f"search ended after {found.seconds:.1f} s: {found.end_reason}; best trial {best.number}: "
        f"validation {search.objective} {best.value:.4f}"
    )
    return found


def count_trials(found: "SearchResult") -> dict[str, int]:
    """Return how many trials there were, by how they ended; those taken over from an earlier search are among them."""
    states = [trial.state for trial in found.trials]
    return {
        "trials": len(states),
        "trials_finished": states.count("finished"),
        "trials_pruned": states.count("pruned"),
        "trials_failed": states.count("failed"),
        "trials_resumed": sum(bool(trial.resumed_from) for trial in found.trials),
    }


def _searched_data(lakehouse: Lakehouse, contract: "Contract", sets: "Mapping[str, TableVersion]") -> dict[str, str]:
    """Return what a search's trials depend on beside its plan: two searches that agree in all of it are the same."""
    from mlops_assets.tracking.provenance import package_versions

    versions = package_versions()
    return {
        **{name: f"{lakehouse.location(sets[name].name)}@{sets[name].version}" for name in ("train", "validation")},
        "split_id": str(sets["train"].metadata["split_id"]),
        "contract": contract.fingerprint,
        **{name: versions[name] for name in ("xgboost-cpu", "hyperopt")},
    }


def _record(
    run: "ParentRun",
    model: "FinalModel",
    found: "SearchResult",
    choice: "EngineChoice",
    search: SearchPlan,
    plan: "EvaluationPlan",
) -> str:
    """Write the model and everything said of it into the run; return the model's URI."""
    import pandas as pd

    from mlops_assets.evaluation.explanation_report import EXPLANATION_FOLDER
    from mlops_assets.registry.versions import scores_to_bytes

    point = found.best.point
    example = pd.DataFrame(model.example.astype("float64"), columns=model.booster.feature_names)
    uri = run.log_model(model.booster, example, point)
    run.log_files({SCORES_FILE.split("/")[1]: scores_to_bytes(model.test_scores)}, "evaluation")
    report = json.dumps(model.evaluation.to_json_dict(), indent=2).encode()
    run.log_files({EVALUATION_FILE.split("/")[1]: report}, "evaluation")
    run.log_files(model.pictures, "pictures")
    run.log_files({**model.explanation.files, **model.explanation.pictures}, EXPLANATION_FOLDER)
    run.log(
        params={
            **point,
            "objective": search.objective,
            "trials": search.trials,
            "engine": choice.engine,
            "parallelism": found.parallelism,
            "threads": found.threads,
            "early_stopping_rounds": search.early_stopping_rounds,
            "pruning": search.pruning,
            "checkpoint_rounds": search.checkpoint_rounds,
            "max_seconds": search.max_seconds,
            "seed": search.seed,
            "space": json.dumps(search.space.as_dict()),
            "threshold_rule": plan.threshold_rule,
            "alerts_per_day": plan.alerts_per_day,
            "alert_cost": plan.alert_cost,
            "bootstrap_replicates": plan.replicates,
        },
        metrics={
            f"validation_{search.objective}": float(found.best.value or 0.0),
            "search_seconds": found.seconds,
            **count_trials(found),
            **model.evaluation.flat("test"),
        },
        tags={MODEL_URI_TAG: uri, END_REASON_TAG: found.end_reason},
    )
    return uri


def _tags(
    dagster_run: str, lakehouse: Lakehouse, tracking: Tracking, sets: "Mapping[str, TableVersion]"
) -> dict[str, str]:
    test = sets["test"]
    return {
        **origin_tags(dagster_run, lakehouse, int(test.metadata["raw_version"])),
        "dagster.run_url": f"{tracking.dagster_url.rstrip('/')}/runs/{dagster_run}",
        "mlops_assets.raw_table": lakehouse.location(RAW),
        "mlops_assets.split_id": str(test.metadata["split_id"]),
        TEST_VERSION_TAG: str(test.version),
    }


def origin_tags(dagster_run: str, lakehouse: Lakehouse, raw_version: int) -> dict[str, str]:
    """Return what a model's MLflow run says of the run, the data and the code that it came from."""
    from mlops_assets.tracking.provenance import git_revision, package_versions

    return {
        DATABASE_TAG: lakehouse.database,
        DAGSTER_RUN_TAG: dagster_run,
        RAW_VERSION_TAG: str(raw_version),
        "mlops_assets.git_revision": git_revision(),
        **{f"package.{name}": version for name, version in package_versions().items()},
    }


def read_matrix(lakehouse: Lakehouse, table: TableVersion, contract: "Contract") -> "Matrix":
    """Return a pinned set as arrays."""
    from mlops_assets.training.matrix import matrix_columns, to_matrix

    rows = lakehouse.read(table.name, table.version).select(*matrix_columns(contract)).toArrow()
    return to_matrix(rows, contract)
