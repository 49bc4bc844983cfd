"""From a tuned model's run to a version with aliases: register, verify bit for bit, challenger, gate, champion.

What belongs here: the order of these steps. What does not: calls of the registry (`versions`), the comparison with the
champion (`comparison`), the rule (`gate`), Dagster.

What is registered is what is served: the run's production model if it has one, otherwise its evaluated model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.columns import SET_COLUMN
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.splits.split_checks import SetSummary
from mlops_assets.data.splits.split_frames import summarize, union_of
from mlops_assets.errors import TrackingError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lineage import (
    DAGSTER_RUN_TAG,
    DATABASE_TAG,
    MODEL_URI_TAG,
    ROLLED_BACK_TAG,
    TEST_VERSION_TAG,
)
from mlops_assets.registry.alias_moves import REGISTRATION_LOCK, ChampionLedger, Move
from mlops_assets.registry.approval import wait_for_approval
from mlops_assets.registry.comparison import against_simple, contest
from mlops_assets.registry.gate import Verdict, already_champion, judge_promotion, rolled_back
from mlops_assets.registry.gate_evidence import gathered
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets.registry.golden import keep_golden
from mlops_assets.registry.judged_rows import judged_rows
from mlops_assets.registry.ledger import Entry, carried_out
from mlops_assets.registry.page import Page, page_of
from mlops_assets.registry.pair import require_columns
from mlops_assets.registry.policies import first_policy, kept_points
from mlops_assets.registry.record import record_verdict
from mlops_assets.registry.retirement import require_active
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import (
    CHALLENGER,
    CHAMPION,
    Version,
    by_alias,
    judge_served_scores,
    register_once,
    set_alias,
)
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.tracking.store import Store
from mlops_assets.training.engines.choice import collects
from mlops_assets.training.matrix import Matrix, matrix_columns, to_matrix

_SAMPLE_ROWS = 200_000


@dataclass(frozen=True)
class RegistrationReport:
    """A version and the decision about it.

    Attributes:
        version: The version in the registry.
        test_version: Version of the test set used to verify and evaluate it.
        reproduced: Whether the version gives the same scores on the test rows as the trained model.
        verdict: Whether it may become champion; None when the scores differ, and then it gets no alias.
        moves: The ledger of champions, oldest first; empty where none is kept, and where nothing was judged.
        page: Pictures and a table of alert budgets; empty where nothing was judged.
        card: The model card; empty where nothing was judged.
    """

    version: Version
    test_version: int
    reproduced: CheckOutcome
    verdict: Verdict | None
    moves: tuple[Entry, ...] = ()
    page: Page = field(default_factory=Page)
    card: str = ""

    @property
    def aliases(self) -> list[str]:
        """The aliases that the version received."""
        if self.verdict is None:
            return []
        return [CHALLENGER, CHAMPION] if self.verdict.promoted else [CHALLENGER]


def register_tuned(
    store: Store, lakehouse: Lakehouse, contract: Contract, rule: GateRule, *, name: str, dagster_run: str
) -> RegistrationReport:
    """Register the newest tuned model of a database, and make it champion if it passes the gate.

    Args:
        store: Tracking store and registry.
        lakehouse: Where the test set is.
        contract: Names and roles of the columns.
        rule: The requirements for a champion.
        name: Name of the model in the registry.
        dagster_run: A model tuned in this run takes precedence.

    Raises:
        RetiredError: The model is retired.
        TrackingError: There is no tuned model, its artifacts can't be read, or MLflow rejects a request.
        LedgerError: The ledger of champions is not what was written.
        StorageError: The test set is missing.
    """
    require_columns(rule, contract)
    with store.answering():
        run = TunedRun.read(store, _tuned_run(store, dagster_run, lakehouse.database))
        test_version = int(run.tags[TEST_VERSION_TAG])
        frame = lakehouse.read(SET_TABLES["test"], test_version)
        spread = run.params.get("engine") == "distributed" or not collects(frame.count(), contract, lakehouse.session)
        test = judged_rows(frame, contract, on_cluster=spread)
        with lakehouse.exclusive(REGISTRATION_LOCK):
            require_active(store, name)
            ledger = ChampionLedger.of(store, name, lakehouse)
            ledger.settle()
            trained = scores_from_bytes(read_artifact(store, run.run_id, run.served_scores))
            version = register_once(store, name, run.run_id, run.tags[MODEL_URI_TAG], run.production_uri)
            loaded = load_verified(store, name, version.number)
            reproduced = judge_served_scores(version, trained, test.score(loaded))
            if not reproduced.passed:
                return RegistrationReport(version, test_version, reproduced, verdict=None)
            keep_golden(store, loaded, test)
            policy = first_policy(store, loaded, run)
            set_alias(store, version, CHALLENGER)
            champion = by_alias(store, name, CHAMPION)
            if champion == version:  # it must not compete with itself
                return RegistrationReport(version, test_version, reproduced, already_champion(version.number))
            if withdrawn := loaded.version.tags.get(ROLLED_BACK_TAG):
                return RegistrationReport(version, test_version, reproduced, rolled_back(withdrawn))
            against = None
            if champion is not None:
                reign = carried_out(ledger.entries())
                since = reign[-1].number if reign else 0
                earlier = gathered(store, name, champion.number, since, version.number)
                against = contest(store, lakehouse, contract, rule, run, loaded, champion, test, earlier)
            train = sampled(lakehouse, contract, run)
            verdict = judge_promotion(
                rule,
                average_precision=run.average_precision,
                judged=run.judged,
                fraud_rate=test.narrow.frauds / test.rows,
                contest=against,
                simple=against_simple(store, contract, run, train, test) if champion is None else None,
                drift=test.drift_from(train),
            ).after_approval(rule.approvals)
            sets = summarized(lakehouse, contract, run)
            said = record_verdict(store, loaded, run, verdict, rule, champion, against, contract=contract, sets=sets)
            if verdict.awaited:
                wait_for_approval(ledger, version, champion, verdict.awaited)
            if verdict.promoted:
                evidence = json.dumps(verdict.to_json_dict())
                ledger.move(version.number, Move("promoted", verdict.reason, evidence, dagster_run))
            moves = tuple(ledger.entries())
            pair = None if against is None else against.pair
            page = page_of(pair, moves, kept_points(store, run), policy.alerts_per_day)
            return RegistrationReport(version, test_version, reproduced, verdict, moves, page, said)


def sampled(lakehouse: Lakehouse, contract: Contract, run: TunedRun) -> Matrix:
    """Return training rows of a run, all of them or a sample of about `_SAMPLE_ROWS`."""
    frame = lakehouse.read(SET_TABLES["train"], run.tables[SET_TABLES["train"]]).select(*matrix_columns(contract))
    rows = frame.count()  # Delta counts them without reading them
    if rows > _SAMPLE_ROWS:
        frame = frame.sample(_SAMPLE_ROWS / rows, seed=1)
    return to_matrix(frame.toArrow(), contract)


def summarized(lakehouse: Lakehouse, contract: Contract, run: TunedRun) -> dict[str, SetSummary]:
    """Return what the sets of a run hold, by the names of their tables."""
    sets = {name: lakehouse.read(name, run.tables[name]) for name in SET_TABLES.values()}
    found = summarize(union_of(sets), contract, F.col(SET_COLUMN))
    return {name: found[name] for name in sets}


def _tuned_run(store: Store, dagster_run: str, database: str) -> str:
    """Return the MLflow run of this Dagster run's tuned model, or the newest one of the database."""
    mine = store.latest_search({DATABASE_TAG: database, DAGSTER_RUN_TAG: dagster_run})
    newest = mine or store.latest_search({DATABASE_TAG: database})
    if newest is None:
        raise TrackingError(
            "there is no finished search",
            where=f"MLflow experiment, database {database}",
            fix="materialize `tuned_model`",
        )
    return newest
