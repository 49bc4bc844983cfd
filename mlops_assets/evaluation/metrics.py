"""Point metrics of a fraud score: ranking, probability, alerts at a threshold, alerts on a daily budget.

What belongs here: one number from labels and scores, and the checks that its input must pass. What does not: the
sorted structures that do the work (`ranking`), intervals (`bootstrap`), the choice of a threshold (`threshold`),
the report (`report`).

Conventions, for every function below:

- `y_true` [n] holds 0 (genuine) and 1 (fraud), `scores` [n] float32 or float64 probabilities of fraud in [0, 1].
- Scores are widened to float64, which is exact, before anything is compared; a row is alerted when
  `score >= threshold`. (Next to a float32 array, NumPy would round a Python float to float32.)
- `weights` [n] are finite and >= 0; a weight of 3 is the same as three copies of the row.
- A metric that is not defined (one class only, no alert to take a precision of) raises EvaluationError; none
  returns nan, and none is quietly set to 0.

Definitions follow scikit-learn where it has the metric, and the Fraud Detection Handbook, chapter 4
(https://fraud-detection-handbook.github.io/fraud-detection-handbook/), where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.ranking import Array, BoolArray, DailyRanking, FloatArray, RankedScores


def average_precision(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Area under the precision-recall steps: sum of (recall gained) x precision over the distinct scores."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    return RankedScores(fraud, score).weighted(checked_weights(fraud, weights)).average_precision()


def roc_auc(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Chance that a fraud scores above a genuine row; a tie counts one half."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    return RankedScores(fraud, score).weighted(checked_weights(fraud, weights)).roc_auc()


def log_loss(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean negative log likelihood in nats; scores are clipped by the machine epsilon of their own dtype."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    return float(np.average(row_log_loss(fraud, score, scores.dtype), weights=checked_weights(fraud, weights)))


def brier(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean squared distance between score and label."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    return float(np.average((score - fraud) ** 2, weights=checked_weights(fraud, weights)))


def kappa(y_true: Array, scores: Array, threshold: float, weights: Array | None = None) -> float:
    """Cohen's kappa of label and alert: agreement beyond what chance would give."""
    return confusion(y_true, scores, threshold, weights).kappa()


def f1(y_true: Array, scores: Array, threshold: float, weights: Array | None = None) -> float:
    """Harmonic mean of precision and recall; 0 when nothing is alerted (2 TP / (frauds + alerts))."""
    return confusion(y_true, scores, threshold, weights).f1()


def precision(y_true: Array, scores: Array, threshold: float, weights: Array | None = None) -> float:
    """Share of frauds among the alerts; EvaluationError when nothing is alerted."""
    return confusion(y_true, scores, threshold, weights).precision()


def recall(y_true: Array, scores: Array, threshold: float, weights: Array | None = None) -> float:
    """Share of the frauds that are alerted."""
    return confusion(y_true, scores, threshold, weights).recall()


def best_kappa(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Largest kappa over all thresholds, alert-nothing (kappa 0) included.

    A tuning objective for validation rows. It is optimistic as a statement about quality, because the threshold is
    chosen on the rows that it is measured on.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    return RankedScores(fraud, score).weighted(checked_weights(fraud, weights)).best_kappa()


def best_f1(y_true: Array, scores: Array, weights: Array | None = None) -> float:
    """Largest F1 over all thresholds; a tuning objective, optimistic in the same way as `best_kappa`."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    return RankedScores(fraud, score).weighted(checked_weights(fraud, weights)).best_f1()


def precision_at_k(y_true: Array, scores: Array, days: Array, k: int, weights: Array | None = None) -> float:
    """Precision of the k highest scores of each day, averaged over the days (handbook section 4.4, P@k).

    A day of fewer than k rows alerts all of them, and its precision is taken over those. Days without a fraud count
    with precision 0, as they do for the investigators. Rows that tie across the edge of the budget are alerted in
    part: the result is the expected value over a random order of the ties, so it neither depends on the order of
    the rows nor flatters a model that gives many rows the same score.

    Args:
        y_true: Labels [n].
        scores: Scores [n].
        days: Day number of each row [n], any integer dtype; rows need not be sorted.
        k: Alerts that can be checked in a day, at least 1.
        weights: Copies of each row [n]; a day whose rows all weigh 0 is left out of the mean.
    """
    return _at_budget(y_true, scores, days, k, weights)[0]


def recall_at_k(y_true: Array, scores: Array, days: Array, k: int, weights: Array | None = None) -> float:
    """Frauds caught by the k highest scores of each day, over all frauds; ties as in `precision_at_k`."""
    return _at_budget(y_true, scores, days, k, weights)[1]


def confusion(y_true: Array, scores: Array, threshold: float, weights: Array | None = None) -> Confusion:
    """Count alerts and frauds at a threshold (alert when score >= threshold)."""
    fraud, score = checked_labels_and_scores(y_true, scores)
    weight = checked_weights(fraud, weights)
    alerted = score >= checked_threshold(threshold)
    return Confusion(
        caught=float(weight[alerted & fraud].sum()),
        alerts=float(weight[alerted].sum()),
        frauds=float(weight[fraud].sum()),
        genuine=float(weight[~fraud].sum()),
    )


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weighted counts at one threshold: caught frauds (TP), alerts (TP + FP), frauds and genuine rows (both > 0)."""

    caught: float
    alerts: float
    frauds: float
    genuine: float

    def kappa(self) -> float:
        """Cohen's kappa: 1 - (observed disagreement) / (disagreement expected by chance)."""
        rows = self.frauds + self.genuine
        disagreement = self.alerts + self.frauds - 2 * self.caught
        by_chance = (self.alerts * self.genuine + (rows - self.alerts) * self.frauds) / rows
        return 1 - disagreement / by_chance

    def f1(self) -> float:
        """2 TP / (frauds + alerts), which is defined even when nothing is alerted."""
        return 2 * self.caught / (self.frauds + self.alerts)

    def precision(self) -> float:
        """TP / alerts."""
        if self.alerts == 0:
            refuse("precision is not defined: no row reaches the threshold", fix="lower the threshold, or report F1")
        return self.caught / self.alerts

    def recall(self) -> float:
        """TP / frauds."""
        return self.caught / self.frauds


def row_log_loss(fraud: BoolArray, score: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Negative log likelihood of each row [n]; `dtype` is that of the scores before they were widened."""
    epsilon = float(np.finfo(dtype).eps)
    clipped = np.clip(score, epsilon, 1 - epsilon)
    return -np.log(np.where(fraud, clipped, 1 - clipped))


def _at_budget(y_true: Array, scores: Array, days: Array, k: int, weights: Array | None) -> tuple[float, float]:
    fraud, score = checked_labels_and_scores(y_true, scores)
    ranking = DailyRanking(fraud, score, checked_days(days, len(fraud)))
    return ranking.at_budget(checked_budget(k), checked_weights(fraud, weights))


def checked_labels_and_scores(y_true: Array, scores: Array) -> tuple[BoolArray, FloatArray]:
    """Return labels as bool [n] and scores as float64 [n] after checking that a metric is defined on them.

    Raises:
        EvaluationError: Empty, of different lengths, not one-dimensional, labels other than 0 and 1, one class
            only, or scores that are not floats in [0, 1].
    """
    score = checked_scores(scores)
    if y_true.ndim != 1 or len(y_true) != len(score):
        refuse(f"labels of shape {y_true.shape} for {len(score)} scores", fix="pass one label per score")
    fraud = y_true == 1
    if not np.all(fraud | (y_true == 0)):
        refuse("labels other than 0 and 1", fix="encode fraud as 1 and genuine as 0, and drop unlabelled rows")
    if fraud.all() or not fraud.any():
        refuse(
            f"all {len(fraud)} rows are {'frauds' if fraud[0] else 'genuine'}, and a metric needs both classes",
            fix="take a longer period, so that both classes occur",
        )
    return fraud, score


def checked_scores(scores: Array) -> FloatArray:
    """Return scores as float64 [n], which is exact for float32; EvaluationError if they are not probabilities."""
    if scores.ndim != 1 or len(scores) == 0:
        refuse(f"scores of shape {scores.shape}", fix="pass a one-dimensional array with at least one row")
    if scores.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        refuse(f"scores of dtype {scores.dtype}", fix="pass float32 or float64 probabilities of fraud, not labels")
    wrong = int(np.count_nonzero(~((scores >= 0) & (scores <= 1))))
    if wrong:
        refuse(f"{wrong} of {len(scores)} scores are not in [0, 1]", fix="pass probabilities, not margins or nan")
    return scores.astype(np.float64, copy=False)


def checked_weights(fraud: BoolArray, weights: Array | None) -> FloatArray:
    """Return weights as float64 [n], ones for None; EvaluationError if they are invalid or leave only one class."""
    if weights is None:
        return np.ones(len(fraud))
    if weights.shape != fraud.shape or not np.all(np.isfinite(weights) & (weights >= 0)):
        refuse("weights that are negative, not finite or not one per row", fix="pass one weight >= 0 per row")
    weight = weights.astype(np.float64)
    if weight[fraud].sum() == 0 or weight[~fraud].sum() == 0:
        refuse("the weights leave one class only", fix="give at least one row of each class a positive weight")
    return weight


def checked_days(days: Array, rows: int) -> npt.NDArray[np.int64]:
    """Return day numbers as int64 [n]; EvaluationError unless there is one integer per row."""
    if days.shape != (rows,) or days.dtype.kind not in "iu":
        refuse(
            f"days of shape {days.shape} and dtype {days.dtype} for {rows} rows",
            fix="pass one integer day number per row, such as floor(event time in seconds / 86,400)",
        )
    return days.astype(np.int64, copy=False)


def checked_budget(k: int) -> int:
    """Return a daily alert budget; EvaluationError unless it is an integer of at least 1."""
    if type(k) is not int or k < 1:  # a bool is an int for isinstance
        refuse(f"a budget of {k!r} alerts a day", fix="pass a Python integer of at least 1")
    return int(k)


def checked_threshold(threshold: float) -> float:
    """Return a threshold as float; EvaluationError unless it is finite."""
    if not np.isfinite(threshold):
        refuse(f"a threshold of {threshold}", fix="pass a finite number; a threshold above 1 alerts nothing")
    return float(threshold)


def refuse(what: str, *, fix: str, where: str = "labels and scores") -> NoReturn:
    """Raise EvaluationError; `where` names the input, because this module does not know which table it came from."""
    raise EvaluationError(what, where=where, fix=fix)
