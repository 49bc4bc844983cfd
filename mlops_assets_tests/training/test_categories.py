"""Text features: levels are numbered per set, a model keeps its own, and what it has not seen is missing to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from mlops_assets.evaluation.explanation_report import report
from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.tracking.category_codes import codes, levels_of
from mlops_assets.training.bagging import averaged
from mlops_assets.training.categories import encoded, for_model, recoded, to_frame
from mlops_assets.training.matrix import Matrix, joined
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.scored_rows import scored
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets.training.space import Point
from mlops_assets_tests.training.search.test_trial import Here

POINT: Point = {"n_estimators": 15, "max_depth": 4, "learning_rate": 0.3, "subsample": 0.8}
SHOPS = ("bakery", "fuel", "games", "travel")
RISK = {"bakery": 0.02, "fuel": 0.03, "games": 0.5, "travel": 0.05}


def drawn(rows: int, seed: int, shops: tuple[str, ...] = SHOPS, missing: float = 0.1) -> Matrix:
    """Return rows whose risk is that of their shop."""
    random = np.random.default_rng(seed)
    code = random.integers(0, len(shops), rows)
    y = random.random(rows) < np.array([RISK.get(shop, 0.5) for shop in shops])[code]
    X = np.column_stack([random.normal(size=rows), code]).astype(np.float32)
    X[random.random(rows) < missing, 1] = np.nan
    days = np.arange(rows) // 50
    return Matrix(("amount", "shop"), X, y.astype(np.uint8), days, None, levels={"shop": shops})


def texts(rows: Matrix) -> list[str | None]:
    return list(to_frame(rows.X, rows.features, rows.levels)["shop"])


def test_levels_are_numbered_in_alphabetical_order_and_null_is_missing():
    found, levels = encoded(pa.chunked_array([["b", None], ["a", "b"]]))
    assert levels == ("a", "b")
    assert np.array_equal(found, [1, np.nan, 0, 1], equal_nan=True)
    assert np.array_equal(codes(["b", "zz", None, np.nan], levels), [1, np.nan, np.nan, np.nan], equal_nan=True)
    assert encoded(pa.chunked_array([pa.nulls(2, pa.string())]))[1] == ()


def test_codes_are_translated_and_a_level_that_is_not_known_is_missing():
    rows = drawn(200, 1)
    other = {"shop": ("airline", "fuel", "games", "travel")}
    X = recoded(rows.X, rows.features, rows.levels, other)
    wanted = [None if shop == "bakery" else shop for shop in texts(rows)]
    assert list(to_frame(X, rows.features, other)["shop"]) == wanted
    assert np.array_equal(X[:, 0], rows.X[:, 0])


def test_sets_with_other_levels_are_joined_by_their_text():
    first, second = drawn(100, 1), drawn(100, 2, ("airline", "games"))
    both = joined([first, second])
    assert both.levels["shop"] == ("airline", *SHOPS)
    assert texts(both) == texts(first) + texts(second)


def test_a_model_is_the_one_of_xgboost_s_own_categories():
    """Held against XGBoost on a data frame with categories, which numbers and translates levels itself."""
    train, rows = drawn(3_000, 1), drawn(1_000, 2)
    frame = to_frame(train.X, train.features, train.levels)
    by_itself = xgb.QuantileDMatrix(
        frame.assign(shop=pd.Categorical(frame["shop"], SHOPS)), label=train.y, enable_categorical=True, nthread=1
    )
    given = {"objective": "binary:logistic", "tree_method": "hist", "seed": 1, "nthread": 1}
    wanted = xgb.train({**given, **{k: v for k, v in POINT.items() if k != "n_estimators"}}, by_itself, 15)

    fitted = fit(POINT, quantized(train, threads=1), seed=1, threads=1)

    asked = to_frame(rows.X, rows.features, rows.levels)
    theirs = xgb.DMatrix(asked.assign(shop=pd.Categorical(asked["shop"], SHOPS)), enable_categorical=True, nthread=1)
    assert fitted.get_dump() == wanted.get_dump()
    assert np.array_equal(predict(fitted, rows), wanted.predict(theirs))
    assert fitted.feature_types == ["q", "c"]
    assert predict(fitted, rows)[np.array(texts(rows)) == "games"].mean() > 0.3, "the control: it has learned"


@pytest.mark.parametrize("members", [1, 3])
def test_another_numbering_gives_the_same_scores_and_the_new_is_like_the_missing(members: int):
    train = drawn(3_000, 1)
    binned = quantized(train, threads=1)
    model = averaged([fit(POINT, binned, seed=seed, threads=1) for seed in range(members)])
    rows = drawn(500, 3, ("airline", *SHOPS))
    missing = recoded(rows.X, rows.features, rows.levels, train.levels)

    assert levels_of(model) == {"shop": list(SHOPS)}
    known = dataclasses.replace(rows, X=missing, levels=train.levels)
    assert np.isnan(missing[np.array(texts(rows)) == "airline", 1]).all()
    assert np.array_equal(predict(model, rows), predict(model, known))
    assert np.array_equal(for_model(model, rows.X, rows.features, rows.levels), missing, equal_nan=True)


def test_a_trial_translates_its_validation_rows():
    """They have fewer levels and another numbering; wrongly numbered rows would score worse."""
    train, validation = drawn(3_000, 1), drawn(1_000, 4, ("games", "travel"), missing=0)

    result = TrialTask("levels", Here((train, validation)), "average_precision", 42, 1, 0, 0)(Assignment(POINT))

    model = fit(POINT, quantized(train, threads=1), seed=42, threads=1)
    wrong = dataclasses.replace(validation, levels=train.levels)
    assert result["value"] == average_precision(validation.y, predict(model, validation))
    assert result["value"] > 1.5 * average_precision(validation.y, predict(model, wrong))


def test_reasons_name_the_level():
    train = drawn(2_000, 1)
    model = fit(POINT, quantized(train, threads=1), seed=1, threads=1)
    rows = scored(model, drawn(200, 5, ("airline", *SHOPS)))

    found = report(model, train.features, rows.y, rows.scores, rows.rows_at, seed=1, levels=levels_of(model))

    shops = [reason.value for row in found.highest for reason in row.reasons if reason.feature == "shop"]
    assert shops[0] == "games"
    assert set(shops) <= {*SHOPS, None}
