"""SHAP values add up to the model's margin, samples hold frauds and repeat, and rows that do not fit are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explanation_report import report
from mlops_assets.evaluation.explanations import contributions, explain, reasons, stratified_sample

NAMES = ("strong", "weak", "noise", "constant")
RANDOM = np.random.default_rng(5)
ROWS = 4_000
X = RANDOM.normal(size=(ROWS, 4)).astype(np.float32)
X[:, 3] = 1.0
CHANCE = 1 / (1 + np.exp(-(-4 + 2.5 * X[:, 0] - 0.8 * X[:, 1])))
Y = (RANDOM.random(ROWS) < CHANCE).astype(np.uint8)
X[RANDOM.random(ROWS) < 0.1, 1] = np.nan


def trained(rounds: int = 30, depth: int = 4, seed: int = 1) -> xgb.Booster:
    parameters = {"objective": "binary:logistic", "max_depth": depth, "base_score": 0.05, "nthread": 1, "seed": seed}
    return xgb.train(parameters, xgb.DMatrix(X, label=Y, feature_names=list(NAMES)), num_boost_round=rounds)


MODEL = trained()


def margins(booster: xgb.Booster, rows: Any) -> Any:
    return booster.predict(xgb.DMatrix(rows, feature_names=list(NAMES)), output_margin=True)


@settings(deadline=None, max_examples=25)
@given(rounds=st.integers(1, 40), depth=st.integers(1, 7), seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_base_value_and_contributions_add_up_to_the_margin(rounds: int, depth: int, seed: int, rows: int):
    booster = trained(rounds, depth)
    asked = X[np.random.default_rng(seed).integers(0, ROWS, rows)]

    found = contributions(booster, asked, NAMES)

    assert found.values.shape == (rows, 4)
    assert np.allclose(found.margins, margins(booster, asked), atol=1e-4, rtol=1e-5)


def test_global_importance_names_what_was_put_into_the_data():
    found = explain(MODEL, X, Y, NAMES, rows=1_000)

    assert list(found.importance)[:2] == ["strong", "weak"]
    assert found.importance["constant"] == 0.0
    assert found.importance["strong"] > 1.0


def test_importance_speaks_of_all_rows_although_frauds_are_sampled_more_often():
    everything = explain(MODEL, X, Y, NAMES, rows=ROWS)
    sample = explain(MODEL, X, Y, NAMES, rows=600)

    assert sample.frauds / 600 > 2 * Y.mean()
    assert sample.importance["strong"] == pytest.approx(everything.importance["strong"], rel=0.03)
    unweighted = np.abs(sample.contributions.values[:, 0]).mean()
    assert unweighted > 1.05 * everything.importance["strong"]


def test_reasons_are_the_largest_contributions_with_their_values():
    found = reasons(MODEL, X[:50], NAMES, k=2)
    every = contributions(MODEL, X[:50], NAMES)

    assert [item.row for item in found] == list(range(50))
    for item in found:
        sizes = [abs(reason.contribution) for reason in item.reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] == np.abs(every.values[item.row]).max()
        for reason in item.reasons:
            at = NAMES.index(reason.feature)
            assert reason.contribution == every.values[item.row, at]
            assert (reason.value is None) == bool(np.isnan(X[item.row, at]))
    scores = MODEL.predict(xgb.DMatrix(X[:50], feature_names=list(NAMES)))
    assert [item.score for item in found] == [float(score) for score in scores]


def test_a_missing_value_can_be_a_reason_and_has_no_number():
    missing = np.flatnonzero(np.isnan(X[:, 1]))[:1]
    (found,) = reasons(MODEL, X[missing], NAMES, k=4)

    assert {reason.feature: reason.value for reason in found.reasons}["weak"] is None


def test_what_contributes_nothing_is_no_reason():
    (found,) = reasons(MODEL, X[:1], NAMES, k=10)

    assert "constant" not in {reason.feature for reason in found.reasons}


@settings(deadline=None)
@given(frauds=st.integers(0, 40), genuine=st.integers(0, 200), rows=st.integers(1, 120), seed=st.integers(0, 2**32 - 1))
def test_a_sample_holds_each_class_and_no_row_twice(frauds: int, genuine: int, rows: int, seed: int):
    if frauds + genuine == 0:
        return
    y = np.random.default_rng(seed).permutation(np.repeat([1, 0], [frauds, genuine]))

    drawn = stratified_sample(y, rows, seed)

    assert len(drawn) == min(rows, len(y))
    assert np.all(np.diff(drawn) > 0)
    assert np.array_equal(drawn, stratified_sample(y, rows, seed))
    if frauds and rows > 1:
        assert y[drawn].any()
    if genuine and rows > 1:
        assert not y[drawn].all()
    if genuine >= rows > 1:
        assert y[drawn].sum() == min(frauds, max(1, rows // 2))


def test_another_seed_draws_other_rows():
    assert not np.array_equal(stratified_sample(Y, 100, 1), stratified_sample(Y, 100, 2))


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        (X[:, :3], NAMES, r"rows of shape \(4000, 3\) for 4 features"),
        (X[:, :3], NAMES[:3], r"missing \['constant'\], unknown \[\]"),
        (X, ("weak", "strong", "noise", "constant"), "in another order"),
        (X, ("strong", "weak", "noise", "other"), r"missing \['constant'\], unknown \['other'\]"),
        (X[:0], NAMES, "no rows to explain"),
        (X[0], NAMES, r"rows of shape \(4,\)"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused(rows: Any, names: Any, message: str):
    with pytest.raises(EvaluationError, match=message):
        contributions(MODEL, rows, names)
    with pytest.raises(EvaluationError, match=message):
        reasons(MODEL, rows, names)


def test_a_model_without_feature_names_is_refused():
    nameless = xgb.train({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(X, label=Y), num_boost_round=2)

    with pytest.raises(EvaluationError, match="not the model's"):
        contributions(nameless, X, NAMES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explain(MODEL, X, Y, NAMES, rows=0), "a sample of 0 rows"),
        (lambda: explain(MODEL, X[:0], Y[:0], NAMES), "no rows"),
        (lambda: explain(MODEL, X, Y[:10], NAMES), "10 labels for 4000 rows"),
        (lambda: reasons(MODEL, X, NAMES, k=0), "0 reasons per row"),
    ],
)
def test_an_empty_sample_is_refused(call: Any, message: str):
    with pytest.raises(EvaluationError, match=message):
        call()


def test_the_report_is_json_and_pictures_and_repeats():
    scores = MODEL.predict(xgb.DMatrix(X, feature_names=list(NAMES)))

    made = report(MODEL, NAMES, Y, scores, lambda at: X[at], seed=7)

    document = json.loads(made.files["global_importance.json"])
    assert next(iter(document["importance"])) == "strong"
    highest = json.loads(made.files["highest_scores.json"])
    assert len(highest) == 100
    assert [item["score"] for item in highest] == [float(score) for score in np.sort(scores)[::-1][:100]]
    assert scores[highest[0]["row"]] == scores.max()
    assert "| strong |" in made.table_markdown()
    again = report(MODEL, NAMES, Y, scores, lambda at: X[at], seed=7)
    assert again.files == made.files
    assert again.pictures == made.pictures


def test_reasons_can_be_given_where_neither_dagster_nor_spark_is_installed():
    heavy = ("dagster", "pyspark", "hyperopt", "mlflow", "matplotlib")
    told = f"import sys; print([name for name in {heavy} if name in sys.modules])"

    def loads(module: str) -> str:
        code = f"import {module}; {told}"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert loads("mlops_assets.evaluation.explanations") == "[]"
    assert "matplotlib" in loads("mlops_assets.evaluation.explanation_report")
