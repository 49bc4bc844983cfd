"""Replicates from bags of clusters against replicates from all rows, and where they are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks._series import THRESHOLD, Population, population
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation import bags
from mlops_assets.evaluation.bags import BAGS, draws_from_bag, share_of_bag
from mlops_assets.evaluation.bootstrap import Bootstrap, Comparison, Contender, bootstrap, compare
from mlops_assets.evaluation.calibration import CalibrationBins
from mlops_assets.evaluation.cards import PastFrauds
from mlops_assets.evaluation.clusters import MAX_DRAWS_PER_REPLICATE, MIN_DAYS
from mlops_assets.evaluation.intervals import Design, Interval
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.evaluation.support import Support


def lowered(monkeypatch: pytest.MonkeyPatch, *, rows: int, effective: int = 20) -> None:
    """Take bags from so few rows on that both ways are quick."""
    monkeypatch.setattr(bags, "ROWS_WITHOUT_BAGS", 1_000)
    monkeypatch.setattr(bags, "BAG_ROWS", rows)
    monkeypatch.setattr(bags, "CLUSTERS", effective)
    monkeypatch.setattr(bags, "ALERTS", 10)


def alone(drawn: Population, replicates: int = 200) -> Bootstrap:
    return bootstrap(drawn.rows, scores=drawn.better, threshold=THRESHOLD, design=Design(replicates, 1))


def together(drawn: Population, replicates: int = 200) -> Comparison:
    better, worse = (Contender(scores, THRESHOLD) for scores in (drawn.better, drawn.worse))
    return compare(drawn.rows, candidate=better, baseline=worse, design=Design(replicates, 1))


def intervals(drawn: Population, replicates: int) -> dict[str, Interval]:
    gains = together(drawn, replicates).gains
    return alone(drawn, replicates).intervals | {f"gain in {name}": gain.interval for name, gain in gains.items()}


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def ratios(monkeypatch: pytest.MonkeyPatch, seed: int, frauds: int, replicates: int) -> dict[str, float]:
    """Return the width from bags over that from all rows, of each metric and gain; estimates must be equal."""
    drawn = population(np.random.default_rng(seed), frauds)
    drawn = replace(drawn, rows=replace(drawn.rows, alerts_per_day=frauds // 8))
    whole = intervals(drawn, replicates)
    with monkeypatch.context() as patched:
        lowered(patched, rows=len(drawn.rows.y) // 5)
        part = intervals(drawn, replicates)
    assert part.keys() == whole.keys()
    for name, interval in part.items():
        assert (interval.estimate, interval.replicates) == (whole[name].estimate, replicates), name
        off = (interval.low + interval.high - whole[name].low - whole[name].high) / 2
        assert abs(off) < 0.1 * (whole[name].high - whole[name].low), name
    return {name: (i.high - i.low) / (whole[name].high - whole[name].low) for name, i in part.items()}


def test_bags_give_the_estimates_of_all_rows_and_intervals_about_as_wide(monkeypatch: pytest.MonkeyPatch):
    found = ratios(monkeypatch, seed=1, frauds=800, replicates=150)

    assert len(found) == 13 + 5
    # 150 replicates know a width to 6 %, and a bag of twenty cards with frauds knows it to 16 %.
    assert all(0.6 < ratio < 1.6 for ratio in found.values()), found


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_bags_give_intervals_as_wide_as_all_rows_do_on_average(monkeypatch: pytest.MonkeyPatch):
    """Four populations of 1,600 frauds; the mean of a ratio is known to about 5 %, that of ROC AUC to less."""
    found = [ratios(monkeypatch, seed, frauds=1_600, replicates=150) for seed in range(4)]

    mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    wide = mean.pop("gain in precision_at_budget")  # `bags.ALERTS` says why
    assert 0.85 < wide < 1.4
    assert all(0.8 < ratio < 1.2 for ratio in mean.values()), mean


def test_a_set_of_few_rows_or_clusters_or_alerts_needs_no_bags_or_larger_ones():
    few, many = bags.ROWS_WITHOUT_BAGS, 100 * bags.ROWS_WITHOUT_BAGS
    assert share_of_bag(few, 1e6, 1_000_000) == 1
    assert share_of_bag(many, 1e6, 1_000_000) == bags.BAG_ROWS / many
    assert share_of_bag(many, 200, 1_000_000) == bags.CLUSTERS / 200
    assert share_of_bag(many, 1e6, 100) == bags.ALERTS / 100
    assert share_of_bag(many, 99, 1_000_000) == share_of_bag(many, 1e6, 49) == share_of_bag(many, 0, 1) == 1


def test_nothing_changes_up_to_the_largest_set_without_bags(monkeypatch: pytest.MonkeyPatch):
    drawn = population(np.random.default_rng(2), 800)
    whole, both = alone(drawn, 40), together(drawn, 40)
    lowered(monkeypatch, rows=5_000)
    assert (alone(drawn, 40), together(drawn, 40)) != (whole, both)
    monkeypatch.setattr(bags, "ROWS_WITHOUT_BAGS", len(drawn.rows.y))
    assert (alone(drawn, 40), together(drawn, 40)) == (whole, both)


def test_intervals_of_a_small_set_are_those_from_before_there_were_bags():
    """To the last digits that another build of NumPy may round differently."""
    drawn = population(np.random.default_rng(3), 300)
    found, gains = alone(drawn, 30).intervals, together(drawn, 30).gains

    assert ends(found["average_precision"]) == pytest.approx((0.501766418003144, 0.7624924772863001), rel=1e-12)
    assert ends(found["precision_at_budget"]) == pytest.approx((0.6011984781000143, 0.8623349872092726), rel=1e-12)
    assert ends(found["kappa"]) == pytest.approx((0.45440839390715415, 0.6325578597116575), rel=1e-12)
    assert ends(found["calibration_error"]) == pytest.approx((0.06831252136680255, 0.07208120137627047), rel=1e-12)
    assert ends(found["money_saved"]) == pytest.approx((7023.43496037577, 17653.857539783206), rel=1e-12)
    assert ends(gains["brier"].interval) == pytest.approx((-0.00016256795701537023, 0.0007334075567284793), rel=1e-9)


def test_days_are_drawn_from_all_rows_and_so_are_few_cards(monkeypatch: pytest.MonkeyPatch):
    by_card = population(np.random.default_rng(4), 300)
    by_day = replace(by_card, rows=replace(by_card.rows, entities=None))
    assert len(np.unique(by_day.rows.days)) >= MIN_DAYS
    whole = [alone(by_card, 30), alone(by_day, 30)]
    lowered(monkeypatch, rows=1_000, effective=bags.CLUSTERS)
    assert [alone(by_card, 30), alone(by_day, 30)] == whole


def test_unknown_cards_count_too(monkeypatch: pytest.MonkeyPatch):
    """With hardly a fraud on unknown cards, no bag would hold enough of them."""
    drawn = population(np.random.default_rng(5), 800)
    rows = drawn.rows
    assert rows.entities is not None
    bad = np.unique(rows.entities[rows.y == 1])

    def past(known: Any) -> Rows:
        return replace(rows, past=PastFrauds(known, np.full(len(known), -9), 1.0))

    many, few = (Support.of(past(known), rows.clusters, rows.y == 1) for known in (bad[:30], bad[3:]))
    assert many.effective > 40
    assert few.effective < 4

    lowered(monkeypatch, rows=20_000)
    by_bags = alone(replace(drawn, rows=past(bad[:30])), 40)
    monkeypatch.setattr(bags, "ROWS_WITHOUT_BAGS", 10**9)
    assert by_bags != alone(replace(drawn, rows=past(bad[:30])), 40)
    assert "unknown_card_average_precision" in by_bags.intervals
    lowered(monkeypatch, rows=20_000)
    few_by_bags = alone(replace(drawn, rows=past(bad[3:])), 40)
    monkeypatch.setattr(bags, "ROWS_WITHOUT_BAGS", 10**9)
    assert few_by_bags == alone(replace(drawn, rows=past(bad[3:])), 40)


def test_a_bag_without_a_fraud_is_drawn_again_and_in_the_end_refused():
    holds_fraud = np.zeros(20)
    holds_fraud[7] = 1.0
    found = list(bags.bags(20, 0.2, 1, lambda bag: bool(bag @ holds_fraud > 0)))

    assert len(found) == BAGS
    assert all(bag[7] == 1 and bag.sum() == 4 for bag, _ in found)
    assert sum(tries for _, tries in found) > BAGS
    with pytest.raises(EvaluationError, match=f"{MAX_DRAWS_PER_REPLICATE} resamples in a row"):
        list(bags.bags(20, 0.2, 1, lambda bag: bool(bag @ np.zeros(20) > 0)))


def test_bags_that_are_drawn_again_are_reported(monkeypatch: pytest.MonkeyPatch):
    drawn = population(np.random.default_rng(6), 800)
    lowered(monkeypatch, rows=20_000)
    seen = []

    def second_only(self: Support, copies: Any) -> bool:
        seen.append(copies)
        return len(seen) % 2 == 0

    monkeypatch.setattr(Support, "all_defined", second_only)
    assert alone(drawn, 40).sample.redrawn == BAGS


def test_a_model_has_no_gain_over_itself_in_a_bag(monkeypatch: pytest.MonkeyPatch):
    drawn = population(np.random.default_rng(7), 800)
    lowered(monkeypatch, rows=20_000)
    for gain in together(replace(drawn, worse=drawn.better), 40).gains.values():
        assert (gain.interval.low, gain.interval.estimate, gain.interval.high) == (0, 0, 0)
        assert gain.error == 0


def test_a_replicate_of_a_bag_has_the_weight_of_all_clusters():
    found = np.array([counts for counts, _ in draws_from_bag(50, 400, 300, (3, 1), lambda _: True)])

    assert (found.sum(axis=1) == 400).all()
    assert found.mean() == 8
    assert found.var() == pytest.approx(8 * (1 - 1 / 50), rel=0.05)


def test_the_calibration_of_a_part_is_that_of_all_rows():
    random = np.random.default_rng(8)
    score = random.random(20_000) ** 4
    bins = CalibrationBins.of(random.random(20_000) < 0.9 * score, score)
    kept = np.arange(20_000) % 20 == 0

    whole, part = bins.error(np.ones(20_000)), bins.part(kept).error(np.full(1_000, 20.0))
    assert part == pytest.approx(whole, rel=1e-9)
    assert CalibrationBins(bins.bins[kept], bins.surplus[kept]).error(np.ones(1_000)) > 1.2 * whole
