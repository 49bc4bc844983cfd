"""The refit is the winner, the threshold is chosen before the test rows are read, and both have a control."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mlops_assets.data.sources.synthetic import generate
from mlops_assets.errors import EvaluationError, SearchError
from mlops_assets.evaluation.cards import unknown_rows
from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.evaluation.scorer import CARDS, UNKNOWN_CARDS
from mlops_assets.evaluation.threshold import by_alert_budget
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.objective import fit, judge, predict, quantized, to_loss
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets.training.scored_rows import past_frauds
from mlops_assets.training.space import Point
from mlops_assets_tests.training.spaces import seed_point

POINT = seed_point(3, 12, 0.3)
PLAN = EvaluationPlan(replicates=50, alerts_per_day=10)
SEARCH = SearchPlan(trials=1, bagging=1)
NAMES = tuple(f"v{number}" for number in range(1, 29))


@pytest.fixture(scope="module")
def sets() -> tuple[Matrix, Matrix, Matrix]:
    table = generate(rows=6_000, days=6, fraud_rate=0.04, seed=21)
    X = np.column_stack([table.column(name).to_numpy() for name in NAMES]).astype(np.float32)
    y = table.column("class").to_numpy().astype(np.uint8)
    days = (table.column("time").to_numpy() // 86_400).astype(np.int64)
    amounts = table.column("amount").to_numpy()

    def part(first: int, last: int) -> Matrix:
        rows = slice(first, last)
        return Matrix(NAMES, X[rows], y[rows], days[rows], amounts[rows])

    return part(0, 3_600), part(3_600, 4_800), part(4_800, 6_000)


def searched(train: Matrix, validation: Matrix, point: Point = POINT) -> SearchResult:
    binned = quantized(train, threads=1)
    model = fit(point, binned, seed=SEARCH.seed, threads=1)
    value = judge("average_precision", validation.y, model.predict(quantized(validation, threads=1, ref=binned)))
    best = TrialRecord(0, point, "finished", value=value, loss=-value, seconds=0.1, rounds=int(point["n_estimators"]))
    return SearchResult((best,), best, parallelism=1, seconds=0.1, end_reason="")


def test_the_refit_reproduces_the_best_trial(sets: tuple[Matrix, Matrix, Matrix]):
    train, validation, test = sets

    model = finish(train, validation, lambda: test, searched(train, validation), SEARCH, PLAN)

    assert model.reproduction.passed
    assert np.array_equal(model.test_scores, predict(model.booster, test))
    assert model.evaluation.rows == test.rows


def test_a_wrongly_decoded_point_is_found(sets: tuple[Matrix, Matrix, Matrix]):
    """The seed project's defect: what is refitted is not the point that won."""
    train, validation, test = sets
    found = searched(train, validation)
    shifted = {**POINT, "max_depth": POINT["max_depth"] - 2, "n_estimators": POINT["n_estimators"] - 10}
    wrong = dataclasses.replace(found, best=dataclasses.replace(found.best, point=shifted))

    model = finish(train, validation, lambda: test, wrong, SEARCH, PLAN)

    assert not model.reproduction.passed
    assert "the refit is not the winning model" in model.reproduction.description


def test_scores_that_are_far_off_are_calibrated_and_the_order_stays(sets: tuple[Matrix, Matrix, Matrix]):
    """Two trees at a rate of 0.3 leave all scores near the base rate."""
    small, large, test = sets[1], sets[0], sets[2]
    found = searched(small, large, seed_point(3, 2, 0.3))
    plain = finish(small, large, lambda: test, found, SEARCH, PLAN)
    made = finish(small, large, lambda: test, found, SEARCH, dataclasses.replace(PLAN, calibrate=True))

    assert plain.calibration is None
    assert made.calibration is not None
    assert made.calibration.slope > 1
    assert np.array_equal(made.test_scores, predict(made.booster, test)), "what is evaluated is what is served"
    assert made.test_scores == pytest.approx(made.calibration(plain.test_scores), abs=1e-5)
    assert made.threshold.alerts == plain.threshold.alerts
    before, after = (each.evaluation.metrics["average_precision"].estimate for each in (plain, made))
    assert after == pytest.approx(before, abs=1e-3)
    assert made.reproduction.passed


def test_the_test_rows_are_read_once_and_after_every_choice(sets: tuple[Matrix, Matrix, Matrix]):
    train, validation, test = sets
    reads = []

    def read() -> Matrix:
        reads.append(1)
        return test

    whole = finish(train, validation, read, searched(train, validation), SEARCH, PLAN)
    relabelled = dataclasses.replace(test, y=(1 - test.y).astype(np.uint8))
    other = finish(train, validation, lambda: relabelled, searched(train, validation), SEARCH, PLAN)

    assert reads == [1]
    assert other.threshold == whole.threshold
    assert np.array_equal(other.test_scores, whole.test_scores)


def test_the_entities_of_the_rows_reach_the_intervals_and_past_frauds_make_cards_known(
    sets: tuple[Matrix, Matrix, Matrix],
):
    random = np.random.default_rng(2)
    train, validation, test = (dataclasses.replace(part, entities=random.integers(0, 150, part.rows)) for part in sets)
    searched_here = searched(train, validation)

    model = finish(train, validation, lambda: test, searched_here, SEARCH, PLAN, label_delay_days=0)
    plain = finish(*sets[:2], lambda: sets[2], searched_here, SEARCH, PLAN)

    assert model.evaluation.sample.unit == "entity"
    assert test.entities is not None
    assert model.evaluation.sample.clusters == len(np.unique(test.entities))
    assert set(model.evaluation.metrics) - set(plain.evaluation.metrics) == {*CARDS, *UNKNOWN_CARDS}
    assert plain.evaluation.sample.unit == "row", "too few days to draw from"
    past = past_frauds([(part.y, part.days, part.entities) for part in (train, validation)], 0)
    assert past is not None
    unknown = unknown_rows(test.y == 1, test.days, test.entities, past)
    assert 0 < np.count_nonzero(unknown) < test.rows
    estimate = model.evaluation.metrics[UNKNOWN_CARDS[0]].estimate
    assert estimate == pytest.approx(average_precision(test.y[unknown], model.test_scores[unknown]))


def test_a_fraud_between_the_sets_makes_its_card_known(sets: tuple[Matrix, Matrix, Matrix]):
    train, validation, test = (dataclasses.replace(part, entities=np.arange(part.rows) % 90) for part in sets)
    searched_here = searched(train, validation)
    # All cards but ten had a fraud the day before the test rows.
    day = int(test.days.min()) - 1
    between = test.where(np.arange(test.rows) < 80)
    between = dataclasses.replace(between, y=np.ones(80, np.uint8), days=np.full(80, day), entities=np.arange(80))
    nobody = dataclasses.replace(train, y=train.y, entities=-1 - np.arange(train.rows))
    unheard = dataclasses.replace(validation, entities=-1 - np.arange(validation.rows))

    model = finish(nobody, unheard, lambda: test, searched_here, SEARCH, PLAN, between=[between], label_delay_days=0)

    assert test.entities is not None
    first = {int(card): day for card in range(80)}
    for card, at in zip(test.entities[test.y == 1].tolist(), test.days[test.y == 1].tolist(), strict=True):
        first[card] = min(first.get(card, at), at)
    unknown = np.array([first.get(card, 10**9) >= at for card, at in zip(test.entities, test.days, strict=True)])
    assert 0 < unknown.sum() < test.rows / 5
    estimate = model.evaluation.metrics[UNKNOWN_CARDS[0]].estimate
    assert estimate == pytest.approx(average_precision(test.y[unknown], model.test_scores[unknown]))


def test_past_frauds_leave_out_rows_without_an_entity():
    y, days = np.array([1, 1, 0], np.uint8), np.array([3, 4, 5])
    past = past_frauds([(y, days, np.array([8, -2, 9]))], 7.0)
    assert past is not None
    assert (past.entities.tolist(), past.days.tolist(), past.label_delay_days) == ([8], [3], 7.0)
    assert past_frauds([(y, days, None)], 7.0) is None


def test_cost_needs_amounts_and_the_alert_budget_does_not(sets: tuple[Matrix, Matrix, Matrix]):
    train, validation, test = (dataclasses.replace(part, amounts=None) for part in sets)
    found = searched(train, validation)

    with pytest.raises(EvaluationError, match="name the amount column in the contract"):
        finish(train, validation, lambda: test, found, SEARCH, PLAN)

    budget = dataclasses.replace(PLAN, threshold_rule="alert_budget")
    model = finish(train, validation, lambda: test, found, SEARCH, budget)
    assert "cost_against_threshold.png" not in model.pictures.files


def test_the_alert_budget_is_spent_on_whole_days_only(sets: tuple[Matrix, Matrix, Matrix]):
    """A day of twenty rows would add a whole day's alerts to the budget of the others."""
    train, validation, test = sets
    found, plan = searched(train, validation), dataclasses.replace(PLAN, threshold_rule="alert_budget")
    days = validation.days.copy()
    days[:20] = days.min() - 1
    part = dataclasses.replace(validation, days=days, on_whole_day=np.arange(len(days)) >= 20)
    rest = dataclasses.replace(
        validation, X=validation.X[20:], y=validation.y[20:], days=validation.days[20:], amounts=None
    )

    threshold = finish(train, part, lambda: test, found, SEARCH, plan).threshold

    scores = predict(finish(train, validation, lambda: test, found, SEARCH, plan).booster, rest)
    assert threshold == by_alert_budget(scores, rest.days, plan.alerts_per_day)
    assert threshold.rows == len(days) - 20


def test_a_test_set_of_one_class_is_refused(sets: tuple[Matrix, Matrix, Matrix]):
    train, validation, test = sets
    genuine = dataclasses.replace(test, y=np.zeros_like(test.y))

    with pytest.raises(EvaluationError):
        finish(train, validation, lambda: genuine, searched(train, validation), SEARCH, PLAN)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_an_error_and_not_the_best(value: float):
    with pytest.raises(SearchError):
        to_loss("average_precision", value)


def test_losses_point_downhill():
    assert to_loss("average_precision", 0.7) < to_loss("average_precision", 0.6)
    assert to_loss("log_loss", 0.1) < to_loss("log_loss", 0.2)
