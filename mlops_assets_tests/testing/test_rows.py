"""Drawn rows pass their contract, whichever it is, and the contract itself is the witness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.conform import conform
from mlops_assets.data.contract.contract import Contract, load_contract, parse_contract
from mlops_assets.errors import SettingsError
from mlops_assets.testing.rows import TINY, draw_transactions
from mlops_assets_tests.test_definitions import LATE

CONTRACTS = [load_contract("creditcard"), load_contract("handbook"), TINY, parse_contract(LATE, where="test")]


def bounds(draw: Any) -> dict[str, Any]:
    low = draw(st.none() | st.integers(-1_000, 1_000))
    high = draw(st.none() | st.integers(-1_000 if low is None else low, 2_000))
    return {name: value for name, value in (("min", low), ("max", high)) if value is not None}


@st.composite
def contracts(draw: Any) -> Contract:
    """Any types, ranges and nulls, with event times as timestamps or seconds and keys of both kinds."""
    kinds = draw(st.lists(st.sampled_from(["long", "double", "boolean"]), min_size=1, max_size=4))
    features = [
        Column(
            name=f"f{number}", type=kind, nullable=draw(st.booleans()), **({} if kind == "boolean" else bounds(draw))
        )
        for number, kind in enumerate(kinds)
    ]
    others = [
        Column(name=f"o{number}", type=kind, nullable=draw(st.booleans()))
        for number, kind in enumerate(draw(st.lists(st.sampled_from(["timestamp", "string", "long"]), max_size=3)))
    ]
    time = draw(st.sampled_from(["timestamp", "long", "double"]))
    since = {} if time == "timestamp" else {"min": draw(st.integers(0, 10**9))}
    columns = [
        Column(name="at", type=time, **since),
        Column(name="id", type=draw(st.sampled_from(["long", "string"]))),
        Column(name="who", type=draw(st.sampled_from(["long", "string"]))),
        Column(name="label", type="long", min=0, max=1),
        *features,
        *others,
    ]
    return Contract(
        name="drawn",
        version=1,
        columns=tuple(draw(st.permutations(columns))),
        features=tuple(column.name for column in features),
        target="label",
        event_time="at",
        key="id",
        entity="who",
    )


@settings(max_examples=60, deadline=None)
@given(contract=contracts(), seed=st.integers(0, 99))
def test_any_contract_accepts_its_rows(contract: Contract, seed: int):
    rows = draw_transactions(contract, 50, seed=seed)

    batch = conform(rows, contract, where="test")

    assert (batch.faults, batch.disorder) == ({}, 0)
    assert rows.column_names == list(contract.column_names)
    assert batch.table.select(rows.column_names).equals(rows)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_rows_have_frauds_that_can_be_told_apart_but_not_all(contract: Contract):
    rows = draw_transactions(contract, 2_000, days=10, fraud_rate=0.1)

    label = rows.column(contract.target).to_numpy()
    assert (len(label), label.sum()) == (2_000, 200)
    for name in contract.features:
        values = rows.column(name).drop_null().to_numpy()
        known = label[pc.is_valid(rows.column(name)).to_numpy()]
        assert len(np.unique(values)) > 1
        assert 0.5 < roc_auc_score(known, values) < 0.98, name


def test_the_same_arguments_give_the_same_rows_and_a_second_batch_comes_after_the_first():
    first, again = (draw_transactions(TINY, 100, days=2) for _ in range(2))
    other = draw_transactions(TINY, 100, days=2, seed=8)
    second = draw_transactions(TINY, 100, first_day=2, first_row=100)

    assert first.equals(again)
    assert not first.equals(other)
    assert set(first["id"].to_pylist()).isdisjoint(second["id"].to_pylist())
    assert pc.max(first["at"]).as_py() < pc.min(second["at"]).as_py()
    assert first["risk"].null_count > 0


@pytest.mark.parametrize(("rate", "frauds"), [(0.0, 0), (0.001, 1), (1.0, 20)])
def test_a_rate_above_0_has_a_fraud(rate: float, frauds: int):
    assert pc.sum(draw_transactions(TINY, 20, fraud_rate=rate)["fraud"]).as_py() == frauds


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"days": 0}, {"fraud_rate": 1.5}, {"days": float("nan")}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]):
    with pytest.raises(SettingsError, match="give at least 1 row"):
        draw_transactions(TINY, **arguments)
