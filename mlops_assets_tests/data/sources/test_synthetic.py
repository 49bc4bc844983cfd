from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mlops_assets.data.sources.synthetic import SyntheticSource, generate
from mlops_assets.errors import SettingsError

FEATURES = [*(f"v{number}" for number in range(1, 29)), "amount"]


@pytest.fixture(scope="module")
def defaults() -> pa.Table:
    (batch,) = SyntheticSource().batches()
    return batch.table


def _column(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table.column(name).to_numpy()
    return values


def test_it_has_the_shape_of_the_real_set(defaults: pa.Table):
    assert defaults.column_names == ["time", *FEATURES, "class"]
    assert defaults.schema.types == [pa.float64()] * 30 + [pa.int64()]
    assert defaults.num_rows == 150_000
    assert sum(column.null_count for column in defaults.columns) == 0
    time = _column(defaults, "time")
    assert time[0] == 0
    assert (np.diff(time) >= 0).all()
    assert 9.5 * 86_400 < time[-1] <= 10 * 86_400
    assert _column(defaults, "class").sum() == 750


@given(
    rows=st.integers(100, 3000),
    days=st.floats(0.01, 400),
    fraud_rate=st.floats(0.0001, 0.499),
    seed=st.integers(0, 2**64),
)
@settings(max_examples=30)
def test_every_accepted_parameter_gives_a_whole_table(rows: int, days: float, fraud_rate: float, seed: int):
    table = generate(rows, days, fraud_rate, seed)

    assert table.num_rows == rows
    assert _column(table, "class").sum() == max(1, round(rows * fraud_rate))
    assert all(np.isfinite(_column(table, name)).all() for name in table.column_names)
    assert (np.diff(_column(table, "time")) >= 0).all()
    assert _column(table, "time")[-1] <= days * 86_400
    assert _column(table, "amount").min() >= 0


def test_a_seed_gives_the_same_batch_and_another_seed_another():
    first, again, other = (next(iter(SyntheticSource(rows=500, seed=seed).batches())) for seed in (3, 3, 4))

    assert first.content_hash == again.content_hash
    assert first.table.equals(again.table)
    assert first.origin == "synthetic:seed=3,rows=500,days=10,fraud_rate=0.005"
    assert other.content_hash != first.content_hash


def test_variances_fall_from_the_first_component_to_the_last(defaults: pa.Table):
    deviations = [_column(defaults, name).std() for name in FEATURES[:-1]]

    assert deviations == sorted(deviations, reverse=True)
    assert deviations[0] == pytest.approx(1.95, rel=0.01)
    assert deviations[-1] == pytest.approx(0.33, rel=0.01)


def test_values_are_rounded_as_written(defaults: pa.Table):
    for name, decimals in (("v1", 6), ("v28", 6), ("amount", 2), ("time", 0)):
        values = _column(defaults, name)
        assert (values == np.round(values, decimals)).all()


def test_amounts_have_a_heavy_tail(defaults: pa.Table):
    amount = _column(defaults, "amount")

    assert np.median(amount) < 30
    assert amount.mean() > 2 * np.median(amount)
    assert amount.max() > 100 * np.median(amount)


def test_nights_are_quiet_and_frauds_care_less(defaults: pa.Table):
    hour = _column(defaults, "time") // 3600 % 24
    night, fraud = (hour >= 1) & (hour < 6), _column(defaults, "class") == 1

    assert night[~fraud].mean() < 0.06
    assert night[fraud].mean() > 2 * night[~fraud].mean()


def test_a_few_genuine_rows_stand_next_to_their_twin(defaults: pa.Table):
    rows = np.column_stack([_column(defaults, name) for name in defaults.column_names])
    twins = (rows[1:] == rows[:-1]).all(axis=1)

    assert twins.sum() == 75
    assert rows[1:][twins][:, -1].max() == 0
    assert len(np.unique(rows, axis=0)) == len(rows) - 75


def test_amounts_and_frauds_drift(defaults: pa.Table):
    day, fraud = _column(defaults, "time") / 86_400, _column(defaults, "class") == 1
    early, late = day < 3, day >= 7

    log_amount = np.log1p(_column(defaults, "amount"))
    assert 0.01 < log_amount[late].mean() - log_amount[early].mean() < 0.2
    v14 = _column(defaults, "v14")
    assert v14[fraud & early].mean() < v14[fraud & late].mean() < v14[~fraud].mean() - 0.5


def test_an_honest_model_finds_most_frauds_but_not_all(defaults: pa.Table):
    X = np.column_stack([_column(defaults, name) for name in FEATURES])
    y = _column(defaults, "class")
    train, test = slice(0, 90_000), slice(105_000, None)
    model = xgb.XGBClassifier(n_estimators=60, max_depth=4, learning_rate=0.15, tree_method="hist", n_jobs=1)
    model.fit(X[train], y[train])

    score = average_precision_score(y[test], model.predict_proba(X[test])[:, 1])

    assert 0.6 < score < 0.85


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("rows", 99),
        ("rows", -1),
        ("days", 0.0),
        ("days", float("nan")),
        ("days", float("inf")),
        ("fraud_rate", 0.0),
        ("fraud_rate", 0.5),
        ("fraud_rate", float("nan")),
        ("seed", -1),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(parameter: str, value: float):
    with pytest.raises(SettingsError, match=parameter):
        SyntheticSource(**{parameter: value})  # type: ignore[arg-type]


def test_all_bad_parameters_are_named_at_once():
    with pytest.raises(SettingsError, match=r"rows=1: .*; seed=-1: "):
        generate(1, 1.0, 0.1, -1)
