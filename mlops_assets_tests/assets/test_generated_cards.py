"""Generated cards from source to sets: the frauds in each set are those that the simulation's own truth counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mlops_assets.assets.label_sources import CardReports
from mlops_assets.assets.sources import CardTransactions
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.cards import Simulation, simulate
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.mature_rows import mature_rows
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.testing.invoking import Outcome, plain
from mlops_assets_tests.assets.harness import bring_labels, load, split

CHOSEN = {"customers": 250, "terminals": 60, "days": 40, "seed": 3}
DELAY = pd.Timedelta(days=7)


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return simulate(**CHOSEN)


@pytest.fixture(scope="module")
def truth(simulated: Simulation) -> pd.DataFrame:
    """Return what happened: time, whether it was a fraud, and when that was reported, by transaction."""
    rows = simulated.transactions.select(["transaction_id", "happened_at"]).to_pandas()
    reports = simulated.labels.to_pandas().set_index("transaction_id").reported_at
    rows["fraud"], rows["reported_at"] = simulated.fraud, rows.transaction_id.map(reports)
    return rows.set_index("transaction_id")


@pytest.fixture(scope="module")
def loaded(new_lakehouse: Callable[[], Lakehouse]) -> tuple[Lakehouse, Outcome, Outcome]:
    """Tables with reports and transactions, in the order of the main job, and what the two loads yielded."""
    lakehouse = new_lakehouse()
    # Reports of other cards too: their transactions never come.
    assert bring_labels(lakehouse, CardReports(**CHOSEN | {"seed": 4, "days": 10}), "cards").failure is None
    reports = bring_labels(lakehouse, CardReports(**CHOSEN), "cards")
    return lakehouse, reports, load(lakehouse, CardTransactions(**CHOSEN), "cards")


@pytest.mark.proof  # a large load with its labels
def test_all_come_in_genuine_and_each_report_labels_its_own_transaction(
    loaded: tuple[Lakehouse, Outcome, Outcome], simulated: Simulation, truth: pd.DataFrame
):
    lakehouse, reports, rows = loaded
    others = simulate(**CHOSEN | {"seed": 4, "days": 10}).labels.num_rows

    assert (reports.failure, rows.failure) == (None, None)
    assert (reports.metadata["rows_added"], reports.metadata["rows_quarantined"]) == (simulated.labels.num_rows, 0)
    assert (rows.metadata["rows_added"], rows.metadata["rows_quarantined"]) == (len(truth), 0)
    assert "0 frauds and" in rows.findings["load_classes"][1]
    reported = truth.index[truth.reported_at.notna()]
    assert rows.metadata["frauds"] == rows.metadata["late_labels"] == len(reported) < truth.fraud.sum()
    raw = lakehouse.require("raw_transactions", made_by="raw_transactions")
    found = lakehouse.read(raw.name, raw.version).where("is_fraud = 1").select("transaction_id").toPandas()
    assert set(found.transaction_id) == set(reported)

    again = bring_labels(lakehouse, CardReports(**CHOSEN), "cards")
    assert (again.metadata["rows_added"], again.metadata["rows_already_known"]) == (0, len(reported))
    assert again.metadata["labels_waiting"] == others > 0


@pytest.mark.proof  # a cut of a large table
def test_each_set_has_the_frauds_that_were_reported_by_the_time_it_would_be_used(
    loaded: tuple[Lakehouse, Outcome, Outcome], truth: pd.DataFrame
):
    lakehouse = loaded[0]
    outcome = split(lakehouse, contract="cards")
    assert outcome.failure is None, outcome.message
    shown = {result.asset_key.to_user_string(): plain(result) for result in outcome.results if result.asset_key}
    columns = ["transaction_id", "is_fraud"]
    sets = {
        name: lakehouse.read(table.name, table.version).select(columns).toPandas().set_index("transaction_id")
        for name, table in pinned_sets(lakehouse).items()
    }
    spans = {name: truth.loc[rows.index].happened_at.agg(["min", "max"]) for name, rows in sets.items()}

    for earlier, later in (("train", "validation"), ("validation", "test")):
        assert spans[later]["min"] - spans[earlier]["max"] > DELAY
    known_by = {
        "train": spans["validation"]["min"],
        "validation": spans["test"]["min"],
        "test": pd.Timestamp.now("UTC"),
    }
    unknown = 0
    for name, rows in sets.items():
        block = truth[truth.happened_at.between(*spans[name])]
        known = block.fraud & (block.reported_at <= known_by[name])
        assert len(rows) == len(block)
        assert (rows.is_fraud.reindex(block.index).to_numpy() == known.to_numpy(np.int64)).all()
        assert shown[f"{name}_set"]["frauds"] == known.sum() > 0
        later = (block.fraud & block.reported_at.notna() & ~known).sum()
        assert shown[f"{name}_set"]["frauds_known_later"] == later
        unknown += later
    assert unknown > 0, "some reports come after the gap"


@pytest.mark.proof  # a cut of a large table
def test_the_frauds_before_the_test_set_include_those_of_the_gaps(
    loaded: tuple[Lakehouse, Outcome, Outcome], truth: pd.DataFrame
):
    lakehouse = loaded[0]
    assert split(lakehouse, contract="cards").failure is None
    sets, contract = pinned_sets(lakehouse), load_contract("cards")

    frauds = mature_rows(lakehouse, contract, sets).earlier_frauds

    assert frauds is not None
    begin = lakehouse.read("test_set", sets["test"].version).toPandas().happened_at.min().tz_localize("UTC")
    reported = truth.reported_at.notna()  # all reports have arrived by now
    expected = set(truth.index[reported & (truth.happened_at < begin)])
    found = set(frauds.toPandas().transaction_id)
    assert found == expected
    inside = [
        set(lakehouse.read(sets[name].name, sets[name].version).toPandas().transaction_id)
        for name in ("train", "validation")
    ]
    assert found - inside[0] - inside[1], "the gaps hold frauds"
