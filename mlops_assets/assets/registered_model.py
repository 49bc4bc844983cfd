"""The registered version: verified against the trained model, then challenger, then champion if the gate lets it.

What belongs here: the asset's shell. What does not: calls of the registry (`registry/versions`), the rule
(`registry/gate`).
"""

import json
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_assets.assets.reporting import OWNERS, check_results, check_specs, refusal
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import (
    DAGSTER_RUN_TAG,
    DATABASE_TAG,
    EVALUATION_FILE,
    MODEL_URI_TAG,
    SCORES_FILE,
    TEST_VERSION_TAG,
    TUNED_MODEL,
    read_matrix,
)
from mlops_assets.errors import TrackingError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.registry.gate import PROMOTION_GATE, GateRule, judge_promotion
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.registry.versions import Version
    from mlops_assets.tracking.store import Store
    from mlops_assets.training.matrix import Matrix

REGISTERED_MODEL = "registered_model"
_CHECKS = {
    "scores_reproduced": "The version, loaded from the registry, scores the test rows as the trained model did.",
    PROMOTION_GATE: "Better than chance by the stated factor, and not below the champion on the same test rows.",
}


class GateConfig(dg.Config):
    """What a champion must show."""

    min_lift: float = Field(
        default=GateRule().min_lift, ge=1, description="Test average precision must be this many times the fraud rate."
    )


@dg.asset(
    name=REGISTERED_MODEL,
    group_name="registry",
    deps=[TUNED_MODEL],
    kinds={"mlflow"},
    owners=OWNERS,
    description=(
        "Version in the MLflow registry: alias `challenger` once it is verified bit for bit, alias `champion` when the "
        "promotion gate lets it."
    ),
    check_specs=check_specs(_CHECKS, REGISTERED_MODEL),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster")
def registered_model(
    context: dg.AssetExecutionContext,
    config: GateConfig,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    tracking: Tracking,
    loader_cluster: StepLauncherResource,
) -> Results:
    """Register the newest tuned model of this database."""
    from mlops_assets.registry.versions import CHALLENGER, CHAMPION, set_alias

    rule = GateRule(config.min_lift)
    store = tracking.connect()
    with store.answering():
        run_id = _tuned_run(store, context.op_execution_context.run_id, lakehouse.database)
        tags = store.client.get_run(run_id).data.tags
        pinned = TableVersion(TABLES["test"], int(tags[TEST_VERSION_TAG]), {})
        test = read_matrix(lakehouse, pinned, contract.load())
        with lakehouse.exclusive(REGISTERED_MODEL):
            version, reproduced = _register(store, tracking.registered_model, run_id, tags[MODEL_URI_TAG], test)
            if refused := refusal([reproduced], what=f"{version.name} version {version.number} got no alias"):
                yield from check_results([reproduced], REGISTERED_MODEL)
                raise refused
            set_alias(store, version, CHALLENGER)
            verdict = _gate(store, version, test, rule)
            if verdict.passed:
                set_alias(store, version, CHAMPION)
    context.log.info(f"{version.name} version {version.number}: {verdict.description}")
    yield dg.MaterializeResult(
        asset_key=REGISTERED_MODEL,
        metadata={
            "model": version.name,
            "version": version.number,
            "mlflow_run_id": run_id,
            "model_uri": f"models:/{version.name}/{version.number}",
            "aliases": dg.MetadataValue.json([CHALLENGER, CHAMPION] if verdict.passed else [CHALLENGER]),
            "promoted": verdict.passed,
            "gate": verdict.description,
            "test_set_version": int(tags[TEST_VERSION_TAG]),
        },
    )
    yield from check_results([reproduced, verdict], REGISTERED_MODEL)


def _tuned_run(store: "Store", dagster_run: str, database: str) -> str:
    """Return the MLflow run of this Dagster run's tuned model, else the newest one of the database."""
    mine = store.latest_search({DATABASE_TAG: database, DAGSTER_RUN_TAG: dagster_run})
    found = mine or store.latest_search({DATABASE_TAG: database})
    if found is None:
        raise TrackingError(
            "no finished search", where=f"MLflow experiment, database {database}", fix=f"materialize `{TUNED_MODEL}`"
        )
    return found


def _register(store: "Store", name: str, run_id: str, model_uri: str, test: "Matrix") -> "tuple[Version, CheckOutcome]":
    from mlops_assets.registry.versions import judge_reproduction, register_once, score, scores_from_bytes
    from mlops_assets.tracking.store import read_artifact

    trained = scores_from_bytes(read_artifact(store, run_id, SCORES_FILE))
    version = register_once(store, name, run_id, model_uri)
    return version, judge_reproduction(version, trained, score(store, version, test))


def _gate(store: "Store", version: "Version", test: "Matrix", rule: GateRule) -> "CheckOutcome":
    from mlops_assets.evaluation.metrics import average_precision
    from mlops_assets.registry.versions import CHAMPION, by_alias, score
    from mlops_assets.tracking.store import read_artifact

    report = json.loads(read_artifact(store, version.run_id, EVALUATION_FILE))
    champion = by_alias(store, version.name, CHAMPION)
    if champion == version:
        champion = None  # it does not compete with itself
    return judge_promotion(
        rule,
        candidate=report["metrics"]["average_precision"]["estimate"],
        fraud_rate=test.frauds / test.rows,
        champion=None if champion is None else average_precision(test.y, score(store, champion, test)),
        champion_name="" if champion is None else f"champion version {champion.number}",
    )
