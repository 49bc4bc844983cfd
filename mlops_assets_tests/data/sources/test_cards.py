"""Generated card transactions: features that know nothing of the future, frauds in series, reports that come late."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.card_sources import CardReportsSource, CardsSource
from mlops_assets.data.sources.cards import DAY_S, SCENARIOS, Simulation, known_features, simulate
from mlops_assets.data.sources.windows import Past
from mlops_assets.errors import SettingsError


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return simulate(customers=600, terminals=150, days=40, seed=3)


@pytest.fixture(scope="module")
def frame(simulated: Simulation) -> pd.DataFrame:
    rows = simulated.transactions.to_pandas()
    reports = simulated.labels.to_pandas().set_index("transaction_id").reported_at
    rows["reported_at"] = rows.transaction_id.map(reports)
    rows["fraud"], rows["scenario"] = simulated.fraud, simulated.scenario
    return rows


def seconds(times: pd.Series) -> np.ndarray:
    """Return whole seconds since the first midnight; -1 where there is no time."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    return ((times - start) // pd.Timedelta(seconds=1)).fillna(-1).to_numpy(np.int64)


@pytest.mark.parametrize("with_now", [True, False])
def test_a_window_counts_what_a_loop_counts(with_now: bool):
    random = np.random.default_rng(1)
    entity, time = random.integers(0, 5, 300), random.integers(0, 500, 300)
    value = random.random(300)
    asked, moments = random.integers(0, 6, 200), random.integers(0, 700, 200)
    past = Past(entity, time, value).total(asked, moments, 60, with_now=with_now)
    for of, at, total in zip(asked, moments, past, strict=True):
        until = time <= at if with_now else time < at
        assert total == pytest.approx(value[(entity == of) & until & (time > at - 60)].sum(), abs=1e-9)


def test_customers_windows_are_those_of_pandas(frame: pd.DataFrame):
    ordered = frame.sort_values(["customer_id", "happened_at"], kind="stable")
    rolling = ordered.groupby("customer_id").rolling("7D", on="happened_at").amount
    alone = ~ordered.duplicated(["customer_id", "happened_at"], keep=False).to_numpy()  # pandas counts ties one by one
    np.testing.assert_array_equal(rolling.count().to_numpy()[alone], ordered.customer_count_7d.to_numpy()[alone])
    np.testing.assert_allclose(
        rolling.mean().to_numpy()[alone], ordered.customer_mean_amount_7d.to_numpy()[alone], atol=1e-4
    )


def test_features_of_a_transaction_do_not_change_with_what_happens_later(frame: pd.DataFrame):
    cut = 25 * DAY_S
    time, reported = seconds(frame.happened_at), seconds(frame.reported_at)
    before = time < cut
    known = np.where((reported >= 0) & (reported < cut), reported, -1)[before]
    customer, terminal, amount = (frame[name].to_numpy()[before] for name in ("customer_id", "terminal_id", "amount"))
    for name, values in known_features(time[before], customer, terminal, amount, known).items():
        np.testing.assert_array_equal(values, frame[name].to_numpy()[before], err_msg=name)


def test_frauds_of_a_card_come_in_series_and_a_tampered_terminal_lasts_for_weeks(frame: pd.DataFrame):
    stolen = frame[frame.scenario == SCENARIOS.index("stolen card")].groupby("customer_id").happened_at
    assert stolen.count().median() >= 3
    assert np.median((stolen.max() - stolen.min()).dt.total_seconds()) < 5 * DAY_S
    tampered = frame[frame.scenario == SCENARIOS.index("tampered terminal")].groupby("terminal_id").happened_at
    assert (tampered.max() - tampered.min()).max() > pd.Timedelta(days=7)
    assert 0.003 < frame.fraud.mean() < 0.03
    assert set(frame.scenario[frame.fraud]) == set(range(1, len(SCENARIOS)))


def test_labels_are_reports_of_frauds_alone_and_come_after_them(frame: pd.DataFrame, simulated: Simulation):
    reported = frame[frame.reported_at.notna()]
    assert reported.fraud.all()
    assert (frame.is_fraud == 0).all()
    delay = (reported.reported_at - reported.happened_at).dt.total_seconds() / DAY_S
    assert delay.min() > 0
    early = frame[frame.fraud & (frame.happened_at < frame.happened_at.min() + pd.Timedelta(days=20))]
    assert 0.9 < early.reported_at.notna().mean() < 1, "a few are never reported"
    late = frame[frame.fraud & (frame.happened_at > frame.happened_at.max() - pd.Timedelta(days=2))]
    assert late.reported_at.notna().mean() > 0.9, "the last frauds are reported too"
    assert reported.reported_at.max() > frame.happened_at.max()
    assert 1.2 < delay[early.index.intersection(reported.index)].median() < 2.1
    assert simulated.labels["reported_at"].to_pylist() == sorted(simulated.labels["reported_at"].to_pylist())


def test_a_seed_gives_one_set_and_another_seed_another():
    first, again, other = (simulate(50, 30, 5, seed) for seed in (1, 1, 2))
    assert first.transactions.equals(again.transactions)
    assert first.labels.equals(again.labels)
    assert not first.transactions.equals(other.transactions)


def test_a_batch_is_the_whole_simulation_and_its_hash_is_of_its_content():
    cards = {"customers": 50, "terminals": 30, "days": 5}
    for source, name in ((CardsSource, "cards"), (CardReportsSource, "cards:reports")):
        first, again, other = (next(source(**cards, seed=seed).batches()) for seed in (1, 1, 2))
        assert first.content_hash == again.content_hash != other.content_hash
        assert len(first.content_hash) == 64
        assert first.table.equals(again.table)
        assert first.origin == f"{name}:seed=1,customers=50,terminals=30,days=5"
        assert [batch.origin for batch in source(**cards, seed=1).batches()] == [first.origin]
    assert simulate(**cards, seed=2).labels.equals(other.table)
    with pytest.raises(SettingsError, match="customers=1: at least 20"):
        next(CardsSource(customers=1).batches())


def test_transactions_of_two_simulations_have_no_number_in_common():
    parameters = [(50, 30, 5, 1), (50, 30, 5, 2), (51, 30, 5, 1), (50, 31, 5, 1), (50, 30, 6, 1)]
    numbers = [set(simulate(*chosen).transactions["transaction_id"].to_pylist()) for chosen in parameters]

    assert sum(map(len, numbers)) == len(set.union(*numbers))
    assert max(map(max, numbers)) < 2**53, "exact as a double, such as in JSON"


def test_the_defaults_keep_the_contract_and_nothing_in_it_is_left_out():
    contract = load_contract("cards")
    (batch,) = CardsSource().batches()

    conformed = conform(batch.table, contract, where=batch.origin)

    assert (conformed.faults, conformed.disorder) == ({}, 0)
    assert tuple(batch.table.column_names) == contract.column_names
    assert 145_000 < batch.table.num_rows < 155_000
    ids = {"transaction_id", "happened_at", "customer_id", "terminal_id", "is_fraud"}
    assert set(contract.features) == set(contract.column_names) - ids


def test_arguments_out_of_range_are_named():
    with pytest.raises(SettingsError, match="customers=1: at least 20; days=0: at least 2") as caught:
        simulate(customers=1, terminals=30, days=0, seed=1)
    assert caught.value.fix
