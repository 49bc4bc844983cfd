"""A mean of boosters is one booster: its margin is the mean of theirs, and all that a booster can do it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mlops_assets.errors import SearchError
from mlops_assets.evaluation.explanations import contributions
from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.training.bagging import averaged
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.matrix import Matrix, joined
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.production import refit
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.space import Point, search_space

POINT: Point = {"n_estimators": 30, "max_depth": 5, "learning_rate": 0.2, "subsample": 0.6, "colsample_bytree": 0.6}
# A parameter that the settings written down in advance do not have.
WITHOUT_ANCHOR = search_space("wide", {"gamma": {"low": 0, "high": 1}})
FOREST: Point = {**POINT, "num_parallel_tree": 2, "base_score": 0.03}


def margins(booster: xgb.Booster, rows: Matrix) -> np.ndarray:
    return booster.predict(xgb.DMatrix(rows.X, feature_names=list(rows.features), nthread=1), output_margin=True)


def fits(train: Matrix, point: Point, count: int, first: int = 0, **given: Any) -> list[xgb.Booster]:
    binned = quantized(train, threads=1)
    return [fit(point, binned, seed=seed, threads=1, **given) for seed in range(first, first + count)]


@pytest.mark.parametrize(("point", "count"), [(POINT, 3), (POINT, 5), (FOREST, 4)])
def test_the_margin_is_the_mean_of_the_members_margins(halves: tuple[Matrix, Matrix], point: Point, count: int):
    train, validation = halves
    members = fits(train, point, count)
    of_each = np.array([margins(member, validation) for member in members], np.float64)

    mean = averaged(members)

    assert of_each.std(axis=0).mean() > 0.01, "the control: members differ"
    # A float32 sum of 150 terms of up to about 10: its rounding is some 1e-6.
    assert np.abs(margins(mean, validation) - of_each.mean(axis=0)).max() < 1e-5
    assert mean.num_boosted_rounds() == 30
    assert mean.feature_names == list(train.features)


def test_members_of_different_lengths_have_a_mean_and_its_first_rounds_are_theirs(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    members = [*fits(train, POINT, 1), *fits(train, {**POINT, "max_depth": 3}, 1, rounds=12)]
    of_each = np.array([margins(member, validation) for member in members], np.float64)

    mean = averaged(members)

    assert np.abs(margins(mean, validation) - of_each.mean(axis=0)).max() < 1e-5
    assert (mean.num_boosted_rounds(), len(mean.get_dump())) == (30, 42)
    for rounds in (5, 20):
        short = np.array(
            [margins(member[: min(rounds, member.num_boosted_rounds())], validation) for member in members]
        )
        assert np.abs(margins(mean[:rounds], validation) - short.mean(axis=0, dtype=np.float64)).max() < 1e-5
    assert contributions(mean, validation.X, validation.features).margins == pytest.approx(
        margins(mean, validation), abs=1e-4
    )
    assert bytes(xgb.Booster(model_file=bytearray(mean.save_raw())).save_raw()) == bytes(mean.save_raw())


def test_its_first_rounds_are_the_mean_of_the_members_first_rounds(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    short = np.array([margins(member, validation) for member in fits(train, POINT, 3, rounds=10)], np.float64)

    first = averaged(fits(train, POINT, 3))[:10]

    assert np.abs(margins(first, validation) - short.mean(axis=0)).max() < 1e-5


@pytest.mark.parametrize("suffix", ["ubj", "json"])
def test_it_keeps_its_bits_in_xgboost_s_own_formats(halves: tuple[Matrix, Matrix], tmp_path: Path, suffix: str):
    train, validation = halves
    mean = averaged(fits(train, POINT, 3))
    mean.save_model(tmp_path / f"model.{suffix}")

    loaded = xgb.Booster(model_file=tmp_path / f"model.{suffix}")

    assert np.array_equal(predict(loaded, validation), predict(mean, validation))
    assert bytes(loaded.save_raw()) == bytes(mean.save_raw())


def test_its_contributions_are_the_means_of_the_members_and_add_up(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    members = fits(train, POINT, 3)
    mean = averaged(members)

    shap = contributions(mean, validation.X, validation.features)

    of_each = [contributions(member, validation.X, validation.features) for member in members]
    assert shap.margins == pytest.approx(margins(mean, validation), abs=1e-4)
    assert shap.values == pytest.approx(np.mean([one.values for one in of_each], axis=0), abs=1e-5)
    assert shap.base_value == pytest.approx(np.mean([one.base_value for one in of_each]), abs=1e-5)


def test_one_member_is_itself(halves: tuple[Matrix, Matrix]):
    (member,) = fits(halves[0], POINT, 1)
    assert averaged([member]) is member


def test_models_without_a_common_mean_are_refused(halves: tuple[Matrix, Matrix]):
    train, _ = halves
    binned = quantized(train, threads=1)
    one = fit(POINT, binned, seed=0, threads=1)
    for other in (
        fit({**POINT, "base_score": 0.3}, binned, seed=0, threads=1),
        fit(POINT, quantized(train.where(np.arange(train.rows) < 900), threads=1), seed=0, threads=1),
    ):
        with pytest.raises(SearchError, match="have no common mean"):
            averaged([one, other])


def test_the_final_and_the_production_model_are_means_and_the_winner_is_still_checked(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    members = fits(train, POINT, 3, first=SearchPlan().seed)
    value = average_precision(validation.y, predict(members[0], validation))
    best = TrialRecord(0, POINT, "finished", value=value, loss=-value, seconds=0.1, rounds=30)
    found = SearchResult((best,), best, 1, 0.1, "")
    plan = EvaluationPlan(threshold_rule="alert_budget", replicates=50)
    search = SearchPlan(space=WITHOUT_ANCHOR, trials=1, bagging=3)

    evaluated = finish(train, validation, lambda: validation, found, search, plan)
    model = refit(lambda: train, lambda: joined([train, validation]), validation, train.days, evaluated, found, search)

    assert evaluated.reproduction.passed
    assert bytes(evaluated.booster.save_raw()) == bytes(averaged(members).save_raw())
    assert np.array_equal(model.rehearsed_scores, predict(averaged(members), validation))
    assert model.trees == model.booster.num_boosted_rounds() == 45
    assert len(model.booster.get_dump()) == 135


def test_the_anchor_is_in_the_final_and_the_production_model_with_its_own_number_of_trees(
    halves: tuple[Matrix, Matrix],
):
    train, validation = halves
    space = search_space("wide", {"n_estimators": {"low": 40, "high": 40}})
    search = SearchPlan(space=space, trials=1)
    anchor = space.anchor
    assert anchor is not None
    (own,) = fits(train, POINT, 1, first=search.seed)
    value = average_precision(validation.y, predict(own, validation))
    best = TrialRecord(0, POINT, "finished", value=value, loss=-value, seconds=0.1, rounds=30)
    found = SearchResult((best,), best, 1, 0.1, "")
    plan = EvaluationPlan(threshold_rule="alert_budget", replicates=50)

    evaluated = finish(train, validation, lambda: validation, found, search, plan)
    model = refit(lambda: train, lambda: joined([train, validation]), validation, train.days, evaluated, found, search)

    mean = averaged([own, *fits(train, anchor, 2, first=search.seed, rounds=40)])
    assert bytes(evaluated.booster.save_raw()) == bytes(mean.save_raw())
    assert evaluated.reproduction.passed, "the best point's fit alone is held against its trial"
    assert model.trees == 45, "the best point's trees follow the rows, the anchor's do not"
    assert len(model.booster.get_dump()) == 45 + 2 * 40


def sizes(search: SearchPlan) -> list[tuple[bool, int]]:
    """Return of each member whether it is the best point's, and its seed."""
    return [(member.point is POINT, member.seed) for member in search.bag(POINT).members(30)]


def test_half_of_the_members_rounded_up_are_the_anchor_s():
    assert sizes(SearchPlan()) == [(True, 42), (False, 42), (False, 43)]
    assert sizes(SearchPlan(bagging=2)) == [(True, 42), (False, 42)]
    assert sizes(SearchPlan(bagging=4)) == [(True, 42), (True, 43), (False, 42), (False, 43)]
    assert sizes(SearchPlan(bagging=1)) == [(True, 42)]


def test_there_is_a_mean_only_where_a_seed_draws_something():
    assert sizes(SearchPlan(space=WITHOUT_ANCHOR)) == [(True, 42), (True, 43), (True, 44)]
    fixed = search_space("seed", {"subsample": {"low": 0.8, "high": 0.8}})
    assert len(sizes(SearchPlan(space=fixed))) == 3
    assert len(sizes(SearchPlan(space=search_space("seed")))) == 1, "all would be the same"
    with pytest.raises(SearchError, match="bagging is 0"):
        SearchPlan(bagging=0)
