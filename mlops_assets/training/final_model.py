"""From the best point to a model with a threshold and one honest report.

What belongs here: the refit, the choice of the threshold on validation rows, and the single look at the test rows.
What does not: the search, MLflow, Dagster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explanation_report import ExplanationReport, report
from mlops_assets.evaluation.plots import curves as plots
from mlops_assets.evaluation.report import Evaluation, evaluate
from mlops_assets.evaluation.threshold import CostChoice, Threshold, by_alert_budget, by_cost
from mlops_assets.training.objective import MAXIMIZED, fit, judge, predict, quantized
from mlops_assets.training.search.plots import tuning_history

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult

_EXAMPLE_ROWS = 3
REFIT_REPRODUCES = "refit_reproduces_best_trial"


@dataclass(frozen=True)
class EvaluationPlan:
    """How the refitted model is evaluated.

    Attributes:
        threshold_rule: `cost` weighs missed frauds by amount against the cost of an alert; `alert_budget` spends
            the daily budget.
        alert_cost: Cost of looking at one alert, in the unit of the amounts.
        alerts_per_day: Alerts that can be looked at per day.
        replicates: Bootstrap replicates behind each interval.
        seed: Seed of the bootstrap.
    """

    threshold_rule: Literal["cost", "alert_budget"] = "cost"
    alert_cost: float = 10.0
    alerts_per_day: int = 100
    replicates: int = 500
    seed: int = 42


@dataclass(frozen=True)
class FinalModel:
    """The refitted model and all that is said of it.

    Attributes:
        booster: Trained on the training rows.
        reproduction: Whether the refit reached the best trial's validation value exactly.
        threshold: Chosen on the validation rows.
        evaluation: The report on the test rows.
        test_scores: Probability of fraud, float32 [test rows].
        explanation: What drives the model, on the test rows.
        pictures: PNG by file name; those of the explanation are not among them.
        example: Feature values of the first validation rows, float32 [at most 3, features].
    """

    booster: xgb.Booster
    reproduction: CheckOutcome
    threshold: Threshold
    evaluation: Evaluation
    test_scores: npt.NDArray[np.float32]
    explanation: ExplanationReport
    pictures: dict[str, bytes]
    example: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a set and what the model says of them, in the order of `Matrix`.

    Attributes:
        y: uint8 [rows], 1 = fraud.
        scores: Probability of fraud, float32 [rows].
        days: int64 [rows], day number of the event.
        amounts: float64 [rows], money at stake, or None when the contract has no amount.
        rows_at: Returns feature values, float32 [asked, features], of the rows at positions [asked].
    """

    y: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    days: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64] | None
    rows_at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def finish(
    train: Matrix,
    validation: Matrix,
    read_test: Callable[[], Matrix],
    found: SearchResult,
    search: SearchPlan,
    plan: EvaluationPlan,
) -> FinalModel:
    """Refit the best point, choose the threshold on validation rows, then evaluate once on the test rows.

    The model is fitted on the training rows alone: a threshold chosen on validation rows is only honest for a model
    that has not seen them.

    Args:
        train: Rows to fit on.
        validation: Rows for the threshold.
        read_test: Returns the test rows; called once, after every choice has been made.
        found: The finished search.
        search: What was searched.
        plan: How to evaluate.

    Raises:
        EvaluationError: The threshold rule needs amounts that the data do not have, or a metric is not defined.
    """
    binned = quantized(train, threads=found.threads)
    best = found.best  # exactly its trees: early stopping may have left the last ones out
    booster = fit(best.point, binned, seed=search.seed, threads=found.threads, rounds=best.rounds)
    value = judge(
        search.objective, validation.y, booster.predict(quantized(validation, threads=found.threads, ref=binned))
    )
    return conclude(
        booster,
        judge_refit(value, found),
        _scored(booster, validation),
        lambda: _scored(booster, read_test()),
        found,
        search,
        plan,
    )


def conclude(
    booster: xgb.Booster,
    reproduction: CheckOutcome,
    validation: ScoredRows,
    read_test: Callable[[], ScoredRows],
    found: SearchResult,
    search: SearchPlan,
    plan: EvaluationPlan,
) -> FinalModel:
    """Choose the threshold on validation rows, then evaluate and explain once on the test rows.

    Args:
        booster: The refitted model.
        reproduction: Whether it is the one that won.
        validation: Rows for the threshold, scored.
        read_test: Returns the test rows, scored; called once, after every choice has been made.
        found: The finished search.
        search: What was searched.
        plan: How to evaluate.

    Raises:
        EvaluationError: The threshold rule needs amounts that the data do not have, or a metric is not defined.
    """
    threshold, choice = _choose_threshold(validation, plan)
    test = read_test()
    evaluation = evaluate(
        y=test.y,
        scores=test.scores,
        days=test.days,
        amounts=test.amounts,
        threshold=threshold,
        alerts_per_day=plan.alerts_per_day,
        replicates=plan.replicates,
        seed=plan.seed,
    )
    pictures = {
        "precision_recall.png": plots.precision_recall(test.y, test.scores, threshold=threshold, dataset="test set"),
        "calibration.png": plots.calibration(test.y, test.scores, dataset="test set"),
        "score_histogram.png": plots.score_histogram(test.y, test.scores, threshold=threshold, dataset="test set"),
        "tuning_history.png": tuning_history(
            found.trials,
            objective=f"validation {search.objective}",
            goal="maximise" if search.objective in MAXIMIZED else "minimise",
        ),
        "feature_importance.png": plots.feature_importance(_gains(booster)),
    }
    if choice is not None:
        pictures["cost_against_threshold.png"] = plots.cost_against_threshold(choice, dataset="validation set")
    example = validation.rows_at(np.arange(min(_EXAMPLE_ROWS, len(validation.y)), dtype=np.int64))
    explanation = report(booster, booster.feature_names or [], test.y, test.scores, test.rows_at, seed=plan.seed)
    return FinalModel(booster, reproduction, threshold, evaluation, test.scores, explanation, pictures, example)


def _scored(booster: xgb.Booster, data: Matrix) -> ScoredRows:
    return ScoredRows(data.y, predict(booster, data), data.days, data.amounts, lambda at: data.X[at])


def judge_refit(value: float, found: SearchResult) -> CheckOutcome:
    """Compare the refit with the best trial, computed as the trial computed it; a wrongly decoded point shows here.

    Args:
        value: The objective of the refit on the validation rows.
        found: The finished search.
    """
    reached = found.best.value
    same = value == reached
    text = f"refit {value!r}, best trial (number {found.best.number}) {reached!r} on the validation rows"
    if not same:
        text += ": the refit is not the model that won; executors may run another XGBoost or CPU than the driver"
    return CheckOutcome(REFIT_REPRODUCES, passed=same, description=text, details={"refit": value})


def _choose_threshold(validation: ScoredRows, plan: EvaluationPlan) -> tuple[Threshold, CostChoice | None]:
    if plan.threshold_rule == "alert_budget":
        return by_alert_budget(validation.scores, validation.days, plan.alerts_per_day), None
    if validation.amounts is None:
        raise EvaluationError(
            "a threshold by cost needs amounts",
            where="evaluation configuration",
            fix="name the amount column in the contract, or choose the threshold rule alert_budget",
        )
    choice = by_cost(validation.y, validation.scores, validation.amounts, plan.alert_cost)
    return choice.threshold, choice


def _gains(booster: xgb.Booster) -> dict[str, float]:
    found = booster.get_score(importance_type="gain")
    return {str(name): float(gain if isinstance(gain, int | float) else gain[0]) for name, gain in found.items()}
