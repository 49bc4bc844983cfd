"""A candidate against the champion on rows that neither has seen: who stands for the candidate, and what they score.

What belongs here: choosing rows, scores and thresholds of both sides. What does not: the decision (`gate`), which rows
a model has seen (`lakehouse/unseen_rows`), the metrics and their intervals (`evaluation`).

A candidate that is its evaluated model stands for itself: it has not seen its test rows. A production model has, so its
point stands for it, fitted on less. Against a champion that is a production model itself, that is what the champion was
fitted on: then nothing but the point differs. Otherwise, and for a refresh, whose point does not differ, it is the
rehearsal, which was fitted on what was known when the test rows began.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.days import on_whole_days
from mlops_assets.errors import EvaluationError, PlatformError, StorageError, TrackingError
from mlops_assets.evaluation.bootstrap import Contender, Gain, compare
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.lakehouse.unseen_rows import UNSEEN, trained_on, with_unseen
from mlops_assets.lineage import DATABASE_TAG, REHEARSED_SCORES_FILE, SCORES_FILE, SPLIT_ID_TAG
from mlops_assets.registry.contest import RANKING, Contest
from mlops_assets.registry.pair import Pair, parts_of, reasons_in_common
from mlops_assets.registry.tuned_run import ITSELF, REHEARSAL, TunedRun
from mlops_assets.registry.verified import BrokenVersionError, UnnotedVersionError, load_verified
from mlops_assets.registry.versions import Version
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.training.calibrated import calibrated
from mlops_assets.training.engines.engines import fit_elsewhere
from mlops_assets.training.matrix import event_seconds
from mlops_assets.training.production import carried_over

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.registry.gate_evidence import Evidence
    from mlops_assets.registry.gate_rule import GateRule
    from mlops_assets.registry.judged_rows import JudgedRows
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.tracking.store import Store
    from mlops_assets.training.engines.choice import Engine
    from mlops_assets.training.matrix import Matrix

Mask = npt.NDArray[np.bool_]
SAME_ROWS = "its point, fitted on the rows that the champion was fitted on"


def contest(
    store: Store,
    lakehouse: Lakehouse,
    contract: Contract,
    rule: GateRule,
    candidate: TunedRun,
    model: VerifiedModel,
    champion: Version,
    test: JudgedRows,
    earlier: Evidence,
) -> Contest:
    """Compare a candidate with the champion.

    Args:
        store: Tracking store and registry.
        lakehouse: Where the champion's sets are.
        contract: Names and roles of the columns.
        rule: How many unseen frauds a comparison takes.
        candidate: The candidate's run.
        model: The candidate's version.
        champion: The champion.
        test: The candidate's test set.
        earlier: Evidence of the gates before this one.

    Raises:
        TrackingError: An artifact of the candidate can't be read, or the champion does not accept the features.
    """
    unjudged = Contest(f"champion version {champion.number}", (time.time() - champion.created) / SECONDS_PER_DAY)
    try:
        loaded = load_verified(store, champion.name, champion.number)
    except UnnotedVersionError as error:  # of a version of an earlier release nothing is known; that is no damage
        return replace(unjudged, obstacle=_text(error))
    except BrokenVersionError as error:
        return replace(unjudged, broken=_text(error))
    if model.sha256 == loaded.sha256:
        return replace(unjudged, identical=True)
    try:
        old = TunedRun.read(store, champion.run_id)
        seen = _seen(lakehouse, contract, old, champion)
    except (StorageError, TrackingError) as error:
        return replace(unjudged, obstacle=f"what {unjudged.champion} has seen is not known: {_text(error)}")
    held_by = (old, champion, loaded)
    found = _judged(store, lakehouse, contract, rule, (candidate, model), held_by, seen, test, earlier, unjudged)
    return replace(found, evidence=earlier.value, gates=earlier.gates) if found.counted is None else found


def _seen(lakehouse: Lakehouse, contract: Contract, old: TunedRun, champion: Version) -> DataFrame:
    """Return the rows that the champion was trained on."""
    if old.tags[DATABASE_TAG] != lakehouse.database:
        raise TrackingError(
            f"it was trained on tables of database {old.tags[DATABASE_TAG]}",
            where=f"MLflow run {old.run_id}",
            fix="register models of several databases under several names",
        )
    return trained_on(lakehouse, contract, old.tables, old.tags[SPLIT_ID_TAG], production=champion.production)


def _judged(
    store: Store,
    lakehouse: Lakehouse,
    contract: Contract,
    rule: GateRule,
    offered_by: tuple[TunedRun, VerifiedModel],
    held_by: tuple[TunedRun, Version, VerifiedModel],
    seen: DataFrame,
    test: JudgedRows,
    earlier: Evidence,
    unjudged: Contest,
) -> Contest:
    """Compare on the rows that neither has seen; `offered_by` and `held_by` are a run, its version and its model."""
    (candidate, model), (old, champion, loaded) = offered_by, held_by
    marked = with_unseen(test.frame, seen, contract)
    table = _collected(marked, contract, rule)
    at, unseen = event_seconds(table.column(contract.event_time)), table.column(UNSEEN).to_numpy().astype(bool)
    refresh = replace(candidate.bag, seed=old.bag.seed) == old.bag
    frauds = int(test.narrow.y[unseen].sum())
    found = replace(unjudged, refresh=refresh, rows=int(unseen.sum()), frauds=frauds)
    if frauds < rule.min_unseen_frauds:
        return found
    rows = _rows(test.narrow, unseen, at, contract, candidate)
    known = None if refresh or not champion.production else seen
    method, contender = _stand_in(store, lakehouse, contract, candidate, known, marked, test, unseen)
    held = Contender(test.score(loaded)[unseen], old.threshold(production=champion.production).value)
    pair = Pair(rows, contender, held, _design(candidate))
    parts = parts_of(table.filter(table.column(UNSEEN)), contract, rule, rows.amounts)
    try:
        comparison = pair.compared(levels={RANKING: rule.level})
        slices = pair.sliced(parts, rule.min_slice_frauds)
        added = None if refresh else pair.counted(earlier, at[unseen], comparison.gains[RANKING], rule)
    except EvaluationError as error:  # such as scores that are no probabilities
        return replace(found, method=method, broken=_text(error))
    if added is not None:
        found = replace(found, counted=added, evidence=earlier.value * added.factor, gates=earlier.gates + 1)
    return replace(
        found,
        method=method,
        fraud_money=0.0 if rows.amounts is None else float(rows.amounts[rows.y == 1].sum()),
        gains=comparison.gains,
        slices=slices,
        reason_overlap=reasons_in_common(model, loaded, test.at(np.flatnonzero(unseen)[pair.highest])),
        pair=pair,
    )


def against_simple(
    store: Store, contract: Contract, candidate: TunedRun, train: Matrix, test: JudgedRows
) -> dict[str, Gain]:
    """Return the gain in average precision over simple scores on the test rows, by their names.

    Args:
        store: Where the candidate's scores are.
        contract: Names and roles of the columns.
        candidate: The candidate's run; its rehearsal stands for a production model.
        train: Rows that simple scores are fitted on.
        test: The candidate's test set.
    """
    file = SCORES_FILE if candidate.production is None else REHEARSED_SCORES_FILE
    scores = scores_from_bytes(read_artifact(store, candidate.run_id, file))
    threshold = candidate.threshold(production=candidate.production is not None).value
    rows = _rows(test.narrow, np.ones(test.rows, dtype=bool), None, contract, candidate)
    return {
        name: compare(
            rows,
            candidate=Contender(scores, threshold),
            baseline=Contender(simple, threshold),
            design=_design(candidate),
            wanted=(RANKING,),
        ).gains[RANKING]
        for name, simple in test.simple_scores(train).items()
    }


def _text(error: PlatformError) -> str:
    return f"{error.what} [{error.where}]"


def _collected(marked: DataFrame, contract: Contract, rule: GateRule) -> pa.Table:
    """Return what `Matrix` does not hold of the rows, in its order; the names of the rows stay on the cluster."""
    columns = [contract.event_time, UNSEEN, *rule.slice_columns]
    return marked.orderBy(contract.event_time, BATCH_ID, ROW_NUMBER).select(*dict.fromkeys(columns)).toArrow()


def _design(candidate: TunedRun) -> Design:
    return Design(int(candidate.params["bootstrap_replicates"]), int(candidate.params["seed"]))


def _rows(
    test: Matrix, unseen: Mask, at: npt.NDArray[np.float64] | None, contract: Contract, candidate: TunedRun
) -> Rows:
    """Return the rows that are compared; without event times days are as whole as those of the test set."""
    whole = test.on_whole_day if at is None else on_whole_days(at[unseen], contract.time_zone)
    return Rows(
        y=test.y[unseen],
        days=test.days[unseen],
        alerts_per_day=int(candidate.params["alerts_per_day"]),
        on_whole_day=whole,
        entities=None if test.entities is None else test.entities[unseen],
        amounts=None if test.amounts is None else test.amounts[unseen],
        alert_cost=float(candidate.params["alert_cost"]),
    )


def _stand_in(
    store: Store,
    lakehouse: Lakehouse,
    contract: Contract,
    candidate: TunedRun,
    known: DataFrame | None,
    marked: DataFrame,
    test: JudgedRows,
    unseen: Mask,
) -> tuple[str, Contender]:
    """Return what stands for the candidate on the unseen rows, and its name.

    Args:
        store: Where the candidate's scores are.
        lakehouse: Where a fit takes place.
        contract: Names and roles of the columns.
        candidate: The candidate's run.
        known: What the champion was fitted on, if the candidate's point is to be fitted on the same; else None.
        marked: The test rows, with `UNSEEN`.
        test: The test rows.
        unseen: Which of them are unseen [rows].
    """
    evaluated = scores_from_bytes(read_artifact(store, candidate.run_id, SCORES_FILE))[unseen]
    chosen = candidate.threshold(production=False)
    if candidate.production is None:
        return ITSELF, Contender(evaluated, chosen.value)
    # A feature that the champion's rows do not have can't be fitted on them.
    if known is None or not set(contract.features) <= set(known.columns):
        rehearsed = scores_from_bytes(read_artifact(store, candidate.run_id, REHEARSED_SCORES_FILE))[unseen]
        return REHEARSAL, Contender(rehearsed, candidate.threshold(production=True).value)
    booster = fit_elsewhere(
        cast("Engine", candidate.params["engine"]),
        lakehouse.session,
        known,
        marked.where(UNSEEN),
        contract,
        candidate.bag,
        trees_per_row=candidate.trees_per_row,
        threads=int(candidate.params["threads"]),
    )
    scores = test.predict(calibrated(booster, candidate.calibration))[unseen]
    return SAME_ROWS, Contender(scores, carried_over(chosen, evaluated, scores).value)
