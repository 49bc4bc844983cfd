"""What runs have cost: the statement on tables whose sums are known, and the lines that come of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.diagnostics.cost import statement, summarize

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
SKU = "PREMIUM_JOBS_COMPUTE"


def usage_rows() -> list[dict[str, Any]]:
    """Two runs of one asset, a correction, one that is too old, one of somebody else, and one without a price."""

    def used(asset: str | None, run: str | None, dbus: float, *, age: float = 1, sku: str = SKU) -> dict[str, Any]:
        tags = Attempt(run, "main", "step", 0, (asset,) if asset else ()).tags if run else {"team": "other"}
        end = NOW - timedelta(days=age)
        start = end - timedelta(hours=1)
        return {
            "sku_name": sku,
            "cloud": "AZURE",
            "usage_start_time": start,
            "usage_end_time": end,
            "usage_date": end.date(),
            "usage_unit": "DBU",
            "usage_quantity": dbus,
            "custom_tags": tags,
        }

    return [
        used("tuned_model", "run-1", 2.0, age=9),
        used("tuned_model", "run-2", 3.0),
        used("tuned_model", "run-2", -1.0),
        used("raw_transactions", "run-2", 0.5),
        used("raw_transactions", "run-0", 100.0, age=45),
        used(None, None, 100.0),
        used("registered_model", "run-2", 1.0, sku="NEW"),
    ]


@pytest.fixture
def billed(spark: SparkSession, schema: str) -> dict[str, str]:
    """The two tables of Databricks, as far as the statement looks; the price changed five days ago."""
    usage, prices = f"spark_catalog.{schema}.usage", f"spark_catalog.{schema}.list_prices"
    columns = (
        "sku_name STRING, cloud STRING, usage_start_time TIMESTAMP, usage_end_time TIMESTAMP, usage_date DATE, "
        "usage_unit STRING, usage_quantity DECIMAL(38,18), custom_tags MAP<STRING,STRING>"
    )
    as_double = columns.replace("DECIMAL(38,18)", "DOUBLE")
    spark.createDataFrame(usage_rows(), as_double).selectExpr(
        *[name if name != "usage_quantity" else "CAST(usage_quantity AS DECIMAL(38,18)) AS usage_quantity"
          for name in (column.split()[0] for column in columns.split(", "))]
    ).write.saveAsTable(usage)  # fmt: skip
    changed = NOW - timedelta(days=5)
    spark.sql(
        f"CREATE TABLE {prices} AS SELECT * FROM VALUES "
        f"('{SKU}', 'AZURE', 'DBU', 'USD', TIMESTAMP'2020-01-01', TIMESTAMP'{changed}', 0.30),"
        f"('{SKU}', 'AZURE', 'DBU', 'USD', TIMESTAMP'{changed}', NULL, 0.40),"
        f"('{SKU}', 'AWS', 'DBU', 'USD', TIMESTAMP'2020-01-01', NULL, 9.0)"
        " AS t(sku_name, cloud, usage_unit, currency_code, price_start_time, price_end_time, price)"
    )
    spark.sql(
        f"CREATE VIEW {prices}_shaped AS SELECT *, named_struct('effective_list', named_struct('default', price)) "
        f"AS pricing FROM {prices}"
    )
    return {"usage": usage, "prices": f"{prices}_shaped"}


@pytest.mark.proof  # three tables
def test_money_per_asset_and_run(spark: SparkSession, billed: dict[str, str]):
    rows = [row.asDict() for row in spark.sql(statement(usage=billed["usage"], prices=billed["prices"])).collect()]
    found = {(row["asset"], row["run"]): (row["dbus"], row["money"]) for row in rows}
    assert found == {
        ("tuned_model", "run-1"): (2.0, pytest.approx(0.60)),
        ("tuned_model", "run-2"): (2.0, pytest.approx(0.80)),
        ("raw_transactions", "run-2"): (0.5, pytest.approx(0.20)),
        ("registered_model", "run-2"): (1.0, None),
    }
    assert {row["currency"] for row in rows} == {"USD", None}
    assert len(spark.sql(statement(**billed, days=60)).collect()) == len(rows) + 1


def test_lines():
    rows: list[dict[str, Any]] = [
        {"asset": "tuned_model", "run": "run-1", "dbus": 2.0, "money": 0.6, "currency": "USD"},
        {"asset": "tuned_model", "run": "run-2", "dbus": 2.0, "money": 0.8, "currency": "USD"},
        {"asset": None, "run": "run-2", "dbus": 1.0, "money": None, "currency": None},
    ]
    assert [str(line) for line in summarize(rows)] == [
        "ok      tuned_model in run run-1: 0.60 USD, 2.00 DBU",
        "ok      tuned_model in run run-2: 0.80 USD, 2.00 DBU",
        "ok      no asset in run run-2: 1.00 DBU, 1 without a list price",
        "ok      no asset in 1 runs: 1.00 DBU, 1 without a list price",
        "ok      tuned_model in 2 runs: 1.40 USD, 4.00 DBU",
        "ok      all in 30 days: 1.40 USD, 5.00 DBU, 1 without a list price",
    ]
    assert "nothing was billed" in str(*summarize([]))
