"""Why a model scores as it does: SHAP values of a sample, their global mean, and the top reasons of single rows.

What belongs here: numbers from a booster and rows of features. What does not: pictures (`plots`), files,
tracking. Only numpy and XGBoost are imported, so that serving can give reasons beside a score.

SHAP values distribute a row's prediction over its features (Lundberg and Lee, "A unified approach to interpreting
model predictions", NeurIPS 2017); for trees XGBoost computes them exactly (TreeSHAP: Lundberg, Erion and Lee,
"Consistent individualized feature attribution for tree ensembles", arXiv 1802.03888, 2018), as
`Booster.predict(pred_contribs=True)`. They are in log-odds of fraud and add up: base value + sum over the features =
margin, whose logistic function is the score. A contribution says how the *model* used a value compared with the average
of the training data. It says nothing about causes, and correlated features share one contribution between them.

Cost: about trees x leaves x depth^2 steps per row, roughly a hundred times a prediction. One thread explains 5,000 rows
of 90 trees of depth 6 in about a second and a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops_assets.errors import EvaluationError

FloatArray = npt.NDArray[np.float32]

SAMPLE_ROWS = 2_000
TOP_REASONS = 5
# Largest share of frauds in a sample: frauds are rare and must be represented, and so must genuine rows.
_FRAUD_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Reason:
    """What one feature added to the score of one row.

    Attributes:
        feature: Name of the feature.
        value: Its value in the row, the level of a category once its code is translated; None when it is missing.
        contribution: What it added, in log-odds of fraud; negative if it lowered the score.
    """

    feature: str
    value: float | str | None
    contribution: float


@dataclass(frozen=True, slots=True)
class RowReasons:
    """Why one row got its score.

    Attributes:
        row: Position of the row among the rows passed in.
        score: Probability of fraud, bit-identical to the model's prediction.
        margin: The same in log-odds: base value + all contributions, including those not shown. They are float32, so it
            equals the model's own margin to about five digits.
        reasons: The features with the largest contributions, largest first.
    """

    row: int
    score: float
    margin: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Contributions:
    """SHAP values of some rows, in log-odds of fraud.

    Attributes:
        features: Names of the columns of `values`.
        values: float32 [rows, features].
        base_value: Mean margin of the model over its training rows, the same for every row.
    """

    features: tuple[str, ...]
    values: FloatArray
    base_value: float

    @property
    def margins(self) -> npt.NDArray[np.float64]:
        """Log-odds of fraud of each row [rows]: the base value and all contributions."""
        return self.base_value + self.values.sum(axis=1, dtype=np.float64)


@dataclass(frozen=True)
class Explanation:
    """What drives a model, measured on a sample of rows.

    Attributes:
        rows: Positions of the sample in the rows that it was drawn from, ascending [sample].
        X: Feature values of the sample, float32 [sample, features].
        contributions: Their SHAP values.
        importance: Mean |SHAP value| in log-odds by feature, falling; ties in alphabetical order. Each class is
            weighted by its share of all rows, so the mean describes all rows although frauds are oversampled.
        drawn_from: Number of rows that the sample was drawn from.
        frauds: Frauds in the sample.
    """

    rows: npt.NDArray[np.int64]
    X: FloatArray
    contributions: Contributions
    importance: dict[str, float]
    drawn_from: int
    frauds: int

    def to_json_dict(self) -> dict[str, Any]:
        """Return the global importance as a document that strict JSON can hold."""
        return {
            "method": "mean |SHAP value|, log-odds of fraud (TreeSHAP, Lundberg et al. 2018)",
            "sample_rows": len(self.rows),
            "sample_frauds": self.frauds,
            "drawn_from": self.drawn_from,
            "base_value": self.contributions.base_value,
            "importance": self.importance,
        }


def contributions(booster: xgb.Booster, X: npt.NDArray[Any], features: Sequence[str]) -> Contributions:
    """Return the SHAP values of rows.

    Args:
        booster: A trained model of the probability of fraud.
        X: Feature values [rows, features], NaN where missing; computed in float32, as training is.
        features: Names of the columns of `X`, in the model's order.

    Raises:
        EvaluationError: No rows, or columns that are not the model's in number, names or order.
    """
    return _contributions(booster, _checked(booster, X, features), features)


def reasons(
    booster: xgb.Booster, X: npt.NDArray[Any], features: Sequence[str], k: int = TOP_REASONS
) -> list[RowReasons]:
    """Return the `k` features that moved each row's score most, towards fraud or away from it.

    Args:
        booster: A trained model of the probability of fraud.
        X: Feature values [rows, features], NaN where missing.
        features: Names of the columns of `X`, in the model's order.
        k: Reasons per row, at least 1; all features when there are fewer.

    Raises:
        EvaluationError: As in `contributions`, or `k` is below 1.
    """
    if k < 1:
        _refuse(f"{k} reasons per row", fix="ask for at least 1")
    data = _checked(booster, X, features)
    shap = _contributions(booster, data, features)
    scores, margins = booster.predict(data), shap.margins
    # A contribution of exactly 0 is no reason; ties keep the order of the columns.
    order = np.argsort(-np.abs(shap.values), axis=1, kind="stable")[:, :k]
    return [
        RowReasons(
            row,
            float(scores[row]),
            float(margins[row]),
            tuple(
                Reason(shap.features[at], _value(X[row, at]), float(shap.values[row, at]))
                for at in order[row]
                if shap.values[row, at] != 0
            ),
        )
        for row in range(len(X))
    ]


def explain(
    booster: xgb.Booster,
    X: npt.NDArray[Any],
    y: npt.NDArray[Any],
    features: Sequence[str],
    *,
    rows: int = SAMPLE_ROWS,
    seed: int = 42,
) -> Explanation:
    """Explain a model on a sample of rows.

    Args:
        booster: A trained model of the probability of fraud.
        X: Feature values [n, features], NaN where missing.
        y: Labels [n], 1 = fraud; only the sampling looks at them.
        features: Names of the columns of `X`, in the model's order.
        rows: Size of the sample; all rows when there are fewer.
        seed: Seed of the sampling; the same rows and seed give the same sample.

    Raises:
        EvaluationError: As in `contributions`, a sample of less than 1 row, or labels that do not fit the rows.
    """
    if len(y) != len(X):
        _refuse(f"{len(y)} labels for {len(X)} rows", fix="pass one label per row")
    chosen = stratified_sample(y, rows, seed)
    return explain_sample(booster, X[chosen], chosen, y, features)


def explain_sample(
    booster: xgb.Booster,
    X: npt.NDArray[Any],
    positions: npt.NDArray[np.int64],
    y: npt.NDArray[Any],
    features: Sequence[str],
) -> Explanation:
    """Explain a model on a sample fetched from elsewhere, for example from a table too large for this machine.

    Args:
        booster: A trained model of the probability of fraud.
        X: Feature values of the sample [sample, features], NaN where missing.
        positions: Positions of the sample's rows in `y` [sample], as `stratified_sample` draws them.
        y: Labels of all rows [n], 1 = fraud.
        features: Names of the columns of `X`, in the model's order.

    Raises:
        EvaluationError: As in `contributions`.
    """
    shap = contributions(booster, X, features)
    fraud = y[positions] == 1
    weights = _class_weights(fraud, y)
    mean = np.abs(shap.values.astype(np.float64)).T @ weights / weights.sum()
    ranked = sorted(zip(shap.features, mean.tolist(), strict=True), key=lambda item: (-item[1], item[0]))
    sample = np.ascontiguousarray(X, dtype=np.float32)
    return Explanation(positions, sample, shap, dict(ranked), len(y), int(fraud.sum()))


def stratified_sample(y: npt.NDArray[Any], rows: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw row positions, ascending, without repetition; frauds fill at most half of them, genuine rows the rest.

    A purely random sample of 2,000 rows with one fraud in 600 would hold three or four frauds, too few to show what
    drives them.

    Args:
        y: Labels [n], 1 = fraud.
        rows: Size of the sample, at least 1; all rows when there are fewer.
        seed: Seed of numpy's default generator.

    Raises:
        EvaluationError: There is no row, or none is requested.
    """
    if rows < 1:
        _refuse(f"a sample of {rows} rows", fix="ask for at least 1")
    if len(y) == 0:
        _refuse("no rows to draw a sample from", fix="pass the rows that the model has scored")
    if rows >= len(y):
        return np.arange(len(y), dtype=np.int64)
    frauds, genuine = np.flatnonzero(y == 1), np.flatnonzero(y != 1)
    of_frauds = min(len(frauds), max(1, int(rows * _FRAUD_SHARE)))
    of_frauds = max(of_frauds, rows - len(genuine))
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(frauds, of_frauds, replace=False),
        generator.choice(genuine, rows - of_frauds, replace=False),
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _class_weights(fraud: npt.NDArray[np.bool_], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return what each row of the sample stands for [sample]: as many rows of its class as there are per drawn one."""
    weights = np.ones(len(fraud))
    for drawn, everywhere in ((fraud, y == 1), (~fraud, y != 1)):
        if drawn.any():
            weights[drawn] = everywhere.sum() / drawn.sum()
    return weights


def _contributions(booster: xgb.Booster, data: xgb.DMatrix, features: Sequence[str]) -> Contributions:
    shap = booster.predict(data, pred_contribs=True)
    return Contributions(tuple(features), shap[:, :-1], float(shap[0, -1]))


def _checked(booster: xgb.Booster, X: npt.NDArray[Any], features: Sequence[str]) -> xgb.DMatrix:
    known = booster.feature_names or []
    if X.ndim != 2 or X.shape[1] != len(features):  # noqa: PLR2004 - rows and columns
        _refuse(f"rows of shape {X.shape} for {len(features)} features", fix="pass one column per feature")
    if list(features) != known:
        _refuse(_difference(list(features), known), fix=f"pass the model's features in this order: {', '.join(known)}")
    if len(X) == 0:
        _refuse("no rows to explain", fix="pass at least one row")
    # One thread: a row is then summed in the same order here and where the model is served.
    return xgb.DMatrix(np.ascontiguousarray(X, dtype=np.float32), feature_names=known, nthread=1)


def _difference(given: list[str], known: list[str]) -> str:
    missing, unknown = [n for n in known if n not in given], [n for n in given if n not in known]
    if missing or unknown or len(given) != len(known):
        return f"features that are not the model's: missing {missing}, unknown {unknown}"
    return "the model's features in another order"


def _value(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _refuse(what: str, *, fix: str) -> NoReturn:
    raise EvaluationError(what, where="explanation", fix=fix)
