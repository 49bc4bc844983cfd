"""The report on rows whose frauds are counted here as well."""

from collections import Counter
from collections.abc import Callable

import dagster as dg
import pyarrow as pa
import pytest
from own_project.defs.fraud_by_hour import CARDS, fraud_by_hour

from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.invoking import Outcome
from mlops_assets.testing.rows import draw_transactions

Load = Callable[[FraudModelSpec, pa.Table], Outcome]


def test_frauds_are_counted_by_hour(mlops_lakehouse: LakehouseResource, mlops_load: Load) -> None:
    rows = draw_transactions(CARDS.contract, 400, days=1, fraud_rate=0.1)
    mlops_load(CARDS, rows)

    done = dg.materialize([fraud_by_hour], resources={"lakehouse": mlops_lakehouse})

    (event,) = done.asset_materializations_for_node("fraud_by_hour")
    lines = str(event.metadata["frauds"].value).splitlines()[2:]
    found = {int(hour): int(frauds) for _, hour, frauds, _ in (line.split("|") for line in lines)}
    counted: Counter[int] = Counter()
    for second, fraud in zip(rows["time"].to_pylist(), rows["class"].to_pylist(), strict=True):
        counted[int(second // 3600)] += fraud
    assert found == counted
    assert sum(found.values()) == 40


def test_rows_that_the_contract_does_not_take_are_not_counted(mlops_load: Load) -> None:
    rows = draw_transactions(CARDS.contract, 400)
    negative = pa.array([-1.0] * rows.num_rows)

    with pytest.raises(AssertionError, match="the rows were not loaded"):
        mlops_load(CARDS, rows.set_column(rows.column_names.index("amount"), "amount", negative))
