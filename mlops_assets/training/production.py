"""The production model: the winning point fitted again on every row with a mature label, after the evaluation.

What belongs here: the number of trees, the alert threshold carried over from the evaluated model, and the result as
plain values. What does not: the evaluated model, which stays as it is (`final_model`), fitting over a cluster
(`engines`), MLflow, the promotion rule (`registry`).

The evaluated model has never seen the newest rows: they served to choose and to judge. What is judged is therefore
the procedure (this point, fitted on the rows known so far), and the production model is that procedure applied to
everything known. It has seen the test rows, so no figure of it on them means anything, and none is given.

Two fits are made. The *rehearsal* is fitted on what was known when the test rows began. On the test rows, which neither
it nor the evaluated model has seen, it shows what more and newer rows are worth, and which threshold gives as many
alerts as the evaluated model's. The production model then takes this threshold. Labels of the test rows have no say
in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.training.bagging import averaged
from mlops_assets.training.calibrated import calibrated
from mlops_assets.training.objective import fit_all, predict, quantized
from mlops_assets.training.recency import counted_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xgboost as xgb

    from mlops_assets.evaluation.threshold import Threshold
    from mlops_assets.training.final_model import FinalModel
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ProductionModel:
    """A model fitted on all rows with a mature label.

    Attributes:
        booster: The model.
        trees: Trees of the best point in it.
        rows: Rows it was fitted on.
        counted: What they add up to, weighted by their age (`recency`); the same number where they are not.
        frauds: Frauds among them.
        threshold: Alerts as many of the test rows in the rehearsal as the evaluated model does.
        rehearsed_average_precision: Average precision of the rehearsal on the test rows.
        rehearsed_scores: Scores that the rehearsal gives the test rows, float32 [test rows].
        test_scores: Scores of the test rows, float32 [test rows]. The model has seen them: they only serve to verify
            that what is registered is this model, bit for bit.
    """

    booster: xgb.Booster
    trees: int
    rows: int
    counted: float
    frauds: int
    threshold: Threshold
    rehearsed_average_precision: float
    rehearsed_scores: Scores
    test_scores: Scores

    def to_json_dict(self) -> dict[str, Any]:
        """Return the facts about the model as a document that strict JSON can hold."""
        return {
            "trees": self.trees,
            "rows": self.rows,
            "counted_rows": self.counted,
            "frauds": self.frauds,
            "threshold": self.threshold.to_json_dict(),
            "rehearsed_average_precision": self.rehearsed_average_precision,
        }


def refit(
    before_test: Callable[[], Matrix],
    everything: Callable[[], Matrix],
    test: Matrix,
    searched: npt.NDArray[np.int64],
    evaluated: FinalModel,
    result: SearchResult,
    search: SearchPlan,
) -> ProductionModel:
    """Rehearse on what was known when the test rows began, then fit on everything.

    Args:
        before_test: Returns the rows known when the test rows began, with the labels known then.
        everything: Returns all rows with a mature label.
        test: The rows that the evaluated model was evaluated on.
        searched: Day number of each training row of the search [rows].
        evaluated: The evaluated model.
        result: The finished search.
        search: What was searched.
    """
    point = result.best.point
    counted = [counted_rows(point, searched[:rows]) for rows in (len(searched), *result.older_rows)]

    def fitted(rows: Matrix) -> tuple[xgb.Booster, int]:
        trees = refit_trees(result, counted, counted_rows(point, rows.days))
        binned = quantized(rows, threads=result.threads)
        booster = averaged(fit_all(search.bag(point).members(trees), binned, threads=result.threads))
        return calibrated(booster, evaluated.calibration), trees

    rehearsed = predict(fitted(before_test())[0], test)
    rows = everything()
    booster, trees = fitted(rows)
    return ProductionModel(
        booster=booster,
        trees=trees,
        rows=rows.rows,
        counted=counted_rows(point, rows.days),
        frauds=rows.frauds,
        threshold=carried_over(evaluated.threshold, evaluated.test_scores, rehearsed),
        rehearsed_average_precision=average_precision(test.y, rehearsed),
        rehearsed_scores=rehearsed,
        test_scores=predict(booster, test),
    )


def carried_over(threshold: Threshold, evaluated: Scores, rehearsed: Scores) -> Threshold:
    """Return the threshold that alerts as many rows by the rehearsal's scores as the given one by the other scores.

    Tied scores are alerted together; where a tie would exceed the number of alerts, it is left out, unless it is the
    highest score. Where the evaluated model alerts no row, there is no rate to carry over, and the value is kept: both
    models give probabilities.

    Args:
        threshold: The evaluated model's.
        evaluated: The evaluated model's scores, float32 [rows]; rows that neither model has seen.
        rehearsed: The rehearsal's scores of the same rows, float32 [rows].
    """
    alerts = int(threshold.alerted(evaluated).sum())
    if not alerts:
        return replace(threshold, alerts=0, rows=len(evaluated))
    falling = -np.sort(-rehearsed)
    value = falling[alerts - 1]
    if alerts < len(falling) and falling[alerts] == value < falling[0]:
        value = falling[falling > value][-1]
    return replace(threshold, value=float(value), alerts=int((rehearsed >= value).sum()), rows=len(rehearsed))


def refit_trees(result: SearchResult, searched: Sequence[float], rows: float) -> int:
    """Return the number of trees of the best point for a fit on more rows than the search fitted on.

    Trees grow in proportion to the rows, each by its weight; where the search has several folds, all of them say how
    many trees a row is worth.

    Args:
        result: The finished search.
        searched: Training rows of each fold, newest first.
        rows: Rows of the fit.
    """
    trees = [fold.rounds for fold in result.best.folds] or [result.best.rounds]
    return max(1, round(sum(trees) * rows / sum(searched)))
