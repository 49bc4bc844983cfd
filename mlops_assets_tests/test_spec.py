"""A model's spec: names that follow from it, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import ContractError, SettingsError
from mlops_assets.spec import FraudModelSpec

WHERE = "the test"


def parsed(**attributes: Any) -> FraudModelSpec:
    return FraudModelSpec.parse({"contract": "creditcard", **attributes}, where=WHERE)


def test_the_names_follow_from_the_models():
    spec = parsed(name="cards", source="openml:42")

    assert spec.path("train_set") == ("cards", "train_set")
    assert spec.prefixed("main") == "cards__main"
    assert (spec.database, spec.registered_model) == ("cards_openml", "fraud_cards_openml")
    assert (spec.experiment, spec.group, spec.title) == ("cards", "cards", "cards")
    assert (spec.source_kind, spec.source_place) == ("openml", "42")


def test_a_model_without_a_name_has_no_prefix_and_is_called_after_its_contract():
    spec = parsed(source="delta:/tables/payments")

    assert spec.path("train_set") == ("train_set",)
    assert spec.prefixed("main") == "main"
    assert (spec.database, spec.registered_model) == ("creditcard_delta", "fraud_creditcard_delta")
    assert (spec.experiment, spec.group, spec.title) == ("mlops_assets", "creditcard", "creditcard_delta")
    assert spec.source_place == "/tables/payments"


def test_what_is_given_counts_and_names_that_follow_take_it():
    spec = parsed(name="cards", database="old_cards", experiment="/Shared/x", group="fraud")

    assert (spec.database, spec.registered_model) == ("old_cards", "fraud_old_cards")
    assert (spec.experiment, spec.group) == ("/Shared/x", "fraud")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"name": "Cards"}, r"^name: use lower-case letters"),
        ({"name": "two__parts"}, r"^name: .*single underscores"),
        ({"database": "../elsewhere"}, r"^database: use lower-case letters"),
        ({"source": ""}, r"^source: "),
        ({"retrain_rows": 0}, r"^retrain_rows: "),
        ({"retrain_days": float("nan")}, r"^retrain_days: "),
        ({"source": "asset:payments/clean"}, r"^source: name the asset's key and the place"),
        ({"source": "stream:"}, r"^source: name one folder, without wildcards"),
        ({"source": "stream:/in/*.csv"}, r"^source: name one folder, without wildcards"),
        ({"source": "stream:https://127.0.0.1/in"}, r"^source: name one folder, without wildcards"),
        ({"source": "table:payments"}, r"^source: name the table with all three levels"),
        ({"source": "table:main.sales.pay ments"}, r"^source: name the table with all three levels"),
        ({"owners": []}, r"^owners: "),
        ({"placement": {"tuned_model": "moon"}}, r"^placement\.tuned_model: "),
        ({"suorce": "x"}, r"^suorce: .*the attributes are name, contract, source"),
    ],
)
def test_a_bad_attribute_is_refused_by_its_name_and_nothing_else_is_blamed(attributes: dict[str, Any], said: str):
    with pytest.raises(SettingsError, match=said) as caught:
        parsed(**attributes)

    assert caught.value.where == WHERE
    assert "default factory" not in caught.value.what


def test_the_table_of_an_asset_of_ones_own_is_a_source():
    spec = parsed(name="cards", source="asset:payments/clean@/tables/clean")

    assert (spec.source_kind, spec.source_place, spec.upstream) == ("delta", "/tables/clean", ("payments", "clean"))
    assert parsed(source="delta:/tables/clean").upstream == ()


def test_a_table_of_a_catalog_is_a_source():
    spec = parsed(name="cards", source="table:main.sales.payments")

    assert (spec.source_kind, spec.source_place, spec.database) == ("table", "main.sales.payments", "cards_table")
    assert spec.upstream == ()


def test_labels_need_a_contract_that_tells_of_them(handbook: Contract):
    with pytest.raises(ContractError, match="the contract has no `labels`"):
        parsed(contract=handbook, labels="/labels")


def test_generated_cards_bring_their_reports_as_labels_unless_others_are_named():
    cards = parsed(contract="cards", source="cards")

    assert (cards.source_kind, cards.labels, cards.database) == ("cards", "cards", "cards_cards")
    assert parsed(contract="cards", source="cards", labels="/labels").labels == "/labels"
    assert parsed(contract="cards", source="cards", labels=None).labels is None
    assert parsed(contract="cards", source="/landing").labels is None
    with pytest.raises(SettingsError, match="contract creditcard has no `labels`") as caught:
        parsed(source="cards")
    assert "MLOPS_CONTRACT=cards" in (caught.value.fix or "")


def test_a_contract_that_is_not_there_is_an_error_of_its_own():
    with pytest.raises(ContractError, match="no such contract"):
        parsed(contract="/none.yaml")
