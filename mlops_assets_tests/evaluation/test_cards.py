"""Card metrics and calibration against other ways to count: pandas from the handbook's definition, scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.calibration import BINS, bins_of_equal_prediction, expected_calibration_error
from mlops_assets.evaluation.cards import PastFrauds, card_precision_at_k, unknown_rows
from mlops_assets.evaluation.money import money_saved, money_saved_over_random
from mlops_assets.evaluation.threshold import by_cost


def card_precision_by_pandas(y: Any, scores: Any, days: Any, cards: Any, k: int) -> float:
    """Return what the handbook defines: per day and card the highest score and label, and what is found is blocked."""
    rows = pd.DataFrame({"day": days, "card": cards, "score": scores, "fraud": y})
    blocked: set[Any] = set()
    precisions = []
    for _, day in rows.groupby("day", sort=True):
        by_card = day[~day["card"].isin(blocked)].groupby("card").agg(score=("score", "max"), fraud=("fraud", "max"))
        top = by_card.nlargest(k, "score")
        found = top.index[top["fraud"] == 1]
        precisions.append(len(found) / k)
        blocked |= set(found)
    return float(np.mean(precisions))


def unknown_by_pandas(y: Any, days: Any, cards: Any, past: PastFrauds) -> Any:
    """Return the rows of cards without a known fraud, day by day: each day, labels of a day longer ago come in."""
    frauds = pd.DataFrame({"card": np.append(cards[y == 1], past.entities), "day": np.append(days[y == 1], past.days)})
    unknown = np.ones(len(y), dtype=bool)
    for day in range(int(days.min()), int(days.max()) + 1):
        known = set(frauds.loc[frauds["day"] <= day - past.label_delay_days - 1, "card"])
        unknown[(days == day) & np.isin(cards, list(known))] = False
    return unknown


def error_by_pandas(y: Any, scores: Any, weights: Any = None) -> float:
    """Return the expected calibration error with bins that hold about the same sum of scores."""
    rows = pd.DataFrame({"score": scores, "fraud": y, "weight": 1.0 if weights is None else weights})
    counts = rows["score"].value_counts().sort_index()  # equal scores share a bin
    sums = counts * counts.index
    total = sums.cumsum().iloc[-1]
    bin_of = (12 * (sums.cumsum() - sums / 2) / total).astype(int).clip(upper=11) if total > 0 else counts * 0
    rows["bin"] = rows["score"].map(bin_of)
    weighted = rows.assign(f=rows["fraud"] * rows["weight"], s=rows["score"] * rows["weight"])
    bins = weighted.groupby("bin")[["f", "s", "weight"]].sum()
    bins = bins[bins["weight"] > 0]
    rates, predicted = bins["f"] / bins["weight"], bins["s"] / bins["weight"]
    return float((bins["weight"] * (rates - predicted).abs()).sum() / bins["weight"].sum())


@st.composite
def card_days(draw: st.DrawFn) -> tuple[Any, Any, Any, Any, int]:
    rows = draw(st.integers(2, 120))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cards, days = random.integers(0, draw(st.sampled_from([2, 10, 60])), rows), random.integers(-3, 6, rows)
    y = (random.random(rows) < draw(st.sampled_from([0.05, 0.3, 0.7]))).astype(np.uint8)
    y[random.permutation(rows)[:2]] = [0, 1]
    return y, random.permutation(rows) / rows, days, cards, draw(st.integers(1, 8))


@settings(max_examples=150, deadline=None)
@given(card_days())
def test_card_precision_is_that_of_the_handbook_s_definition(case: Any):
    assert card_precision_at_k(*case) == pytest.approx(card_precision_by_pandas(*case))


@settings(max_examples=100, deadline=None)
@given(card_days(), st.integers(0, 4))
def test_cards_are_unknown_until_the_label_of_a_fraud_is_known(case: Any, delay: int):
    y, _, days, cards, k = case
    some = cards[:k]
    past = PastFrauds(some, np.arange(len(some)) - 9, float(delay))
    assert np.array_equal(unknown_rows(y == 1, days, cards, past), unknown_by_pandas(y, days, cards, past))


def unknown_by_the_handbook(rows: pd.DataFrame, train: int, delay: int, test: int) -> set[int]:
    """Return the test rows of unknown cards, as `get_train_test_set` of the handbook's shared functions picks them.

    Args:
        rows: `day`, `card`, `fraud`; days from 0.
        train: Days of the training period.
        delay: Days of the delay period, which follows it.
        test: Days of the test period, which follows that.
    """
    known = set(rows[(rows.day < train) & (rows.fraud == 1)].card)
    kept: set[int] = set()
    for day in range(test):
        known |= set(rows[(rows.day == train + day - 1) & (rows.fraud == 1)].card)
        kept |= set(rows[(rows.day == train + delay + day) & ~rows.card.isin(known)].index)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_frauds_of_the_delay_period_make_cards_known_as_in_the_handbook(seed: int):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({"day": random.integers(0, 30, 900), "card": random.integers(0, 120, 900)})
    rows["fraud"] = (random.random(900) < 0.15).astype(int)
    test, before = rows[rows.day >= 22], rows[(rows.day < 22) & (rows.fraud == 1)]

    def unknown(past: pd.DataFrame) -> set[int]:
        frauds = PastFrauds(past.card.to_numpy(), past.day.to_numpy(), 7)
        return set(
            test.index[unknown_rows(test.fraud.to_numpy() == 1, test.day.to_numpy(), test.card.to_numpy(), frauds)]
        )

    expected = unknown_by_the_handbook(rows, train=15, delay=7, test=8)
    assert unknown(before) == expected
    assert unknown(before[before.day < 15]) > expected, "without the delay period, cards that are known are kept"


def test_a_card_that_was_found_leaves_the_list_and_one_that_was_missed_stays():
    days, cards = np.array([0, 0, 1, 1, 2, 2]), np.array([7, 8, 7, 8, 7, 8])
    y, scores = np.array([1, 1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    # Day 0 finds card 7, so day 1 finds card 8, and day 2 has nobody left.
    assert card_precision_at_k(y, scores, days, cards, 1) == pytest.approx(2 / 3)
    # One alert suffices for both frauds of a card on a day.
    assert card_precision_at_k(np.array([1, 1, 0]), np.array([0.9, 0.8, 0.7]), days[:3] * 0, cards[[0, 0, 1]], 2) == 0.5


def test_cards_that_tie_at_the_edge_of_the_list_count_in_part():
    y, scores = np.array([1, 0, 0, 0]), np.full(4, 0.5)
    assert card_precision_at_k(y, scores, np.zeros(4, int), np.arange(4), 2) == pytest.approx(1 / 4)


def test_a_card_is_known_after_the_delay_and_not_on_its_last_day():
    days, cards = np.array([10, 17, 18]), np.array([1, 1, 1])
    nothing = PastFrauds(np.array([], int), np.array([], int), 7)
    assert unknown_rows(np.array([True, False, False]), days, cards, nothing).tolist() == [True, True, False]
    earlier = PastFrauds(np.array([1, 2]), np.array([2, 3]), 7)
    assert unknown_rows(np.zeros(3, bool), days, cards, earlier).tolist() == [False, False, False]
    assert unknown_rows(np.zeros(3, bool), days, cards + 1, earlier).tolist() == [True, False, False]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10, 10_000]))
def test_the_calibration_error_is_that_of_pandas(rows: int, seed: int, levels: int):
    random = np.random.default_rng(seed)
    y, scores = (random.random(rows) < 0.3).astype(np.uint8), np.round(random.random(rows) ** 3 * levels) / levels
    y[:2] = [0, 1]
    assert expected_calibration_error(y, scores) == pytest.approx(error_by_pandas(y, scores))


def test_the_calibration_error_is_the_distance_of_scikit_learn_s_calibration_curve():
    random = np.random.default_rng(3)
    scores = random.beta(0.5, 4, 20_000)
    y = (random.random(20_000) < scores**1.5).astype(np.uint8)
    bins = bins_of_equal_prediction(scores)
    # scikit-learn knows only bins of equal width or equal count: it is given the bins' numbers as scores.
    observed, _ = sklearn.calibration.calibration_curve(y, (bins + 0.5) / BINS, n_bins=BINS)
    rows = np.bincount(bins)
    predicted = np.bincount(bins, weights=scores) / rows
    assert len(rows) == BINS
    assert expected_calibration_error(y, scores) == pytest.approx(rows @ np.abs(observed - predicted) / rows.sum())
    sums = np.bincount(bins, weights=scores)
    assert sums.max() < 1.2 * sums.min()


def test_a_calibrated_score_has_a_smaller_error_than_one_that_is_off_and_brier_agrees():
    random = np.random.default_rng(4)
    levels = np.array([0.001, 0.01, 0.1, 0.5])
    scores = np.repeat(levels, [40_000, 8_000, 1_000, 300])
    y = (random.random(len(scores)) < scores).astype(np.uint8)
    off = np.clip(2 * scores, 0, 1)
    assert expected_calibration_error(y, scores) < 0.001
    assert expected_calibration_error(y, off) > 0.004
    # Where a bin has one score, Brier = calibration squared + what cannot be predicted.
    observed = np.array([y[scores == level].mean() for level in levels])
    share = np.array([np.mean(scores == level) for level in levels])
    brier = share @ ((observed - levels) ** 2 + observed * (1 - observed))
    assert sklearn.metrics.brier_score_loss(y, scores) == pytest.approx(brier)
    assert expected_calibration_error(y, scores) == pytest.approx(share @ np.abs(observed - levels))


def test_money_saved_is_the_cost_of_no_alerts_minus_the_cost_of_the_choice():
    random = np.random.default_rng(5)
    y, amounts = (random.random(2_000) < 0.05).astype(np.uint8), random.gamma(1, 80, 2_000)
    scores = np.where(y == 1, random.beta(2, 2, 2_000), random.beta(0.5, 6, 2_000))
    choice = by_cost(y, scores, amounts, 15.0)
    value = choice.threshold.value
    assert money_saved(y, scores, amounts, value, 15.0) == pytest.approx(choice.cost_of_no_alerts - choice.cost)
    assert money_saved(y, scores, amounts, 0.0, 1e6) < 0, "alerts on everything cost more than they save"


def test_money_over_random_alerts_is_what_random_alerts_miss():
    random = np.random.default_rng(6)
    y, amounts, scores = (random.random(400) < 0.1).astype(np.uint8), random.gamma(1, 80, 400), random.random(400)
    alerts = int((scores >= 0.8).sum())
    caught = (amounts * y)[scores >= 0.8].sum()
    by_chance = np.mean([(amounts * y)[random.permutation(400)[:alerts]].sum() for _ in range(20_000)])
    assert money_saved_over_random(y, scores, amounts, 0.8) == pytest.approx(caught - by_chance, abs=0.02 * by_chance)
    assert money_saved_over_random(y, scores, amounts, 0.0) == pytest.approx(0)


def test_unfit_input_is_refused():
    y, scores, days = np.array([1, 0]), np.array([0.5, 0.4]), np.array([0, 0])
    with pytest.raises(EvaluationError, match="entities of shape"):
        card_precision_at_k(y, scores, days, np.array([1]), 1)
    with pytest.raises(EvaluationError, match="budget of 0"):
        card_precision_at_k(y, scores, days, np.array([1, 2]), 0)
    with pytest.raises(EvaluationError, match="alert cost of -1"):
        money_saved(y, scores, np.ones(2), 0.5, -1.0)
    with pytest.raises(EvaluationError, match="all 2 rows are genuine"):
        expected_calibration_error(y * 0, scores)
