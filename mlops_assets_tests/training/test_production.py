"""The production model sees every row, its threshold keeps the alert rate, and the evaluated model stays as it is."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import xgboost as xgb

from mlops_assets.data.sources.synthetic import generate
from mlops_assets.evaluation.recalibration import Recalibration
from mlops_assets.evaluation.threshold import ALERT_NOTHING, Threshold
from mlops_assets.training.final_model import EvaluationPlan, FinalModel, finish
from mlops_assets.training.matrix import Matrix, joined
from mlops_assets.training.objective import predict
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.production import ProductionModel, carried_over, refit, refit_trees
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets_tests.training.spaces import seed_point

POINT = seed_point(8, 24, 0.3)  # deep enough to know its rows by heart
SEARCH = SearchPlan(trials=1, bagging=1)  # one fit, so that XGBoost itself can be the witness
NAMES = tuple(f"v{number}" for number in range(1, 29))
# As a split by time with a gap leaves them; the last part comes after everything, like the rows of the days to come.
PARTS = {"train": 3_000, "first gap": 500, "validation": 1_000, "second gap": 500, "test": 3_000, "later": 10_000}


@pytest.fixture(scope="module")
def parts() -> dict[str, Matrix]:
    table = generate(rows=sum(PARTS.values()), days=28, fraud_rate=0.04, seed=21)
    # Shuffled: without drift the alert rate of a model is one number, before and after the test rows.
    shuffled = np.random.default_rng(3).permutation(table.num_rows)
    X = np.column_stack([table.column(name).to_numpy()[shuffled] for name in NAMES]).astype(np.float32)
    y = table.column("class").to_numpy()[shuffled].astype(np.uint8)
    days = (table.column("time").to_numpy() // 86_400).astype(np.int64)
    amounts = table.column("amount").to_numpy()[shuffled]
    ends = np.cumsum(list(PARTS.values()))
    slices = [slice(end - size, end) for end, size in zip(ends, PARTS.values(), strict=True)]
    return {
        name: Matrix(NAMES, X[rows], y[rows], days[rows], amounts[rows])
        for name, rows in zip(PARTS, slices, strict=True)
    }


@pytest.fixture(scope="module")
def result() -> SearchResult:
    best = TrialRecord(0, POINT, "finished", value=0.5, loss=-0.5, seconds=0.1, rounds=24)
    return SearchResult((best,), best, parallelism=1, seconds=0.1, end_reason="")


@pytest.fixture(scope="module")
def evaluated(parts: dict[str, Matrix], result: SearchResult) -> FinalModel:
    plan = EvaluationPlan(threshold_rule="alert_budget", replicates=50, alerts_per_day=20)
    return finish(parts["train"], parts["validation"], lambda: parts["test"], result, SEARCH, plan)


def refitted(
    parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult, **changed: Matrix
) -> ProductionModel:
    rows = {**parts, **{name.replace("_", " "): matrix for name, matrix in changed.items()}}
    known = [rows[name] for name in ("train", "first gap", "validation")]
    everything = [*known, rows["second gap"], rows["test"]]
    return refit(
        lambda: joined(known), lambda: joined(everything), rows["test"], rows["train"].days, evaluated, result, SEARCH
    )


@pytest.fixture(scope="module")
def production(parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult) -> ProductionModel:
    return refitted(parts, evaluated, result)


def relabelled(matrix: Matrix) -> Matrix:
    return dataclasses.replace(matrix, y=(1 - matrix.y).astype(np.uint8))


def test_it_is_the_point_fitted_on_every_row(
    parts: dict[str, Matrix], production: ProductionModel, result: SearchResult
):
    """Held against XGBoost called by hand."""
    known = [parts[name] for name in PARTS if name != "later"]
    rows, frauds = sum(part.rows for part in known), sum(part.frauds for part in known)
    by_hand = xgb.train(
        {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "max_depth": 8,
            "learning_rate": 0.3,
            "reg_alpha": 0.05,
            "base_score": 0.03,
            "seed": SEARCH.seed,
            "nthread": 1,
        },
        xgb.QuantileDMatrix(np.concatenate([p.X for p in known]), label=np.concatenate([p.y for p in known])),
        num_boost_round=refit_trees(result, [parts["train"].rows], rows),
    )

    assert (production.rows, production.frauds) == (rows, frauds)
    assert production.trees == by_hand.num_boosted_rounds() == production.booster.num_boosted_rounds()
    assert np.array_equal(production.test_scores, by_hand.predict(xgb.DMatrix(parts["test"].X)))


def test_the_evaluated_model_stays_as_it_is(parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult):
    before, scores = bytes(evaluated.booster.save_raw()), evaluated.test_scores.copy()

    refitted(parts, evaluated, result)

    assert bytes(evaluated.booster.save_raw()) == before
    assert np.array_equal(evaluated.test_scores, scores)


def test_test_labels_and_the_second_gap_have_no_say_in_the_threshold(
    parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult, production: ProductionModel
):
    other = refitted(
        parts, evaluated, result, test=relabelled(parts["test"]), second_gap=relabelled(parts["second gap"])
    )

    assert other.threshold == production.threshold
    assert not np.array_equal(
        other.test_scores, production.test_scores
    )  # but the production model has learned from them


def test_the_rehearsal_knows_the_first_gap(
    parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult, production: ProductionModel
):
    other = refitted(parts, evaluated, result, first_gap=relabelled(parts["first gap"]))

    assert other.rehearsed_average_precision < production.rehearsed_average_precision


def test_later_rows_are_alerted_at_the_rate_of_the_evaluated_model(
    parts: dict[str, Matrix], evaluated: FinalModel, production: ProductionModel
):
    """The control: the same number of alerts among the rows that the model has learned from misses the rate."""
    later = parts["later"]
    wanted = evaluated.threshold.alerted(predict(evaluated.booster, later)).mean()
    scores = predict(production.booster, later)

    reached = production.threshold.alerted(scores).mean()

    assert production.threshold.alerts == evaluated.threshold.alerted(evaluated.test_scores).sum()
    assert reached == pytest.approx(wanted, rel=0.2)
    learned = np.sort(production.test_scores)[-production.threshold.alerts]
    assert abs((scores >= learned).mean() - wanted) > abs(reached - wanted)


def test_the_document_is_strict_json_and_holds_the_threshold(production: ProductionModel):
    document = json.loads(json.dumps(production.to_json_dict(), allow_nan=False))

    assert Threshold.from_json_dict(document["threshold"]) == production.threshold
    assert document["rows"] == production.rows


def threshold(value: float) -> Threshold:
    return Threshold(value=value, rule="cost", setting=10.0, alerts=3, rows=100)


def carried(value: float, evaluated: list[float], rehearsed: list[float]) -> tuple[float, int]:
    found = carried_over(threshold(value), np.array(evaluated, np.float32), np.array(rehearsed, np.float32))
    return round(found.value, 6), found.alerts


def test_as_many_rows_are_alerted_as_before():
    assert carried(0.5, [0.9, 0.6, 0.1, 0.2], [0.3, 0.7, 0.2, 0.1]) == (0.3, 2)
    assert carried(0.05, [0.9, 0.6, 0.1, 0.2], [0.3, 0.7, 0.2, 0.1]) == (0.1, 4)


def test_tied_scores_are_alerted_together():
    assert carried(0.5, [0.9, 0.6, 0.1, 0.2], [0.7, 0.3, 0.3, 0.1]) == (0.7, 1)
    assert carried(0.5, [0.9, 0.1, 0.1, 0.2], [0.3, 0.3, 0.3, 0.1]) == (0.3, 3)


@pytest.mark.parametrize("value", [0.95, ALERT_NOTHING])
def test_a_threshold_that_alerts_nothing_is_kept(value: float):
    assert carried(value, [0.9, 0.6], [0.99, 0.7]) == (value, 0)


def test_a_calibration_goes_on_to_the_production_model(
    parts: dict[str, Matrix], evaluated: FinalModel, result: SearchResult
):
    by = Recalibration(0.5, -1.0, 0.0, 0.0)
    plain, made = (
        refitted(parts, evaluated, result),
        refitted(parts, dataclasses.replace(evaluated, calibration=by), result),
    )

    assert made.test_scores == pytest.approx(by(plain.test_scores), abs=1e-4)
    assert made.rehearsed_scores == pytest.approx(by(plain.rehearsed_scores), abs=1e-4)
    assert made.threshold.alerts == plain.threshold.alerts
