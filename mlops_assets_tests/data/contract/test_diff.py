"""What is different is said in full, and a table follows a contract only by its version."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.contract.diff import new_columns, renamed, require_columns, table_rules
from mlops_assets.errors import ContractError, SchemaMismatchError

CARDS = Contract(
    name="cards",
    version=2,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="timestamp"),
        Column(name="amount", type="double", min=0),
        Column(name="shop", type="string", nullable=True),
        Column(name="fraud", type="long"),
    ),
    features=("amount",),
    target="fraud",
    event_time="at",
    key="id",
    ignored=("note",),
)
TYPES: dict[str, pa.DataType] = {
    "id": pa.int32(),
    "at": pa.timestamp("ms"),
    "amount": pa.string(),
    "shop": pa.dictionary(pa.int8(), pa.string()),
    "fraud": pa.bool_(),
    "note": pa.list_(pa.int8()),
}


def require(types: dict[str, pa.DataType]) -> None:
    require_columns(pa.schema(list(types.items())), CARDS, where="day.parquet")


THEIRS = CARDS.model_validate({**CARDS.model_dump(), "rename": {"TX_Amount": "amount"}})


def test_columns_under_other_names_get_those_of_the_contract():
    table = pa.table({"tx_amount": [1.0], "id": [1]})

    assert renamed(table, THEIRS, where="a").column_names == ["amount", "id"]
    assert renamed(table, CARDS, where="a").column_names == ["tx_amount", "id"]
    assert renamed(table.rename_columns(["amount", "id"]), THEIRS, where="a").column_names == ["amount", "id"]
    assert THEIRS.fingerprint == CARDS.fingerprint, "the table is the same"
    with pytest.raises(SchemaMismatchError, match="columns under two names: amount"):
        renamed(table.append_column("amount", pa.array([2.0])), THEIRS, where="a")


@pytest.mark.parametrize("wrong", [{"x": "nothing"}, {"id": "amount"}, {"x": "amount", "y": "amount"}])
def test_a_rename_that_leads_nowhere_or_to_one_column_twice_is_refused(wrong: dict[str, str]):
    with pytest.raises(ValidationError, match="rename leads other names to columns, one to each"):
        CARDS.model_validate({**CARDS.model_dump(), "rename": wrong})


def test_columns_that_can_be_read_pass():
    require(TYPES)
    require({name: pa.null() for name in CARDS.column_names})
    require({name: pa.binary() for name in CARDS.column_names})


def test_all_that_is_different_is_listed_in_words_and_as_a_table():
    wrong = {**TYPES, "at": pa.int64(), "amount": pa.timestamp("s"), "colour": pa.string()}
    del wrong["fraud"]

    with pytest.raises(SchemaMismatchError) as raised:
        require(wrong)

    error = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - as it crosses from the step to the run
    assert error.what == (
        "missing columns: fraud; unknown columns: colour; "
        "changed types: at is int64, not timestamp, amount is timestamp[s], not double (contract cards v2)"
    )
    assert error.where == "day.parquet"
    assert error.diff.splitlines() == [
        "| column | problem | cards v2 | input |",
        "|---|---|---|---|",
        "| fraud | missing | long |  |",
        "| colour | unknown |  | string |",
        "| at | changed type | timestamp | int64 |",
        "| amount | changed type | double | `timestamp[s]` |",
    ]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("shop", pa.list_(pa.string())),
        ("amount", pa.struct([("a", pa.int8())])),
        ("at", pa.float64()),
        ("id", pa.date32()),
        ("id", pa.time64("us")),
    ],
    ids=str,
)
def test_a_type_of_which_no_value_can_be_read_is_a_changed_type(column: str, kind: pa.DataType):
    with pytest.raises(SchemaMismatchError, match=f"changed types: {column} is"):
        require({**TYPES, column: kind})


def changed(version: int, **column: Any) -> Contract:
    """Return the contract with another version, and another `amount`."""
    columns = tuple(c.model_copy(update=column) if c.name == "amount" else c for c in CARDS.columns)
    return CARDS.model_copy(update={"version": version, "columns": columns})


def following(contract: Contract) -> list[str]:
    return [column.name for column in new_columns(contract, table_rules(CARDS), where="raw")]


def test_the_same_rules_are_followed():
    loads = CARDS.model_copy(update={"min_rows": 9, "max_bad_share": 0.5, "ordered": False, "label_delay_days": 3.0})

    assert following(CARDS) == []
    assert following(loads) == []
    assert following(changed(2, description="in euros")) == []


def test_a_change_under_the_same_version_is_refused_with_what_has_changed():
    with pytest.raises(ContractError) as raised:
        following(changed(2, max=10.0))

    assert raised.value.what == "the contract has changed, its version is still 2: amount: changed max (none -> 10.0)"
    assert "| amount | changed max | none | 10.0 |" in raised.value.diff
    assert "raise `version`" in raised.value.fix


@pytest.mark.parametrize("change", [{"max": 10.0}, {"min": None}, {"nullable": True}], ids=str)
def test_a_raised_version_may_change_ranges_and_allow_nulls(change: dict[str, Any]):
    assert following(changed(3, **change)) == []


def test_a_raised_version_may_add_nullable_columns():
    added = CARDS.model_copy(
        update={"version": 3, "columns": (*CARDS.columns, Column(name="city", type="string", nullable=True))}
    )

    assert following(added) == ["city"]


NOT_FOLLOWED = {
    'changed type ("double -> long")': changed(3, type="long"),
    "new, not nullable": CARDS.model_copy(
        update={"version": 3, "columns": (*CARDS.columns, Column(name="city", type="string"))}
    ),
    "removed": CARDS.model_copy(update={"version": 3, "columns": tuple(c for c in CARDS.columns if c.name != "shop")}),
    "changed nullable": CARDS.model_copy(
        update={
            "version": 3,
            "columns": tuple(c.model_copy(update={"nullable": False}) for c in CARDS.columns),
        }
    ),
    "key: changed role (id -> none)": CARDS.model_copy(update={"version": 3, "key": None}),
    "name: changed role": CARDS.model_copy(update={"version": 3, "name": "other"}),
}


@pytest.mark.parametrize("problem", NOT_FOLLOWED)
def test_what_would_bend_rows_needs_a_new_table(problem: str):
    with pytest.raises(ContractError, match="the table can't follow the contract to version 3") as raised:
        following(NOT_FOLLOWED[problem])

    assert problem.partition(' ("')[0] in raised.value.what
    assert "MLOPS_DATABASE" in raised.value.fix


def test_a_version_that_goes_back_is_refused():
    with pytest.raises(ContractError, match="written under version 2 of the contract, this is 1"):
        following(changed(1))
