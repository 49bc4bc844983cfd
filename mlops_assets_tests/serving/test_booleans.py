"""Booleans in requests: JSON's own, and in CSV the words that an input of the platform may have."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from mlops_assets.cli.serve import example_event
from mlops_assets.data.contract.contract import Contract, parse_contract
from mlops_assets.serving import mlflow_protocol, v2_protocol
from mlops_assets.serving.answers import Refused
from mlops_assets.serving.features import CheckedRows, FeatureReader
from mlops_assets.serving.from_registry import example_rows

CONTRACT = """
name: online
version: 1
event_time: at
target: fraud
features: [amount, abroad, chip]
columns:
  - {name: at, type: timestamp}
  - {name: amount, type: double, min: 0}
  - {name: abroad, type: boolean}
  - {name: chip, type: boolean, nullable: true}
  - {name: fraud, type: long, min: 0, max: 1}
"""


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT, where="test")


def checked(contract: Contract, table: mlflow_protocol.Columns) -> CheckedRows:
    return FeatureReader(contract).check(table.values, table.rows, {}, text=table.text)


def reasons(rows: CheckedRows) -> dict[int, list[tuple[str, str]]]:
    return {row: [(finding.name, finding.reason) for finding in found] for row, found in rows.bad.items()}


def test_an_event_has_json_s_booleans(contract: Contract):
    reader = FeatureReader(contract)
    accepted = msgspec.convert({"amount": 1.0, "abroad": True, "chip": None}, reader.struct)
    buffer = np.empty((1, 3), dtype=np.float32)

    reader.fill(buffer, msgspec.structs.astuple(accepted), {})

    assert np.array_equal(buffer, [[1.0, 1.0, np.nan]], equal_nan=True)
    for wrong, reason in ((1, "unreadable"), ("true", "unreadable"), (None, "null")):
        row = {"amount": 1.0, "abroad": wrong, "chip": False}
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(row, reader.struct)
        assert [(found.name, found.reason) for found in reader.findings(row)] == [("abroad", reason)]


def test_a_table_of_json_has_booleans_and_no_numbers_in_their_place(contract: Contract):
    body = json.dumps({"inputs": {"amount": [1, 2, 3], "abroad": [True, False, 1], "chip": [None, True, "yes"]}})

    rows = checked(contract, mlflow_protocol.read(body.encode(), "application/json"))

    wanted = np.array([[1, 1, np.nan], [2, 0, 1]], np.float32)
    assert np.array_equal(rows.X[:2], wanted, equal_nan=True)
    assert rows.values["abroad"] == [True, False, None]
    assert reasons(rows) == {2: [("abroad", "unreadable"), ("chip", "unreadable")]}


def test_csv_has_the_words_that_an_input_may_have(contract: Contract):
    body = b"amount,abroad,chip\n1,true,F\n2,0,\n3,YES, n \n4,,maybe\n5,2,1\n"

    rows = checked(contract, mlflow_protocol.read(body, "text/csv"))

    assert rows.values["abroad"] == [True, False, True, None, None]
    assert rows.values["chip"] == [False, None, False, None, True]
    assert reasons(rows) == {3: [("abroad", "null"), ("chip", "unreadable")], 4: [("abroad", "unreadable")]}


def test_version_2_has_a_type_for_them(contract: Contract):
    def tensor(name: str, kind: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "shape": [2], "datatype": kind, "data": data}

    tensors = [tensor("amount", "FP64", [1, 2]), tensor("abroad", "BOOL", [True, False])]
    table, _ = v2_protocol.read(
        json.dumps({"inputs": [*tensors, tensor("chip", "BOOL", [None, True])]}).encode(), contract
    )
    assert not checked(contract, table).bad
    told = json.loads(v2_protocol.metadata("m", contract, [1]))["inputs"]
    assert [item["datatype"] for item in told] == ["FP64", "BOOL", "BOOL"]

    table, _ = v2_protocol.read(json.dumps({"inputs": [tensor("amount", "BOOL", [True, False])]}).encode(), contract)
    assert ("amount", "unreadable") in reasons(checked(contract, table))[0], "no number"
    with pytest.raises(Refused, match="numbers, BOOL, or BYTES"):
        v2_protocol.read(json.dumps({"inputs": [tensor("abroad", "BIT", [1, 0])]}).encode(), contract)


def test_examples_are_of_the_type(contract: Contract):
    X = example_rows(contract, {})
    assert set(X[:, 1]) == {0.0, 1.0}
    assert np.isnan(X[:, 2]).any()
    assert isinstance(example_event(contract)["features"]["abroad"], bool)
