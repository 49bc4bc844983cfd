"""An asset of one's own, downstream of a model's table."""

from pathlib import Path

import dagster as dg

from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.fraud_model.component import spec_in
from mlops_assets.resources.lakehouse import LakehouseResource

CARDS = spec_in(Path(__file__).parent / "cards")


@dg.asset(deps=[key_of(CARDS, RAW)], group_name="reports", kinds={"deltalake"})
def fraud_by_hour(lakehouse: LakehouseResource) -> dg.MaterializeResult[None]:
    """Frauds per hour of the data set's clock, counted in the newest version of the table of card payments."""
    tables = lakehouse.open(CARDS)
    newest = tables.require(RAW, made_by=RAW)
    hours = tables.read(RAW, newest.version).selectExpr("floor(time / 3600) AS hour", "class")
    counted = hours.groupBy("hour").sum("class").orderBy("hour").collect()
    lines = ["| hour | frauds |", "|--:|--:|", *(f"| {row[0]} | {row[1]} |" for row in counted)]
    return dg.MaterializeResult(
        metadata={"table_version": newest.version, "frauds": dg.MetadataValue.md("\n".join(lines))}
    )
