"""Rows count by their age, alike wherever a point is fitted; a search without such parameters is what it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xgboost as xgb

from mlops_assets.errors import SearchError
from mlops_assets.training.engines.choice import choose_engine
from mlops_assets.training.engines.cluster_memory import ClusterMemory
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.folds import Fold
from mlops_assets.training.matrix import Matrix, joined
from mlops_assets.training.objective import fit, judge, predict, quantized
from mlops_assets.training.parameters import HALF_LIFE, RECENCY, WINDOW
from mlops_assets.training.plan import SearchPlan, search_key
from mlops_assets.training.production import refit
from mlops_assets.training.recency import counted_rows, row_weights
from mlops_assets.training.records import FoldRecord, SearchResult, TrialRecord
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets.training.space import Point, search_space
from mlops_assets_tests.training.search.test_trial import Here
from mlops_assets_tests.training.spaces import seed_point

POINT = seed_point(3, 20, 0.3)
RECENT: Point = {**POINT, WINDOW: 3, HALF_LIFE: 1.5}
DAYS = np.array([5, 7, 8, 9, 9], np.int64)


def given(point: Point) -> dict[str, object]:
    """Return what XGBoost is given for a point, written by hand."""
    kept = {name: value for name, value in point.items() if name != "n_estimators"}
    return {"objective": "binary:logistic", "tree_method": "hist", **kept, "seed": 1, "nthread": 1}


def test_weights_halve_with_each_half_life_and_end_with_the_window():
    assert row_weights({HALF_LIFE: 2.0}, DAYS) == pytest.approx([0.25, 0.5, 2**-0.5, 1, 1])
    assert row_weights({WINDOW: 2}, DAYS).tolist() == [0, 0, 1, 1, 1]  # type: ignore[union-attr]  # not None
    assert row_weights({WINDOW: 3, HALF_LIFE: 1.0}, DAYS) == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert counted_rows({WINDOW: 2}, DAYS) == 3
    assert row_weights({WINDOW: 3}, DAYS - 100).tolist() == [0, 1, 1, 1, 1], "relative to their own last day"  # type: ignore[union-attr]


def test_a_point_without_them_is_fitted_as_ever(halves: tuple[Matrix, Matrix]):
    """Bit for bit XGBoost called by hand, with no weights set."""
    train, _ = halves
    by_hand = xgb.train(
        given(POINT),
        xgb.QuantileDMatrix(train.X, label=train.y, feature_names=list(train.features), nthread=1),
        num_boost_round=20,
    )
    fitted = fit(POINT, quantized(train, threads=1), seed=1, threads=1)

    assert row_weights(POINT, train.days) is None
    assert counted_rows(POINT, train.days) == train.rows
    assert bytes(fitted.save_raw()) == bytes(by_hand.save_raw())


WITH_RECENCY = search_space("wide", {HALF_LIFE: {"low": 5, "high": 365, "scale": "log_uniform"}})


@pytest.mark.parametrize(
    ("preset", "key"),
    [("wide", "a19324b18aaee7e1"), ("seed", "5c2a7f1cb3fa445b")],  # pragma: allowlist secret
)
def test_a_search_without_them_is_the_search_of_before_they_existed(preset: str, key: str):
    """The keys are those of the version before: an interrupted search of it is continued."""
    assert not set(RECENCY) & set(search_space(preset).ranges)
    assert search_key(SearchPlan(space=search_space(preset)), {"table": "7"}) == key


def test_rows_outside_the_window_say_nothing(halves: tuple[Matrix, Matrix]):
    """Also not when their labels are wrong; within it they do."""
    train, validation = halves
    last = int(train.days.max())
    point = {**POINT, WINDOW: 2}

    def scores(spoiled: np.ndarray) -> np.ndarray:
        y = np.where(spoiled, 1 - train.y, train.y).astype(np.uint8)
        model = fit(point, quantized(dataclasses.replace(train, y=y), threads=1), seed=1, threads=1)
        return predict(model, validation)

    untouched = scores(np.zeros(train.rows, bool))
    assert np.array_equal(scores(train.days <= last - 2), untouched)
    assert not np.array_equal(scores(train.days > last - 2), untouched)


def test_a_half_life_is_what_xgboost_makes_of_these_weights(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    by_hand = xgb.QuantileDMatrix(train.X, label=train.y, feature_names=list(train.features), nthread=1)
    by_hand.set_weight((0.5 ** ((train.days.max() - train.days) / 1.5)).astype(np.float32))
    wanted = fit(POINT, quantized(train, threads=1), seed=1, threads=1)

    fitted = fit({**POINT, HALF_LIFE: 1.5}, quantized(train, threads=1), seed=1, threads=1)

    again = xgb.train(given(POINT), by_hand, num_boost_round=20)
    assert predict(fitted, validation) == pytest.approx(predict(again, validation), abs=1e-6)
    assert not np.array_equal(predict(fitted, validation), predict(wanted, validation))


def test_a_trial_and_the_final_fit_weigh_alike_on_every_fold(halves: tuple[Matrix, Matrix]):
    """The trial's worker weighs each fold from the fold's own last day, and the refit reproduces its value."""
    train, validation = halves
    rows = int(np.searchsorted(train.days, train.days.max() - 1))
    older = validation.where(np.arange(validation.rows) % 2 == 0)
    task = TrialTask("recent", Here((train, validation, older)), "average_precision", 42, 1, 0, 0, (rows,))

    result = task(Assignment(RECENT))

    first = dataclasses.replace(train, X=train.X[:rows], y=train.y[:rows], days=train.days[:rows])
    assert first.days.max() < train.days.max()
    binned = quantized(train, threads=1)
    by_hand = fit(RECENT, quantized(first, threads=1, ref=binned), seed=42, threads=1)
    assert result["folds"][1][0] == judge("average_precision", older.y, predict(by_hand, older))
    folds = tuple(FoldRecord(value, rounds) for value, rounds, _ in result["folds"])
    best = TrialRecord(0, RECENT, "finished", result["value"], result["loss"], 0.1, result["rounds"], folds=folds)
    found = SearchResult((best,), best, 1, 0.1, "", older_rows=(rows,))
    plan = EvaluationPlan(threshold_rule="alert_budget", replicates=50)
    search = SearchPlan(space=WITH_RECENCY, trials=1)
    model = finish(train, validation, lambda: validation, found, search, plan, [Fold(rows, older)])
    assert model.reproduction.passed


def test_the_production_model_weighs_from_its_own_last_day_and_counts_trees_by_weight(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    best = TrialRecord(0, RECENT, "finished", value=0.5, loss=-0.5, seconds=0.1, rounds=20)
    found, search = SearchResult((best,), best, 1, 0.1, ""), SearchPlan(trials=1, bagging=1)  # one fit, as by hand
    plan = EvaluationPlan(threshold_rule="alert_budget", replicates=50)
    evaluated = finish(train, validation, lambda: validation, found, search, plan)
    everything = joined([train, validation])

    model = refit(lambda: train, lambda: everything, validation, train.days, evaluated, found, search)

    counted = counted_rows(RECENT, everything.days)
    trees = round(20 * counted / counted_rows(RECENT, train.days))
    by_hand = fit(RECENT, quantized(everything, threads=1), seed=42, threads=1, rounds=trees)
    assert (model.rows, model.counted, model.trees) == (everything.rows, counted, trees)
    assert bytes(model.booster.save_raw()) == bytes(by_hand.save_raw())
    assert np.array_equal(model.rehearsed_scores, evaluated.test_scores), "the same rows, so the same model"


def test_a_window_without_frauds_is_refused_with_the_reason(halves: tuple[Matrix, Matrix]):
    train, _ = halves
    clean = dataclasses.replace(train, y=np.where(train.days == train.days.max(), 0, train.y).astype(np.uint8))
    with pytest.raises(SearchError, match=r"the rows that count are all genuine.*train_window_days"):
        fit({**POINT, WINDOW: 1}, quantized(clean, threads=1), seed=1, threads=1)


def test_over_the_cluster_it_is_refused_before_anything_is_paid_for():
    plan = SearchPlan(space=WITH_RECENCY)
    small, large = ClusterMemory(10**6), ClusterMemory(10**12)

    assert choose_engine(1_000_000, 30, large, only_in_memory=plan.only_in_memory).engine == "memory"
    assert choose_engine(1_000_000, 30, small, only_in_memory=SearchPlan().only_in_memory).engine == "distributed"
    with pytest.raises(SearchError, match=r"the engine distributed can't use half_life_days.*too much"):
        choose_engine(1_000_000, 30, small, only_in_memory=plan.only_in_memory)
    with pytest.raises(SearchError, match="asked for by hand"):
        choose_engine(1_000, 30, large, "distributed", only_in_memory=plan.only_in_memory)


@pytest.mark.parametrize("given", [{WINDOW: {"low": 0, "high": 3}}, {HALF_LIFE: {"low": 0, "high": 3}}])
def test_an_impossible_range_is_refused(given: dict[str, dict[str, float]]):
    with pytest.raises(SearchError, match=f"the range of {next(iter(given))} is invalid"):
        search_space("wide", given)


def test_a_window_is_drawn_in_whole_days():
    space = search_space("wide", {WINDOW: {"low": 7, "high": 90}})
    assert (space.ranges[WINDOW].scale, space.to_point(dict.fromkeys(space.ranges, 7.0))[WINDOW]) == ("whole", 7)
