"""Tables by folder and by three-level name: what a catalog refuses, and whose commits count.

`spark_catalog`, the catalog of open-source Spark, stands for one of Unity Catalog. What both kinds of tables have in
common is tested in `test_lakehouse`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import readable
from mlops_assets.lakehouse.history import last_commit
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.lakehouse.transaction_tables import take_snapshot
from mlops_assets_tests.assets.harness import load, replaced, replay, transactions, write_csv

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def elsewhere(lakehouse: Lakehouse, **fields: Any) -> Lakehouse:
    return replace(lakehouse, **fields)


def test_a_table_has_three_levels(catalog: Lakehouse, spark: SparkSession, schema: str):
    catalog.append("t", spark.range(3), base=None, metadata={})

    assert catalog.location("t") == f"spark_catalog.{schema}.t"
    assert spark.table(f"spark_catalog.{schema}.t").count() == 3


def test_a_data_version_names_the_rows_and_the_table(catalog: Lakehouse, lakehouse: Lakehouse, spark: SparkSession):
    for database in (catalog, lakehouse):
        first = database.append("t", spark.range(3), base=None, metadata={})
        version = database.data_version(database.require("t", made_by="test"))
        database.sql("OPTIMIZE {table}", "t").collect()
        assert database.data_version(database.require("t", made_by="test")) == version, "upkeep changes no row"
        more = database.append("t", spark.range(1), base=database.require("t", made_by="test"), metadata={})
        assert database.data_version(first) == version
        assert database.data_version(more).partition("-")[2] == version.partition("-")[2]
        assert database.data_version(more) != version

    tables = [database.data_version(database.require("t", made_by="test")) for database in (catalog, lakehouse)]
    assert len(set(tables)) == 2


def test_a_table_has_an_address_to_link_to(catalog: Lakehouse, lakehouse: Lakehouse, schema: str):
    explorer = "https://example.azuredatabricks.net/explore/data"

    assert elsewhere(catalog, explorer=explorer).url("t") == f"{explorer}/spark_catalog/{schema}/t"
    assert catalog.url("t") == catalog.location("t"), "nothing is known of an explorer"
    assert lakehouse.url("t") == f"file://{lakehouse.location('t')}"
    assert elsewhere(lakehouse, root="/dbfs/mlops/tables").url("t") == "dbfs:/mlops/tables/t"


def test_pinned_versions_stay_readable_for_years(catalog: Lakehouse, spark: SparkSession):
    """A catalog vacuums managed tables by itself, after a week if nothing is said."""
    first = catalog.append("t", spark.range(3), base=None, metadata={})
    catalog.replace("t", spark.range(1), base=first, metadata={})

    kept = {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {catalog.location('t')}").collect()}

    assert kept["delta.deletedFileRetentionDuration"] == kept["delta.logRetentionDuration"] == "interval 3650 days"
    spark.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", "1")  # 10,000 tasks by default
    try:
        spark.sql(f"VACUUM {catalog.location('t')}")
    finally:
        spark.conf.unset("spark.sql.sources.parallelPartitionDiscovery.parallelism")
    assert catalog.read("t", 0).count() == 3


@pytest.mark.parametrize(("field", "message"), [("catalog", "no catalog nowhere"), ("database", "no schema nowhere")])
def test_a_catalog_or_schema_that_is_not_there_is_one_error(
    catalog: Lakehouse, spark: SparkSession, field: str, message: str
):
    wrong = elsewhere(catalog, **{field: "nowhere"})

    with pytest.raises(StorageError, match=message) as looking:
        wrong.current("t")
    with pytest.raises(StorageError, match=message):
        wrong.append("t", spark.range(3), base=None, metadata={})

    assert "MLOPS_DATABRICKS_" in looking.value.fix
    assert looking.value.__cause__ is None


@pytest.mark.parametrize("made", ["TABLE {name} (id LONG) USING parquet", "VIEW {name} AS SELECT 1 AS id"])
def test_something_else_of_that_name_is_refused(catalog: Lakehouse, spark: SparkSession, made: str):
    spark.sql("CREATE " + made.format(name=catalog.location("t")))

    with pytest.raises(StorageError, match="belongs to something that is not a Delta table"):
        catalog.current("t")


def test_a_delta_table_of_someone_else_is_neither_read_nor_written(catalog: Lakehouse, spark: SparkSession):
    for name in ("raw_transactions", "train_set"):
        spark.range(3).write.format("delta").saveAsTable(catalog.location(name))
    theirs = catalog.require("train_set", made_by="someone")

    outcome = load(catalog)
    with pytest.raises(StorageError, match="the platform did not create this table: it lacks _batch_id"):
        catalog.replace("train_set", spark.range(3).withColumnRenamed("id", "_batch_id"), base=theirs, metadata={})

    assert "the platform did not create this table: it lacks _batch_id, class" in outcome.message
    assert spark.table(catalog.location("raw_transactions")).count() == 3
    assert catalog.require("train_set", made_by="someone").version == 0


def test_sets_of_someone_else_are_no_sets(catalog: Lakehouse, spark: SparkSession):
    for name in ("train_set", "validation_set", "test_set"):
        spark.range(3).write.format("delta").saveAsTable(catalog.location(name))

    with pytest.raises(StorageError, match="not written by the platform"):
        pinned_sets(catalog)


def test_a_missing_right_is_named_with_the_grants_that_mend_it(spark: SparkSession):
    """Nothing here has rights, so Spark and Java are made to say what Unity Catalog says."""
    said = "PERMISSION_DENIED: User does not have CREATE TABLE on Schema 'main.s'."
    java: Any = spark.sparkContext._jvm

    with pytest.raises(StorageError) as by_spark, readable("main.s.t", "main", "s"):
        spark.sql(f'SELECT raise_error("{said}")').collect()
    with pytest.raises(StorageError) as by_java, readable("main.s.t", "main", "s"):
        java.java.util.Objects.requireNonNull(None, f"com.databricks.UnauthorizedAccessException: {said}")

    for caught in (by_spark.value, by_java.value):
        assert caught.what == "the catalog denies access: User does not have CREATE TABLE on Schema 'main.s'"
        assert "USE SCHEMA, CREATE TABLE, SELECT and MODIFY on main.s" in caught.fix
        assert caught.__cause__ is None


def test_a_busy_catalog_or_storage_may_answer_later(spark: SparkSession):
    said = "[REQUEST_LIMIT_EXCEEDED] Your workspace has exceeded the rate limit."
    java: Any = spark.sparkContext._jvm

    with pytest.raises(StorageError, match="REQUEST_LIMIT_EXCEEDED") as busy, readable("main.s.t", "main", "s"):
        spark.sql(f'SELECT raise_error("{said}")').collect()
    with pytest.raises(StorageError, match="UnknownHostException") as away, readable("main.s.t", "main", "s"):
        java.java.net.InetAddress.getByName("no-such-host.invalid")
    with pytest.raises(StorageError) as denied, readable("main.s.t", "main", "s"):
        spark.sql('SELECT raise_error("PERMISSION_DENIED: no")').collect()

    assert [caught.value.transient for caught in (busy, away, denied)] == [True, True, False]


def test_what_is_no_refusal_passes(spark: SparkSession):
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO"), readable("main.s.t", "main", "s"):
        spark.sql("SELECT 1 / 0").collect()


@pytest.mark.parametrize("kind", ["catalog", "lakehouse"])
def test_upkeep_does_not_hide_who_wrote_the_rows(request: pytest.FixtureRequest, spark: SparkSession, kind: str):
    """Predictive optimization compacts managed tables when it likes: the note is still that of the rows."""
    tables: Lakehouse = request.getfixturevalue(kind)
    first = tables.append("t", spark.range(0, 2, 1, 1), base=None, metadata={"split_id": "one"})
    tables.append("t", spark.range(2, 4, 1, 1), base=first, metadata={"split_id": "two"})
    name = tables.location("t") if tables.catalog else f"delta.`{tables.location('t')}`"
    spark.sql(f"OPTIMIZE {name}")
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('owner.note' = 'x')")

    found = tables.require("t", made_by="t")

    assert (found.version, found.rows_version) == (3, 1)
    assert found.metadata["split_id"] == "two"
    assert found.rows_written == 2
    assert [metadata["split_id"] for metadata in tables.commit_metadata_since("t", 0)] == ["two"]
    assert tables.append("t", spark.range(4, 5), base=found, metadata={"split_id": "three"}).version == 4


@pytest.mark.parametrize("text", [None, "", "a remark", "[1]", '{"a": '])
def test_a_commit_of_someone_else_has_no_note_of_ours(text: str | None):
    ours = {"version": 1, "operation": "WRITE", "userMetadata": '{"split_id": "one", "follows": 0}'}
    theirs = {"version": 2, "operation": "DELETE", "userMetadata": text}

    found = last_commit([theirs, ours])

    assert (found.version, found.metadata) == (2, {})


@pytest.mark.parametrize("operation", ["AUTO TTL", "REWRITE MANIFEST", "REORG TABLE UPGRADE UNIFORM"])
def test_upkeep_of_a_name_that_nobody_knows_yet_does_not_hide_our_note(operation: str):
    note = '{"split_id": "one", "follows": 0}'
    ours = {"version": 1, "operation": "WRITE", "userMetadata": note, "operationMetrics": {"numOutputRows": "7"}}
    upkeep = {"version": 2, "operation": operation, "userMetadata": None}

    found = last_commit([upkeep, ours])

    assert (found.version, found.rows_version, found.metadata["split_id"]) == (2, 1, "one")
    assert found.metrics == {"numOutputRows": 7}


def test_a_compaction_that_carries_our_note_is_not_taken_for_the_write(catalog: Lakehouse, spark: SparkSession):
    """Delta compacts after a write where auto compaction is on, in the session of the write and under its note."""
    auto = {"enabled": "true", "minNumFiles": "2"}
    table = catalog.append("t", spark.range(0, 2, 1, 1), base=None, metadata={"split_id": "one"})
    for name, value in auto.items():
        spark.conf.set(f"spark.databricks.delta.autoCompact.{name}", value)
    spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", '{"split_id": "two", "follows": 0}')
    try:
        spark.range(2, 5, 1, 1).write.format("delta").mode("append").saveAsTable(catalog.location("t"))
    finally:
        spark.conf.unset("spark.databricks.delta.commitInfo.userMetadata")
        for name in auto:
            spark.conf.unset(f"spark.databricks.delta.autoCompact.{name}")

    history = {row["version"]: row for row in spark.sql(f"DESCRIBE HISTORY {catalog.location('t')}").collect()}
    assert (history[2]["operation"], history[2]["userMetadata"]) == ("OPTIMIZE", history[1]["userMetadata"])
    found = catalog.require("t", made_by="t")

    assert (found.version, found.rows_version, found.rows_written) == (2, 1, 3)
    assert len(catalog.commit_metadata_since("t", table.version)) == 1


@pytest.mark.parametrize("kind", [pytest.param("catalog", marks=pytest.mark.proof), "lakehouse"])
def test_loads_and_replays_account_for_rows_whatever_upkeep_comes_between(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path, kind: str
):
    tables: Lakehouse = request.getfixturevalue(kind)
    raw, set_aside, manifest = "raw_transactions", "quarantined_transactions", "ingested_batches"
    for seed in (1, 2):
        rows = replaced(transactions(seed=seed), "amount", ["-1.00"] * seed)
        outcome = load(tables, write_csv(rows, tmp_path / f"{seed}.csv"))
        assert outcome.failure is None
        assert outcome.checks["rows_accounted"].passed
        for name in (raw, set_aside, manifest):
            place = tables.location(name) if tables.catalog else f"delta.`{tables.location(name)}`"
            spark.sql(f"ALTER TABLE {place} SET TBLPROPERTIES ('owner.note' = '{seed}')")

    contract = load_contract("creditcard")
    columns = tuple(c.model_copy(update={"min": -5.0}) if c.name == "amount" else c for c in contract.columns)
    again = replay(tables, contract.model_copy(update={"version": 2, "columns": columns, "amount": None}))

    assert again.failure is None
    assert again.checks["rows_accounted"].description == "3 rows in = 3 accepted + 0 quarantined + 0 already known"
    assert again.metadata["dagster/row_count"] == 1_200
    records = tables.read(manifest, tables.require(manifest, made_by=raw).version).collect()
    assert sorted((row["kind"], row["accepted"]) for row in records if row["kind"] != "contract") == [
        ("load", 598),
        ("load", 599),
        ("replay", 3),
    ]


def test_a_note_that_upkeep_has_buried_is_found(lakehouse: Lakehouse, tmp_path: Path):
    """A look reads a hundred commits, and all of them if there is no note among these."""
    load(lakehouse, write_csv(transactions(), tmp_path / "1.csv"))
    before = take_snapshot(lakehouse, load_contract("creditcard"))
    for number in range(101):
        DeltaTable(lakehouse.location("ingested_batches")).alter.set_table_properties(
            {"owner.note": str(number)}, raise_if_not_exists=False
        )

    after = take_snapshot(lakehouse, load_contract("creditcard"))

    assert after.manifest is not None
    assert before.manifest is not None
    assert after.manifest.rows_version == before.manifest.version
    assert after.manifest.metadata == before.manifest.metadata
    assert (after.recorded, after.pending, after.rules) == (before.recorded, (), before.rules)
