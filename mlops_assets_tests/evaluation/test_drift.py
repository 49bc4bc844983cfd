"""Drift between earlier and later rows, judged by what chance explains."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mlops_assets.evaluation.drift import feature_drift

NAMES = ("still", "shifted", "lost")


def rows(n: int, seed: int, shift: float = 0.0, missing: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 3)).astype(np.float32)
    X[:, 1] += shift
    X[random.random(n) < missing, 2] = np.nan
    return X


def test_what_moved_is_named_and_the_rest_is_not():
    found = {drift.feature: drift for drift in feature_drift(rows(5_000, 1), rows(2_000, 2, 0.8, 0.3), NAMES)}

    assert [name for name in NAMES if found[name].drifted] == ["shifted", "lost"]
    assert list(found)[-1] == "still", "the largest first"


@pytest.mark.parametrize("later", [60, 150, 20_000])
def test_without_drift_nothing_is_named_however_few_rows_there_are(later: int):
    """A fixed bound of 0.1 alone would name one feature of two at 60 rows."""
    noted = [feature_drift(rows(20_000, seed), rows(later, seed + 500), NAMES) for seed in range(60)]

    assert sum(any(drift.drifted for drift in found) for found in noted) <= 7
    assert sum(any(drift.psi > drift.by_chance for drift in found) for found in noted) <= 9, "5 % of 60, and chance"
    if later == 60:
        assert sum(any(drift.psi > 0.1 for drift in found) for found in noted) > 30


def test_what_chance_explains_is_chi_squared():
    (drift,) = feature_drift(rows(9_000, 1)[:, :1], rows(1_000, 2)[:, :1], ["one"])

    assert drift.by_chance == pytest.approx(scipy.stats.chi2.ppf(0.95, 9) * (1 / 9_000 + 1 / 1_000), rel=0.01)


def test_columns_without_a_value_or_with_one_do_not_drift():
    nothing, one = np.full((50, 1), np.nan, dtype=np.float32), np.ones((50, 1), dtype=np.float32)

    assert feature_drift(nothing, nothing, ["x"])[0].psi == 0
    assert feature_drift(one, one, ["x"])[0].psi == 0
    assert feature_drift(nothing, one, ["x"])[0].drifted
    assert feature_drift(one, np.empty((0, 1), dtype=np.float32), ["x"]) == []
