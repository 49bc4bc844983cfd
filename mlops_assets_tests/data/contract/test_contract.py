"""What a contract may say, how it refuses what it may not, and that the shipped ones match their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import SHIPPED, Contract, load_contract, parse_contract
from mlops_assets.errors import ContractError

ULB = ["time", *(f"v{number}" for number in range(1, 29)), "amount", "class"]
HANDBOOK = [
    "transaction_id",
    "tx_datetime",
    "customer_id",
    "terminal_id",
    "tx_amount",
    "tx_time_seconds",
    "tx_time_days",
    "tx_fraud",
    "tx_fraud_scenario",
    "tx_during_weekend",
    "tx_during_night",
    "customer_id_nb_tx_1day_window",
    "customer_id_avg_amount_1day_window",
    "customer_id_nb_tx_7day_window",
    "customer_id_avg_amount_7day_window",
    "customer_id_nb_tx_30day_window",
    "customer_id_avg_amount_30day_window",
    "terminal_id_nb_tx_1day_window",
    "terminal_id_risk_1day_window",
    "terminal_id_nb_tx_7day_window",
    "terminal_id_risk_7day_window",
    "terminal_id_nb_tx_30day_window",
    "terminal_id_risk_30day_window",
]


def document(**changes: Any) -> dict[str, Any]:
    """Return a good contract as the YAML file has it, with some entries changed."""
    return {
        "name": "cards",
        "version": 1,
        "columns": [
            {"name": "at", "type": "timestamp"},
            {"name": "card", "type": "string"},
            {"name": "id", "type": "long"},
            {"name": "amount", "type": "double", "min": 0},
            {"name": "tries", "type": "long", "nullable": True},
            {"name": "fraud", "type": "long"},
        ],
        "features": ["amount", "tries"],
        "target": "fraud",
        "event_time": "at",
        "key": "id",
        "entity": "card",
        "amount": "amount",
        **changes,
    }


def with_column(**column: Any) -> list[dict[str, Any]]:
    """Return the columns, one replaced or added by name."""
    kept = [c for c in document()["columns"] if c["name"] != column["name"]]
    return [*kept, {"type": "double", **column}]


# A text column that is a feature.
SHOPS = {
    "columns": [*document()["columns"], {"name": "shop", "type": "string", "nullable": True}],
    "features": ["amount", "tries", "shop"],
    "categories": ["shop"],
}


def parsed(**changes: Any) -> Contract:
    return parse_contract(yaml.safe_dump(document(**changes)), where="cards.yaml")


# What ships.


def test_the_credit_card_contract_has_the_columns_of_the_ulb_set(creditcard: Contract):
    assert list(creditcard.column_names) == ULB
    assert list(creditcard.features) == ULB[1:-1]
    assert (creditcard.target, creditcard.event_time, creditcard.amount) == ("class", "time", "amount")
    assert len(creditcard.features) == 29


def test_the_handbook_contract_has_the_columns_of_the_handbook(handbook: Contract):
    assert {*handbook.column_names, *handbook.ignored} == set(HANDBOOK)
    windows = [name for name in HANDBOOK if name.endswith("_window")]
    assert list(handbook.features) == ["tx_amount", "tx_during_weekend", "tx_during_night", *windows]
    assert (handbook.key, handbook.entity, handbook.amount) == ("transaction_id", "customer_id", "tx_amount")
    assert (handbook.target, handbook.event_time, handbook.label_delay_days) == ("tx_fraud", "tx_datetime", 7)
    assert handbook.column("tx_datetime").type == "timestamp"


def test_the_cards_contract_takes_reports_by_transaction_as_late_labels():
    cards = load_contract("cards")
    assert cards.labels == LabelColumns(key="transaction_id", label="is_fraud", known_at="reported_at")
    assert (cards.key, cards.entity, cards.amount) == ("transaction_id", "customer_id", "amount")
    assert (cards.target, cards.event_time, cards.label_delay_days) == ("is_fraud", "happened_at", 7)
    assert (cards.column("amount").min, cards.column("happened_at").type) == (0, "timestamp")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_says_what_each_column_means_and_that_the_target_is_binary(name: str):
    contract = load_contract(name)

    assert [column.name for column in contract.columns if not column.description] == []
    target = contract.column(contract.target)
    assert (target.min, target.max) == (0, 1)
    assert not {contract.target, contract.event_time, "tx_fraud_scenario"} & set(contract.features)


# Round trip.

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(max_size=12)
BOUNDS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    names = draw(st.lists(NAMES, min_size=3, max_size=8, unique=True))
    event_time, target, *others = names
    columns = [
        Column(name=event_time, type=draw(st.sampled_from(["timestamp", "double", "long"]))),
        Column(name=target, type="long", min=0, max=1),
    ]
    for name in others:
        low, high = sorted(draw(st.tuples(BOUNDS, BOUNDS)))
        columns.append(
            Column(
                name=name,
                type=draw(st.sampled_from(["double", "long"])),
                nullable=draw(st.booleans()),
                min=draw(st.sampled_from([None, low])),
                max=draw(st.sampled_from([None, high])),
                description=draw(TEXT),
            )
        )
    ignored = draw(st.lists(TEXT.map(str.lower), max_size=3).map(tuple))
    return Contract(
        name=draw(NAMES),
        version=draw(st.integers(1, 99)),
        description=draw(TEXT),
        columns=tuple(draw(st.permutations(columns))),
        features=tuple(draw(st.permutations(others))),
        target=target,
        event_time=event_time,
        ignored=tuple(name for name in ignored if name not in names),
        ordered=draw(st.booleans()),
        label_delay_days=draw(st.floats(0, 1e6)),
        min_rows=draw(st.integers(1, 10**9)),
    )


@settings(max_examples=100, deadline=None)
@given(contracts())
def test_a_contract_comes_back_from_its_yaml(contract: Contract):
    again = parse_contract(contract.to_yaml(), where="x")

    assert again == contract
    assert again.fingerprint == contract.fingerprint


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_contract_comes_back_from_its_yaml(name: str):
    assert parse_contract(load_contract(name).to_yaml(), where=name) == load_contract(name)


def test_a_contract_with_every_role_comes_back_from_its_yaml():
    assert parse_contract(parsed().to_yaml(), where="x") == parsed()


# Fingerprint.


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"features": ["tries", "amount"]},
        {"features": ["amount"]},
        {"key": None},
        {"label_delay_days": 7},
        {"min_rows": 2},
        {"ordered": False},
        {"ignored": ["note"]},
        {"columns": with_column(name="tries", type="long")},
        {"columns": with_column(name="tries", type="long", nullable=True, max=9)},
        {"columns": with_column(name="tries", type="double", nullable=True)},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_the_meaning(changes: dict[str, Any]):
    assert parsed(**changes).fingerprint != parsed().fingerprint


def test_the_fingerprint_stays_when_only_descriptions_change():
    described = [{**column, "description": "better words"} for column in document()["columns"]]

    assert parsed(description="new", columns=described).fingerprint == parsed().fingerprint


# Rules.


LABELS = {"key": "id", "label": "is_fraud", "known_at": "known_at"}


@pytest.mark.parametrize(("key", "window"), [("id", None), ("card", 90)])
def test_labels_may_come_late_and_the_target_may_be_missing_until_then(key: str, window: float | None):
    late = {**LABELS, "key": key, "known_at": "Known_At", "window_days": window}
    contract = parsed(labels=late, columns=with_column(name="fraud", type="long", nullable=True))

    assert contract.labels == LabelColumns(key=key, label="is_fraud", known_at="known_at", window_days=window)
    assert parse_contract(contract.to_yaml(), where="x") == contract


def test_the_fingerprint_is_silent_about_the_columns_of_other_files():
    assert parsed(labels=LABELS).fingerprint == parsed().fingerprint


def test_a_good_contract_is_accepted():
    contract = parsed(ignored=["Note", "ROW"])

    assert contract.column_names == ("at", "card", "id", "amount", "tries", "fraud")
    assert contract.ignored == ("note", "row")
    assert contract.column("amount") == Column(name="amount", type="double", min=0)
    with pytest.raises(KeyError):
        contract.column("colour")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "My cards"}, "name: String should match"),
        ({"version": 0}, "version: Input should be greater than or equal to 1"),
        ({"columns": document()["columns"][:2]}, "columns: .*at least 3 items"),
        ({"features": []}, "features: .*at least 1 item"),
        ({"features": "amount"}, "features: Input should be a valid tuple"),
        ({"label_delay_days": -1}, "label_delay_days: .*greater than or equal to 0"),
        ({"label_delay_days": float("inf")}, "label_delay_days: .*finite"),
        ({"min_rows": 0}, "min_rows: .*greater than or equal to 1"),
        ({"owner": "me"}, "owner: Extra inputs are not permitted"),
        ({"ignored": "note"}, "ignored: Input should be a valid tuple"),
        ({"ignored": [1]}, "ignored.0: Input should be a valid string"),
        ({"ignored": None}, "ignored: Input should be a valid tuple"),
        ({"ignored": ["AMOUNT"]}, "columns both kept and ignored: amount"),
        ({"columns": [*document()["columns"], {"name": "at", "type": "long"}]}, "columns named twice: at"),
        ({"columns": with_column(name="tries", type="int")}, "columns.5.type: Input should be 'double', 'long'"),
        ({"columns": with_column(name="tries", units="s")}, "columns.5.units: Extra inputs are not permitted"),
        ({"columns": with_column(name="V1")}, "'V1': use lower-case letters"),
        ({"columns": with_column(name="v 1")}, "'v 1': use lower-case letters"),
        ({"columns": with_column(name="_row_number")}, "'_row_number': use .* starting with a letter"),
        ({"columns": with_column(name="")}, "'': use lower-case letters"),
        ({"columns": with_column(name="card", type="string", min=0)}, "card: a range needs a numeric column"),
        ({"columns": with_column(name="at", type="timestamp", max=1)}, "at: a range needs a numeric column"),
        ({"columns": with_column(name="tries", min=2, max=1)}, "tries: min 2.0 is above max 1.0"),
        ({"columns": with_column(name="tries", min=float("nan"))}, "columns.5.min: .*finite"),
        ({"columns": with_column(name="tries", max=float("inf"))}, "columns.5.max: .*finite"),
        ({"target": "label"}, "roles that name no column: target -> label"),
        ({"event_time": "when"}, "roles that name no column: event_time -> when"),
        ({"key": "k", "entity": "e"}, "key -> k, entity -> e"),
        ({"amount": "money"}, "amount -> money"),
        ({"features": ["amount", "V1"]}, "feature V1 -> V1"),
        ({"features": ["amount", "fraud"]}, r"never a feature: fraud \(a leak\)"),
        ({"features": ["id", "amount"]}, "never a feature: id"),
        ({"columns": with_column(name="at"), "features": ["at"]}, "never a feature: at"),
        ({"features": ["amount", "card"]}, "never a feature: card"),
        ({"features": ["amount", "card"], "entity": None}, "features must be numeric, boolean, or text .*: card"),
        ({"columns": with_column(name="shop", type="category")}, "categories must be features .*: shop"),
        ({"columns": with_column(name="shop", type="categories")}, "Input should be 'double'"),
        ({"columns": with_column(name="at", type="boolean")}, "event_time at must be a timestamp or a number"),
        ({"columns": with_column(name="id", type="boolean")}, "key or entity of type boolean.*: id"),
        ({"columns": with_column(name="card", type="boolean")}, "key or entity of type boolean.*: card"),
        ({"columns": with_column(name="amount", type="boolean")}, "amount amount must be numeric"),
        ({"columns": with_column(name="on", type="boolean", min=0)}, "a range needs a numeric column, not boolean"),
        ({"columns": with_column(name="on", type="boolean"), "last_write": "on"}, "on can't be a row's version"),
        ({"categories": ["tries"]}, "categories must be features of type string or category: tries"),
        ({"categories": ["card"]}, "categories must be features of type string or category: card"),
        ({"monotone": {"merchant": 1}}, "monotone is for numeric features: merchant"),
        ({"monotone": {"id": 1}}, "monotone is for numeric features: id"),
        ({"monotone": {"amount": 2}}, "monotone.amount: Input should be -1 or 1"),
        ({**SHOPS, "monotone": {"shop": 1}}, "monotone is for numeric features: shop"),
        ({"features": ["amount", "amount"]}, "a feature is listed twice"),
        ({"target": "amount", "amount": None, "features": ["tries"]}, "target amount must be of type long"),
        ({"event_time": "card", "entity": None}, "event_time card must be a timestamp or a number of seconds"),
        ({"amount": "card", "entity": None}, "amount card must be numeric"),
        ({"columns": with_column(name="amount")}, "amount amount needs `min: 0` .* amounts below 0 have no cost"),
        ({"columns": with_column(name="amount", min=-0.01)}, "amount amount needs `min: 0`"),
        ({"time_zone": "Europe/Berln"}, "'Europe/Berln' is not a time zone: use an IANA name, such as Europe/Berlin"),
        ({"time_zone": ""}, "'' is not a time zone: use an IANA name"),
        ({"time_zone": "Europe"}, "'Europe' is not a time zone"),
        ({"time_zone": "../etc/passwd"}, "is not a time zone"),
        ({"time_zone": "localtime"}, "'localtime' is not a time zone"),
        ({"time_zone": "right/UTC"}, "'right/UTC' is not a time zone"),
        (
            {"time_zone": "Europe/Berlin", "columns": with_column(name="at")},
            "time_zone Europe/Berlin needs timestamps: event_time at is a number of seconds",
        ),
        ({"columns": with_column(name="amount", min=0, tolerance=-1)}, "tolerance: .*greater than or equal to 0"),
        ({"columns": with_column(name="amount", min=0, tolerance=float("nan"))}, "tolerance: .*finite"),
        ({"columns": with_column(name="tries", type="long", min=0, tolerance=0.1)}, "tries: a tolerance needs"),
        ({"columns": with_column(name="v1", tolerance=0.1)}, "v1: a tolerance needs a `min` or `max`"),
        ({"event_time": "fraud"}, "target or event time with a second role: fraud"),
        ({"key": "fraud"}, "target or event time with a second role: fraud"),
        ({"columns": with_column(name="at"), "amount": "at"}, "target or event time with a second role: at"),
        (
            {"columns": with_column(name="fraud", type="long", nullable=True)},
            "target fraud can't be nullable, unless `labels` says",
        ),
        ({"labels": {"key": "id"}}, "labels.label: Field required; labels.known_at: Field required"),
        ({"labels": {**LABELS, "when": "x"}}, "labels.when: Extra inputs are not permitted"),
        ({"labels": {**LABELS, "key": "amount"}}, "labels.key amount must be the contract's key or entity: id, card"),
        ({"labels": {**LABELS, "label": "ID"}}, "key, label and known_at must be three columns"),
        ({"labels": {**LABELS, "key": "card"}}, "labels by the entity card need `window_days`: without it one report"),
        ({"labels": {**LABELS, "key": "card", "window_days": 0}}, "labels.window_days: .*greater than 0"),
        ({"labels": {**LABELS, "key": "card", "window_days": float("inf")}}, "labels.window_days: .*finite"),
        ({"labels": {**LABELS, "window_days": 7}}, "labels by the key id are about one transaction each: no `window_"),
        (
            {"labels": LABELS, "key": None, "entity": None},
            "labels can't be told apart: they need a `key` or an `entity`",
        ),
        ({"columns": with_column(name="at", nullable=True)}, "at is event time or key and can't be nullable"),
        (
            {"columns": with_column(name="id", type="long", nullable=True)},
            "id is event time or key and can't be nullable",
        ),
        ({"columns": with_column(name="amount", nullable=True)}, "amount amount can't be nullable"),
    ],
)
def test_a_broken_rule_is_refused_with_a_clear_text(changes: dict[str, Any], said: str):
    with pytest.raises(ContractError, match=said) as caught:
        parsed(**changes)
    assert caught.value.where == "cards.yaml"
    assert "Value error" not in str(caught.value)
    assert "compare it with mlops_assets/data/contract/shipped/creditcard.yaml" in str(caught.value)


@pytest.mark.parametrize("missing", ["name", "version", "columns", "features", "target", "event_time"])
def test_what_is_missing_is_named(missing: str):
    text = yaml.safe_dump({name: value for name, value in document().items() if name != missing})

    with pytest.raises(ContractError, match=rf"^{missing}: Field required \[x\]"):
        parse_contract(text, where="x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "not valid YAML"),
        ("", "a contract is a YAML mapping"),
        ("- name", "a contract is a YAML mapping"),
        ("cards", "a contract is a YAML mapping"),
        ("name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_text_that_is_no_contract_is_refused(text: str, said: str):
    with pytest.raises(ContractError, match=said):
        parse_contract(text, where="x")


# Files.


def test_a_contract_of_ones_own_is_read_from_a_file(tmp_path: Path):
    path = tmp_path / "cards.yaml"
    path.write_text(yaml.safe_dump(document(description="é")), "utf-8")

    assert load_contract(str(path)) == parsed(description="é")


def test_a_contract_that_is_not_there_is_refused(tmp_path: Path):
    for place in ("visa", str(tmp_path)):
        with pytest.raises(ContractError, match=r"no such contract .*creditcard, handbook"):
            load_contract(place)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "cards.yaml"
    path.write_bytes(b"name: caf\xe9")

    with pytest.raises(ContractError, match=r"can't be read: .* \[.*cards.yaml\] .* UTF-8"):
        load_contract(str(path))


def test_a_contract_may_have_categories_and_constraints_and_they_are_silent_about_the_table():
    contract = parsed(**SHOPS, monotone={"amount": 1, "tries": -1})

    assert parse_contract(contract.to_yaml(), where="x") == contract
    assert contract.monotone == {"amount": 1, "tries": -1}
    assert parsed(monotone={"amount": 1}).fingerprint == parsed().fingerprint


def test_a_category_by_type_is_the_same_contract_as_one_by_name():
    columns = [{**column, "type": "category"} if column["name"] == "shop" else column for column in SHOPS["columns"]]

    contract = parsed(columns=columns, features=SHOPS["features"])

    assert contract == parsed(**SHOPS) == parsed(**SHOPS | {"columns": columns})
    assert contract.column("shop").type == "string"
    assert parse_contract(contract.to_yaml(), where="x") == contract


def test_a_boolean_may_be_a_feature_and_constrained():
    columns = with_column(name="abroad", type="boolean", nullable=True)

    contract = parsed(columns=columns, features=["amount", "abroad"], monotone={"abroad": 1})

    assert contract.column("abroad").type == "boolean"
    assert parse_contract(contract.to_yaml(), where="x") == contract


def test_a_table_of_before_there_were_models_in_contracts_keeps_its_fingerprint(creditcard: Contract):
    assert creditcard.fingerprint == "f78083db8e8fd7c1"  # pragma: allowlist secret


def test_a_contract_has_a_time_zone():
    assert parsed().time_zone == "UTC"
    assert parsed(time_zone="Europe/Berlin").time_zone == "Europe/Berlin"
    assert parsed(time_zone="Europe/Berlin").fingerprint != parsed().fingerprint


def test_a_contract_cannot_be_changed_in_place(creditcard: Contract):
    with pytest.raises(ValueError, match="frozen"):
        creditcard.version = 2
