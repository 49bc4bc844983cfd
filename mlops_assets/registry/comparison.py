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
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.days import on_whole_days
from mlops_assets.errors import PlatformError, StorageError, TrackingError
from mlops_assets.evaluation.bootstrap import Contender, compare
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.lakehouse.unseen_rows import UNSEEN, trained_on, with_unseen
from mlops_assets.lineage import DATABASE_TAG, REHEARSED_SCORES_FILE, SCORES_FILE, SPLIT_ID_TAG
from mlops_assets.registry.gate import Contest, GateRule
from mlops_assets.registry.tuned_run import ITSELF, REHEARSAL, TunedRun
from mlops_assets.registry.versions import Version, booster_bytes, score
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.training.engines.engines import fit_elsewhere
from mlops_assets.training.matrix import event_seconds, in_order
from mlops_assets.training.objective import predict
from mlops_assets.training.production import carried_over

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.tracking.store import Store
    from mlops_assets.training.engines.choice import Engine
    from mlops_assets.training.matrix import Matrix

Mask = npt.NDArray[np.bool_]
SAME_ROWS = "its point, fitted on the rows that the champion was fitted on"


@dataclass(frozen=True)
class JudgedRows:
    """The candidate's test rows.

    Attributes:
        frame: The contract's and the platform's columns.
        matrix: The same rows as arrays, in order.
    """

    frame: DataFrame
    matrix: Matrix


def contest(
    store: Store,
    lakehouse: Lakehouse,
    contract: Contract,
    rule: GateRule,
    candidate: TunedRun,
    version: Version,
    champion: Version,
    test: JudgedRows,
) -> Contest:
    """Compare a candidate with the champion.

    Args:
        store: Tracking store and registry.
        lakehouse: Where the champion's sets are.
        contract: Names and roles of the columns.
        rule: How many unseen frauds a comparison takes.
        candidate: The candidate's run.
        version: The candidate's version.
        champion: The champion.
        test: The candidate's test set.

    Raises:
        TrackingError: An artifact of the candidate can't be read, or the champion does not accept the features.
        EvaluationError: A metric is not defined on the unseen rows.
    """
    name = f"champion version {champion.number}"
    age = (time.time() - champion.created) / SECONDS_PER_DAY
    if booster_bytes(store, version) == booster_bytes(store, champion):
        return Contest(name, age, identical=True)
    try:
        old = TunedRun.read(store, champion.run_id)
        if old.tags[DATABASE_TAG] != lakehouse.database:
            return Contest(name, age, obstacle=f"{name} was trained on tables of database {old.tags[DATABASE_TAG]}")
        seen = trained_on(lakehouse, contract, old.tables, old.tags[SPLIT_ID_TAG], production=champion.production)
    except (StorageError, TrackingError) as error:
        return Contest(name, age, obstacle=f"what {name} has seen is not known: {_text(error)}")

    marked = with_unseen(test.frame, seen, contract)
    at, unseen = _collected(marked, contract)
    refresh = candidate.point == old.point
    frauds = int(test.matrix.y[unseen].sum())
    if frauds < rule.min_unseen_frauds:
        return Contest(name, age, refresh=refresh, rows=int(unseen.sum()), frauds=frauds)
    rows = _rows(test.matrix, unseen, at, contract, candidate)
    known = None if refresh or not champion.production else seen
    method, contender = _stand_in(store, lakehouse, contract, candidate, known, marked, test.matrix, unseen)
    held = Contender(score(store, champion, test.matrix)[unseen], old.threshold(production=champion.production).value)
    design = Design(int(candidate.params["bootstrap_replicates"]), int(candidate.params["seed"]))
    comparison = compare(rows, candidate=contender, baseline=held, design=design)
    money = 0.0 if rows.amounts is None else float(rows.amounts[rows.y == 1].sum())
    return Contest(
        name,
        age,
        refresh=refresh,
        method=method,
        rows=len(rows.y),
        frauds=frauds,
        fraud_money=money,
        gains=comparison.gains,
    )


def _text(error: PlatformError) -> str:
    return f"{error.what} [{error.where}]"


def _collected(marked: DataFrame, contract: Contract) -> tuple[npt.NDArray[np.float64], Mask]:
    """Return event times in seconds [rows], and which rows are unseen [rows], in the order of `Matrix`."""
    columns = (contract.event_time, BATCH_ID, ROW_NUMBER, UNSEEN)
    table = in_order(marked.select(*columns).toArrow(), contract)
    return event_seconds(table.column(contract.event_time)), table.column(UNSEEN).to_numpy().astype(bool)


def _rows(test: Matrix, unseen: Mask, at: npt.NDArray[np.float64], contract: Contract, candidate: TunedRun) -> Rows:
    return Rows(
        y=test.y[unseen],
        days=test.days[unseen],
        alerts_per_day=int(candidate.params["alerts_per_day"]),
        on_whole_day=on_whole_days(at[unseen], contract.time_zone),
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
    test: Matrix,
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
        candidate.point,
        trees_per_row=candidate.production["trees"] / candidate.production["rows"],
        seed=int(candidate.params["seed"]),
        threads=int(candidate.params["threads"]),
    )
    scores = predict(booster, test.where(unseen))
    return SAME_ROWS, Contender(scores, carried_over(chosen, evaluated, scores).value)
