"""From the best point to a model with a threshold and one unbiased evaluation.

What belongs here: the refit, the choice of the threshold on validation rows, and the only evaluation on the test
rows. What does not: the search, MLflow, Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explanation_report import ExplanationReport, report
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.operating_points import OperatingPoints
from mlops_assets.evaluation.ranking import rows_of_budget
from mlops_assets.evaluation.recalibration import Recalibration, recalibration
from mlops_assets.evaluation.report import Evaluation, evaluate
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.evaluation.threshold import CostChoice, Threshold, by_alert_budget, by_cost
from mlops_assets.tracking.category_codes import levels_of
from mlops_assets.training.bagging import averaged
from mlops_assets.training.calibrated import calibrated
from mlops_assets.training.categories import to_frame
from mlops_assets.training.objective import BinnedRows, fit_all, judge, quantized
from mlops_assets.training.pictures import Pictures, pictures_of
from mlops_assets.training.scored_rows import ScoredRows, past_frauds, pooled, scored
from mlops_assets.training.search.shared_data import Samples

if TYPE_CHECKING:
    import pandas as pd
    import xgboost as xgb

    from mlops_assets.evaluation.cards import PastFrauds
    from mlops_assets.training.folds import Fold
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult

_EXAMPLE_ROWS = 1_000
REFIT_REPRODUCES = "refit_reproduces_best_trial"


@dataclass(frozen=True)
class EvaluationPlan:
    """How the refitted model is evaluated.

    Attributes:
        threshold_rule: `cost` weighs the amounts of missed frauds against the cost of alerts; `alert_budget` uses
            the whole daily budget.
        alert_cost: Cost of reviewing one alert, in the unit of the amounts.
        alerts_per_day: Alerts that can be reviewed per day.
        replicates: Bootstrap replicates for each interval.
        seed: Seed of the bootstrap.
        calibrate: Whether scores are calibrated where that is shown to help (`evaluation/recalibration`).
    """

    threshold_rule: Literal["cost", "alert_budget"] = "cost"
    alert_cost: float = 10.0
    alerts_per_day: int = 100
    replicates: int = 500
    seed: int = 42
    calibrate: bool = False

    @property
    def design(self) -> Design:
        """How intervals are made."""
        return Design(self.replicates, self.seed)


@dataclass(frozen=True)
class FinalModel:
    """The refitted model and its results.

    Attributes:
        booster: Trained on the training rows, with calibrated scores if that helps.
        reproduction: Whether the refit reproduced the best trial's validation value exactly.
        threshold: Chosen on the validation rows.
        points: What each threshold did on the validation rows.
        evaluation: The report on the test rows.
        test_scores: Probability of fraud, float32 [test rows].
        explanation: Which features drive the model, on the test rows.
        pictures: Pictures, without those of the explanation.
        example: A row that nobody has made: of each feature the median of validation rows, float32 [1, features].
        calibration: What its scores are calibrated by; None if they are not.
    """

    booster: xgb.Booster
    reproduction: CheckOutcome
    threshold: Threshold
    points: OperatingPoints
    evaluation: Evaluation
    test_scores: npt.NDArray[np.float32]
    explanation: ExplanationReport
    pictures: Pictures
    example: npt.NDArray[np.float32]
    calibration: Recalibration | None = None

    @property
    def example_frame(self) -> pd.DataFrame:
        """The example as a caller of the model would send it."""
        return to_frame(self.example, self.booster.feature_names or [], levels_of(self.booster))


def finish(
    train: Matrix,
    validation: Matrix,
    read_test: Callable[[], Matrix],
    result: SearchResult,
    search: SearchPlan,
    plan: EvaluationPlan,
    older: Sequence[Fold] = (),
    *,
    between: Sequence[Matrix] = (),
    label_delay_days: float = 0.0,
) -> FinalModel:
    """Refit the best point, choose the threshold on validation rows, then evaluate once on the test rows.

    The model is fitted on the training rows only: a threshold chosen on the validation rows is biased if the model
    has seen them. Where the search has several folds, it is chosen on the rows of all of them, each scored by the model
    of its own fold.

    Args:
        train: Rows to fit on.
        validation: Rows for the threshold.
        read_test: Returns the test rows; called once, after every choice has been made.
        result: The finished search.
        search: What was searched.
        plan: How to evaluate.
        older: Folds before the validation rows that the search has used.
        between: More rows from before the test rows, such as those of the gaps; their frauds make cards known too.
        label_delay_days: Days until the label of a fraud is known, and its card as compromised.

    Raises:
        EvaluationError: The threshold rule needs amounts that the data do not have, or a metric is not defined.
    """
    binned = quantized(train, threads=result.threads)
    best = result.best  # its rounds, not all its trees: early stopping may have dropped the last ones

    def fitted(rows: BinnedRows, rounds: int) -> list[xgb.Booster]:
        return fit_all(search.bag(best.point).members(rounds), rows, threads=result.threads)

    members = fitted(binned, best.rounds)
    value = judge(
        search.objective, validation.y, members[0].predict(quantized(validation, threads=result.threads, ref=binned))
    )
    booster = averaged(members)
    known = [scored(booster, validation)]
    for fold, record in zip(older, best.folds[1:], strict=True):
        part = quantized(Samples.of(train).first(fold.train_rows), ref=binned, threads=result.threads)
        known.append(scored(averaged(fitted(part, record.rounds)), fold.validation))
    return conclude(
        booster,
        judge_refit(value, result),
        pooled(known),
        lambda final: scored(final, read_test()),
        result,
        search,
        plan,
        past=past_frauds(
            [(rows.y, rows.days, rows.entities) for rows in (train, validation, *between)], label_delay_days
        ),
    )


def conclude(
    booster: xgb.Booster,
    reproduction: CheckOutcome,
    validation: ScoredRows,
    read_test: Callable[[xgb.Booster], ScoredRows],
    result: SearchResult,
    search: SearchPlan,
    plan: EvaluationPlan,
    *,
    past: PastFrauds | None,
) -> FinalModel:
    """Calibrate and choose the threshold on validation rows, then evaluate and explain once on the test rows.

    Args:
        booster: The refitted model.
        reproduction: Whether the refit is the winning model.
        validation: Rows for the threshold, scored.
        read_test: Returns the test rows, scored by a model; called once, after every choice has been made.
        result: The finished search.
        search: What was searched.
        plan: How to evaluate.
        past: Frauds of the training and validation rows, or None when the contract has no entity.

    Raises:
        EvaluationError: The threshold rule needs amounts that the data do not have, or a metric is not defined.
    """
    calibration = _calibration(validation, plan) if plan.calibrate else None
    if calibration is not None:
        booster = calibrated(booster, calibration)
        validation = replace(validation, scores=calibration(validation.scores).astype(np.float32))
    threshold, choice = _choose_threshold(validation, plan)
    points = OperatingPoints.of(
        validation.y, validation.scores, validation.days, validation.amounts, validation.on_whole_day
    )
    test = read_test(booster)
    rows = Rows(
        y=test.y,
        days=test.days,
        alerts_per_day=plan.alerts_per_day,
        on_whole_day=test.on_whole_day,
        entities=test.entities,
        past=past,
        amounts=test.amounts,
        alert_cost=plan.alert_cost,
    )
    evaluation = evaluate(rows, scores=test.scores, threshold=threshold, design=plan.design)
    pictures = pictures_of(test, threshold, choice, result, search, _gains(booster))
    example = _typical(validation.rows_at(np.arange(min(_EXAMPLE_ROWS, len(validation.y)), dtype=np.int64)))
    explanation = report(
        booster,
        booster.feature_names or [],
        test.y,
        test.scores,
        test.rows_at,
        seed=plan.seed,
        levels=levels_of(booster),
    )
    return FinalModel(
        booster, reproduction, threshold, points, evaluation, test.scores, explanation, pictures, example, calibration
    )


def _calibration(validation: ScoredRows, plan: EvaluationPlan) -> Recalibration | None:
    rows = Rows(y=validation.y, days=validation.days, alerts_per_day=plan.alerts_per_day, entities=validation.entities)
    return recalibration(rows, validation.scores, plan.design)


def _typical(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return each feature's median, a value that occurs in it [1, features]; NaN where all are missing."""
    ordered = np.sort(rows, axis=0)  # NaN last
    last = np.maximum((~np.isnan(rows)).sum(axis=0) - 1, 0)
    return ordered[last // 2, np.arange(rows.shape[1])][np.newaxis]


def judge_refit(value: float, result: SearchResult) -> CheckOutcome:
    """Compare the refit with the best trial, computed in the same way; this detects a wrongly decoded point.

    Args:
        value: The objective of the refit on the validation rows.
        result: The finished search.
    """
    best = result.best
    reached = best.folds[0].value if best.folds else best.value
    same = value == reached
    text = f"refit {value!r}, best trial (number {result.best.number}) {reached!r} on the validation rows"
    if not same:
        text += ": the refit is not the winning model; executors and driver may have different XGBoost versions or CPUs"
    return CheckOutcome(REFIT_REPRODUCES, passed=same, description=text, details={"refit": value})


def no_amounts() -> EvaluationError:
    """Return the error of a threshold by cost on data without amounts."""
    return EvaluationError(
        "a threshold by cost needs amounts",
        where="evaluation configuration",
        fix="name the amount column in the contract, or choose the threshold rule alert_budget",
    )


def _choose_threshold(validation: ScoredRows, plan: EvaluationPlan) -> tuple[Threshold, CostChoice | None]:
    if plan.threshold_rule == "alert_budget":
        counted = rows_of_budget(validation.y == 1, validation.on_whole_day)
        return by_alert_budget(validation.scores[counted], validation.days[counted], plan.alerts_per_day), None
    if validation.amounts is None:
        raise no_amounts()
    choice = by_cost(validation.y, validation.scores, validation.amounts, plan.alert_cost)
    return choice.threshold, choice


def _gains(booster: xgb.Booster) -> dict[str, float]:
    gains = booster.get_score(importance_type="gain")
    return {str(name): float(gain if isinstance(gain, int | float) else gain[0]) for name, gain in gains.items()}
