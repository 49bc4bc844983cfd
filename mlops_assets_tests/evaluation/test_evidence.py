"""Evidence that multiplies: at most 1 on average without a lead, and a product that reaches 40 in one year of forty."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from mlops_assets.evaluation.bootstrap import Gain
from mlops_assets.evaluation.evidence import e_value
from mlops_assets.evaluation.intervals import Interval, below, student


def gain(estimate: float, error: float = 1.0, freedom: float = 1e9) -> Gain:
    return Gain(0.5 + estimate, 0.5, Interval(estimate, 0.0, 0.0, replicates=20, seed=1), error, freedom)


@pytest.mark.parametrize("freedom", [1.0, 4.5, 30.0, 1e5])
def test_the_chance_below_is_that_of_scipy(freedom: float):
    for t in (-6.0, -1.0, 0.0, 0.3, 2.5):
        assert below(t, freedom) == pytest.approx(scipy.stats.t.cdf(t, freedom), abs=1e-4)
    assert below(student(0.95, freedom), freedom) == pytest.approx(0.975, abs=1e-6)


@pytest.mark.parametrize("freedom", [4.0, 30.0, 1e9])
def test_it_is_at_most_one_on_average_where_the_candidate_is_no_better(freedom: float):
    # The mean over 2,000 quantiles lacks what lies beyond the outermost; with 20,000 it is 0.993.
    quantiles = (np.arange(2_000) + 0.5) / 2_000
    leads = scipy.stats.t.ppf(quantiles, freedom) if freedom < 1e6 else scipy.stats.norm.ppf(quantiles)
    assert np.mean([e_value(gain(lead, freedom=freedom), 0.0) for lead in leads]) == pytest.approx(0.984, abs=0.002)
    assert np.mean([e_value(gain(lead - 0.5, freedom=freedom), 0.0) for lead in leads]) < 0.9


def test_it_grows_with_the_lead_and_one_bad_candidate_costs_half_of_it():
    values = [e_value(gain(lead), 0.0) for lead in (-9.0, -1.0, 0.0, 1.0, 2.0, 3.0, 9.0)]
    assert values == sorted(values)
    assert 0.5 < values[0] < 0.54
    assert values[2] < 1 < values[4]
    assert math.isfinite(values[-1])
    assert e_value(gain(2.0), 1.0) == pytest.approx(values[3]), "only what lies above the gain that counts"


def test_a_copy_is_no_evidence():
    assert e_value(gain(0.0, error=0.0), 0.0) == 1.0
