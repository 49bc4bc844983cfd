"""A table of a catalog as a source: which rows come, once each, and what is refused.

`spark_catalog`, the catalog of open-source Spark, stands for one of Unity Catalog.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlops_assets.assets.sources import TableTransactions
from mlops_assets.errors import SourceError
from mlops_assets.lakehouse.catalog_source import CatalogSource
from mlops_assets_tests.assets.harness import load, transactions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse

FEED = "TBLPROPERTIES (delta.enableChangeDataFeed = true)"


@pytest.fixture
def name(spark: SparkSession, schema: str) -> str:
    """A table with a change data feed and three commits: none, two rows, one more."""
    full = f"spark_catalog.{schema}.payments"
    spark.sql(f"CREATE TABLE {full} (Id BIGINT, Amount DOUBLE) USING delta {FEED}")
    spark.sql(f"INSERT INTO {full} VALUES (1, 1.5), (2, 2.5)")
    spark.sql(f"INSERT INTO {full} VALUES (3, 3.5)")
    return full


def source(spark: SparkSession, name: str, **options: int | bool) -> CatalogSource:
    return CatalogSource(name, lambda: spark, **options)  # type: ignore[arg-type]


def ids(reader: CatalogSource) -> dict[str, list[int]]:
    """Return the ids of each batch by its version."""
    return {batch.origin.partition("@")[2]: sorted(batch.table["id"].to_pylist()) for batch in reader.batches()}


def new(reader: CatalogSource, known: set[str]) -> list[str]:
    """Return the origins of batches that are not known."""
    return [read().origin for read in reader.divided(Path("nothing is written"), known).reads]


def test_a_commit_is_a_batch_and_known_ones_are_not_read(spark: SparkSession, name: str):
    first = list(source(spark, name).batches())
    assert [batch.origin for batch in first] == [f"{name}@v1", f"{name}@v2"]
    assert first[0].table.column_names == ["id", "amount"], "names in lower case, and none of the feed's own columns"
    assert ids(source(spark, name)) == {"v1": [1, 2], "v2": [3]}
    again = list(source(spark, name).batches())
    assert [batch.content_hash for batch in again] == [batch.content_hash for batch in first]
    known = {first[0].content_hash}
    assert new(source(spark, name), known) == [f"{name}@v2"]


@pytest.mark.proof  # starts a dozen queries
def test_a_run_may_be_narrowed_to_versions(spark: SparkSession, name: str):
    assert ids(source(spark, name, after_version=1)) == {"v2": [3]}
    assert ids(source(spark, name, up_to_version=1)) == {"v1": [1, 2]}
    with pytest.raises(SourceError, match=r"version 9 was requested but the newest is 2: the table was recreated"):
        ids(source(spark, name, up_to_version=9))


@pytest.mark.proof  # starts a dozen queries
def test_upkeep_adds_nothing(spark: SparkSession, name: str):
    spark.sql(f"OPTIMIZE {name}")
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES (a = 'b')")
    assert set(ids(source(spark, name))) == {"v1", "v2"}


@pytest.mark.proof  # starts a dozen queries
def test_changed_rows_come_again_with_a_key_and_are_refused_without(spark: SparkSession, name: str):
    spark.sql(f"UPDATE {name} SET amount = 9 WHERE id = 2")
    spark.sql(f"DELETE FROM {name} WHERE id = 1")
    assert ids(source(spark, name, has_key=True)) == {"v1": [1, 2], "v2": [3], "v3": [2]}, "only the changed row"
    with pytest.raises(SourceError, match=r"version 3 \(UPDATE\) changed or deleted rows.*name the key column"):
        ids(source(spark, name))


@pytest.mark.proof  # starts a dozen queries
def test_deletion_vectors_are_read(spark: SparkSession, name: str):
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    spark.sql(f"DELETE FROM {name} WHERE id = 1")
    spark.sql(f"INSERT INTO {name} VALUES (4, 4.5)")
    assert list(ids(source(spark, name, has_key=True)).values()) == [[1, 2], [3], [4]]


@pytest.mark.proof  # starts a dozen queries
def test_a_table_that_got_its_feed_later_begins_with_all_its_rows(spark: SparkSession, schema: str):
    name = f"spark_catalog.{schema}.older"
    spark.sql(f"CREATE TABLE {name} (id BIGINT) USING delta")
    spark.sql(f"INSERT INTO {name} VALUES (1), (2)")
    spark.sql(f"DELETE FROM {name} WHERE id = 1")
    with pytest.raises(SourceError, match=rf"no change data feed.*ALTER TABLE {name} SET TBLPROPERTIES"):
        ids(source(spark, name))
    spark.sql(f"ALTER TABLE {name} SET {FEED}")
    spark.sql(f"INSERT INTO {name} VALUES (3)")
    assert ids(source(spark, name)) == {"v0..v2": [2], "v4": [3]}
    spark.sql(f"INSERT INTO {name} VALUES (4)")
    first, second, third = source(spark, name).batches()
    known = {first.content_hash, second.content_hash}
    assert new(source(spark, name), known) == [third.origin]
    with pytest.raises(SourceError, match="the changes of versions 1 to 2 were not recorded"):
        ids(source(spark, name, after_version=0))


@pytest.mark.proof  # starts a dozen queries
def test_a_recreated_table_is_another_one(spark: SparkSession, name: str):
    before = {batch.content_hash for batch in source(spark, name).batches()}
    spark.sql(f"DROP TABLE {name}")
    spark.sql(f"CREATE TABLE {name} (id BIGINT) USING delta {FEED}")
    spark.sql(f"INSERT INTO {name} VALUES (1)")
    assert before.isdisjoint(batch.content_hash for batch in source(spark, name).batches())


def test_what_is_not_there_is_said(spark: SparkSession, schema: str):
    with pytest.raises(SourceError, match=r"can't be read.*NOT_FOUND.*USE SCHEMA and SELECT"):
        ids(source(spark, f"spark_catalog.{schema}.nothing"))


@pytest.mark.proof  # two loads
def test_the_raw_table_takes_each_row_once(spark: SparkSession, schema: str, catalog: Lakehouse, creditcard: Contract):
    name = f"spark_catalog.{schema}.source"
    rows = spark.createDataFrame(transactions(2_000))
    rows.write.format("delta").option("delta.enableChangeDataFeed", "true").saveAsTable(name)
    first = load(catalog, TableTransactions(table=name), creditcard)
    assert (first.metadata["rows_added"], first.metadata["inputs_added"]) == (2_000, [f"{name}@v0"])
    again = load(catalog, TableTransactions(table=name), creditcard)
    assert (again.metadata["rows_added"], again.metadata["dagster/row_count"]) == (0, 2_000)
