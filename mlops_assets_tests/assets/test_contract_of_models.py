"""What a contract says to models (constraints, categories), from its YAML to a caller's frame; and a mean of models."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from mlops_assets.assets.sources import FileTransactions
from mlops_assets.assets.tuning_config import Engine, RangeConfig
from mlops_assets.data.columns import REASONS
from mlops_assets.data.contract.contract import parse_contract
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import QUARANTINED, RAW
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.category_codes import levels_of
from mlops_assets_tests.assets.harness import QUICK, load, register, split, tune

CONTRACT = """
name: shops
version: 1
event_time: at
target: fraud
amount: amount
features: [amount, tries, shop, abroad, chip]
monotone: {tries: 1}
columns:
  - {name: at, type: double, min: 0}
  - {name: amount, type: double, min: 0}
  - {name: tries, type: double, nullable: true}
  - {name: shop, type: category, nullable: true}
  - {name: abroad, type: boolean}
  - {name: chip, type: boolean, nullable: true}
  - {name: fraud, type: long, min: 0, max: 1}
"""
SHOPS = np.array(["bakery", "fuel", "games", "travel"])
MODEL = "fraud_shops"
# A mean of three models, with rows that count by their age.
SEARCH = QUICK.model_copy(
    update={
        "space": {
            "max_depth": RangeConfig(low=3, high=4),
            "n_estimators": RangeConfig(low=20, high=20),
            "learning_rate": RangeConfig(low=0.2, high=0.3),
            "subsample": RangeConfig(low=0.7, high=0.7),
            "half_life_days": RangeConfig(low=3, high=9),
        },
        "bagging": 3,
        "production_refit": True,
    }
)


def written(folder: Path, rows: int = 4_000) -> FileTransactions:
    """Write rows whose risk rises with the tries up to a point and falls then, and is that of their shop.

    On the last day a shop opens that nobody has seen before; some rows have none. Whether a card was abroad stands
    there in words, once in a word that is none.
    """
    random = np.random.default_rng(8)
    at = np.sort(random.uniform(0, 6 * 86_400, rows))
    tries, shop = random.integers(0, 10, rows), SHOPS[random.integers(0, 4, rows)].astype(object)
    risk = 0.01 + 0.1 * (shop == "games") + 0.15 * np.isin(tries, [4, 5, 6])
    shop[(at > 5 * 86_400) & (random.random(rows) < 0.2)] = "pop-up"
    shop[random.random(rows) < 0.05] = None
    abroad = random.random(rows) < 0.3
    risk += 0.1 * abroad
    words = np.where(abroad, "Yes", "no").astype(object)
    words[-1] = "perhaps"
    chip = (random.random(rows) < 0.5).astype(object)
    chip[random.random(rows) < 0.1] = None
    frame = pd.DataFrame({"at": at, "amount": random.gamma(1, 50, rows), "tries": tries, "shop": shop})
    frame = frame.assign(abroad=words, chip=chip)
    path = folder / "shops.parquet"
    frame.assign(fraud=(random.random(rows) < risk).astype(int)).to_parquet(path)
    return FileTransactions(location=str(path))


def reasons(lakehouse: Lakehouse) -> list[list[str]]:
    table = lakehouse.read(QUARANTINED, lakehouse.require(QUARANTINED, made_by=RAW).version)
    return [list(row[REASONS]) for row in table.select(REASONS).collect()]


@pytest.mark.proof  # from a file to a served version; each stage has tests of its own
def test_constraints_and_categories_hold_for_a_caller_s_frame(lakehouse: Lakehouse, tracking: Tracking, tmp_path: Path):
    contract = parse_contract(CONTRACT, where="shops.yaml")
    assert load(lakehouse, written(tmp_path), contract).failure is None
    assert lakehouse.read(RAW, lakehouse.require(RAW, made_by=RAW).version).count() == 3_999
    assert reasons(lakehouse) == [["unreadable:abroad"]], "a new level is not quarantined, a word that is none is"
    assert split(lakehouse, contract=contract).failure is None
    outcome = tune(lakehouse, tracking, SEARCH, contract)
    assert outcome.failure is None
    assert outcome.failed_checks == []

    registered = register(lakehouse, tracking, model=MODEL, contract=contract)

    assert registered.failure is None
    assert "0 differ" in str(registered.checks["scores_reproduced"].description)
    with tracking.connect().selected():
        served = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
        booster = mlflow.xgboost.load_model(f"models:/{MODEL}/1")
    inputs = {item["name"]: item["type"] for item in served.metadata.signature.inputs.to_dict()}
    assert inputs == {
        "amount": "double", "tries": "double", "shop": "string", "abroad": "boolean", "chip": "boolean",
    }  # fmt: skip
    # The production model has seen the new shop.
    assert levels_of(booster) == {"shop": sorted([*SHOPS, "pop-up"])}
    assert len(booster.get_dump()) == 3 * booster.num_boosted_rounds()

    grid = pd.DataFrame(
        [(amount, tries, shop) for shop in (*SHOPS, None) for amount in (5.0, 80.0) for tries in np.arange(0.0, 10)],
        columns=["amount", "tries", "shop"],
    ).assign(abroad=True, chip=None)
    scores = np.asarray(served.predict(grid)).reshape(-1, 10)
    assert (np.diff(scores) >= 0).all()
    assert (scores[:, -1] > scores[:, 0]).all()

    def score(shop: str | None, *, abroad: bool = False) -> float:
        given = {"amount": [20.0], "tries": [1.0], "shop": [shop], "abroad": [abroad], "chip": [True]}
        return float(np.asarray(served.predict(pd.DataFrame(given)))[0])

    assert score("a shop of tomorrow") == score(None)
    assert score("games") > 1.5 * score("bakery")
    assert score("bakery", abroad=True) > 1.5 * score("bakery")

    over_the_cluster = tune(lakehouse, tracking, SEARCH.model_copy(update={"engine": Engine.distributed}), contract)

    assert "the engine distributed can't use half_life_days or the category shop" in str(over_the_cluster.failure)
