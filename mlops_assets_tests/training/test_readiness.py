"""What is refused before a search: sets of one class, unusable amounts, and leaks, each on real Spark frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import EvaluationError, LeakError
from mlops_assets.evaluation.leaks import ChangedRows
from mlops_assets.training.engines.engines import SetName, SplitTables
from mlops_assets.training.final_model import EvaluationPlan
from mlops_assets.training.readiness import changed_rows, require_ready

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="double"),
        Column(name="amount", type="double", min=0),
        Column(name="hint", type="double", nullable=True),
        Column(name="fraud", type="long", nullable=True),
    ),
    features=("amount", "hint"),
    target="fraud",
    event_time="at",
    key="id",
    amount="amount",
    labels={"key": "id", "label": "fraud", "known_at": "known"},  # type: ignore[arg-type] # pydantic reads it
)
NAMES: dict[SetName, str] = {"train": "train_set", "validation": "validation_set", "test": "test_set"}
COST, BUDGET = EvaluationPlan(), EvaluationPlan(threshold_rule="alert_budget")


def rows(count: int = 300, seed: int = 1, *, leak: bool = False) -> pa.Table:
    """Return rows of which every tenth is a fraud; a leak fills `hint` for frauds only."""
    random = np.random.default_rng(seed)
    fraud = (np.arange(count) % 10 == 0).astype(np.int64)
    hint = random.normal(0, 1, count) + fraud
    return pa.table(
        {
            "id": np.arange(count),
            "at": np.arange(count) * 60.0,
            "amount": random.gamma(1, 50, count),
            "hint": pa.array(hint, mask=(fraud == 0) if leak else None),
            "fraud": fraud,
            BATCH_ID: ["a"] * count,
            ROW_NUMBER: np.arange(count),
        }
    )


def ready(
    spark: SparkSession,
    *,
    sets: dict[SetName, pa.Table] | None = None,
    plan: EvaluationPlan = COST,
    contract: Contract = CARDS,
    accepted: dict[str, str] | None = None,
    changes: dict[str, ChangedRows] | None = None,
) -> list[str]:
    """Return what was written to the log."""
    tables = {name: rows() for name in NAMES} | (sets or {})
    log: list[str] = []
    read = SplitTables(spark, lambda name: spark.createDataFrame(tables[name]), contract)
    require_ready(read, plan, accepted or {}, changes or {}, log.append, names=NAMES)
    return log


def with_shops(levels: int, count: int = 2_400) -> pa.Table:
    """Return rows with a shop; every one of the levels occurs."""
    return rows(count).append_column("shop", pa.array([f"shop_{number % levels}" for number in range(count)]))


def test_a_category_of_too_many_levels_is_refused_and_one_of_a_thousand_passes(spark: SparkSession):
    contract = Contract.model_validate(
        CARDS.model_dump()
        | {
            "columns": [*CARDS.columns, Column(name="shop", type="string")],
            "features": ("amount", "hint", "shop"),
            "categories": ("shop",),
        }
    )
    sets: dict[SetName, pa.Table] = dict.fromkeys(NAMES, with_shops(1_000))
    assert ready(spark, sets=sets, contract=contract) == ["leak check: no feature gives the target away"]
    with pytest.raises(EvaluationError, match=r"too many levels, at most 1,000 can be learned: shop has 1,001"):
        ready(spark, sets={**sets, "train": with_shops(1_001)}, contract=contract)


def test_good_sets_pass(spark: SparkSession):
    assert ready(spark) == ["leak check: no feature gives the target away"]
    assert ready(spark, plan=BUDGET, contract=CARDS.model_copy(update={"amount": None}))


@pytest.mark.parametrize(("name", "label", "kind"), [("test", 0, "genuine"), ("validation", 1, "fraud")])
def test_a_set_of_one_class_is_refused(spark: SparkSession, name: SetName, label: int, kind: str):
    table = rows()
    of_one = table.set_column(table.column_names.index("fraud"), "fraud", pa.array([label] * len(table), pa.int64()))

    with pytest.raises(EvaluationError, match=rf"^all 300 rows are {kind}: .* both classes \[{name}_set\]"):
        ready(spark, sets={name: of_one})


def with_amounts(amounts: list[float]) -> pa.Table:
    table = rows()
    values = pa.array([*amounts, *table.column("amount").to_pylist()[len(amounts) :]])
    return table.set_column(table.column_names.index("amount"), "amount", values)


def test_amounts_below_zero_are_refused_before_the_search(spark: SparkSession):
    said = r"^2 amounts are below 0, the least is -7.5: .* \[validation_set, column amount\] Fix: .*quarantines them"
    with pytest.raises(EvaluationError, match=said):
        ready(spark, sets={"validation": with_amounts([-7.5, -1.0, 0.0])})


def test_a_threshold_by_cost_without_amounts_is_refused_before_the_search(spark: SparkSession):
    with pytest.raises(EvaluationError, match="a threshold by cost needs amounts"):
        ready(spark, contract=CARDS.model_copy(update={"amount": None}))
    with pytest.raises(EvaluationError, match=r"no fraud has an amount above 0 \[test_set, column amount\]"):
        ready(spark, sets={"test": with_amounts([0.0] * 300)})


def test_a_leak_stops_the_run_unless_a_reason_accepts_it(spark: SparkSession):
    leaking: dict[SetName, pa.Table] = {name: rows(leak=True) for name in ("train", "validation")}

    said = r"give the target away: hint: it is filled for frauds only.*\[train_set and validation_set\].*accepted_leaks"
    with pytest.raises(LeakError, match=said):
        ready(spark, sets=leaking)

    (line,) = ready(spark, sets=leaking, accepted={"hint": "the scheme's own alert, there before we score"})
    assert line.endswith("accepted: the scheme's own alert, there before we score")


def test_a_feature_that_changes_with_the_label_stops_the_run(spark: SparkSession):
    with pytest.raises(LeakError, match="hint: it changes when the label comes: in 90%"):
        ready(spark, changes={"hint": ChangedRows(100, 90, 1_000, 10)})
    assert ready(spark, changes={"hint": ChangedRows(100, 3, 1_000, 30)})


@pytest.mark.parametrize(
    ("accepted", "said"),
    [({"hnt": "fine"}, "no such features: hnt .* amount, hint"), ({"hint": " "}, "no reason is given for: hint")],
)
def test_reasons_are_for_features_and_not_empty(spark: SparkSession, accepted: dict[str, str], said: str):
    with pytest.raises(LeakError, match=said):
        ready(spark, accepted=accepted)


def test_changes_are_counted_over_rows_that_were_delivered_again(spark: SparkSession):
    """Rows 0-9 were kept and not replaced; 10-29 were, twice: 10-14 are frauds, and got another hint the first time."""
    first = pa.table(
        {
            "id": range(30),
            "amount": [1.0] * 30,
            "hint": pa.array([None] * 15 + [2.0] * 15, pa.float64()),
            BATCH_ID: ["a"] * 30,
        }
    )
    second = first.slice(10).set_column(2, "hint", pa.array([5.0] * 5 + [2.0] * 15)).drop_columns(BATCH_ID)
    now = pa.table(
        {
            "id": range(31),
            "amount": [1.0] * 20 + [9.0] + [1.0] * 10,
            "hint": pa.array([None] * 10 + [5.0] * 5 + [2.0] * 16, pa.float64()),
            "fraud": pa.array([0] * 10 + [1] * 5 + [0] * 14 + [None, 0], pa.int64()),
            BATCH_ID: ["a"] * 10 + ["c"] * 21,
        }
    )
    replaced = pa.concat_tables([first, second.append_column(BATCH_ID, pa.array(["b"] * 20))])

    counted = changed_rows(spark.createDataFrame(replaced), spark.createDataFrame(now), CARDS)

    assert counted == {"amount": ChangedRows(5, 0, 14, 1), "hint": ChangedRows(5, 5, 14, 0)}
    without = spark.createDataFrame(replaced.drop_columns("hint"))
    assert list(changed_rows(without, spark.createDataFrame(now), CARDS)) == ["amount"], "a column that came later"
