"""The model card: what strangers named shows as text, and what was measured of parts of the rows shows as a table."""

from __future__ import annotations

import re
from pathlib import Path

from mlops_assets.data.splits.split_checks import SetSummary
from mlops_assets.registry.card import card
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import load_verified
from mlops_assets.spec import FraudModelSpec
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_verified import NAME, registered, store_in, trained

SETS = {"train_set": SetSummary(1_200, 12, 1_700_000_000.0, 1_700_086_400.0), "test_set": SetSummary(0, 0, None, None)}
RUN = TunedRun("run-1", {}, {}, {"train_set": 3, "test_set": 4}, {}, None)
LINK = "[click](https://example.com) <img src=x>"


def written(store: Store, description: str, terms: str, parts: dict[str, float]) -> str:
    number = registered(store, trained()).number
    contract = FraudModelSpec.model_validate({"contract": "handbook"}).contract
    said = {"description": description, "license": terms}
    return card(
        load_verified(store, NAME, number),
        RUN,
        "**Gate: kept.**",
        contract=contract.model_copy(update=said),
        sets=SETS,
        parts=parts,
        importance={"a": 1.5, "b": 0.25},
    )


def test_data_terms_and_parts_are_told(tmp_path: Path):
    found = written(
        store_in(tmp_path),
        "Simulated card transactions.",
        "CC-BY-SA-4.0",
        {"amount 0 to 10": -0.0123, "hour 3": 0.2},
    )
    assert "Simulated card transactions. License: CC-BY-SA-4.0." in found
    assert "|train_set|3|1,200|12|2023-11-14T22:13:20+00:00|2023-11-15T22:13:20+00:00|" in found
    assert "|test_set|4|0|0|||" in found
    assert "|amount 0 to 10|-0.0123|\n|hour 3|0.2|" in found
    assert "|a|1.5|\n|b|0.25|" in found


def test_what_a_stranger_wrote_is_text(tmp_path: Path):
    found = written(store_in(tmp_path), LINK, LINK, {LINK: 0.1})
    assert not re.search(r"(?<!`)\[click\]", found)
    assert found.count("`[click](https://example.com) <img src=x>`") == 3
