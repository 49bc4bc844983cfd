"""Upkeep of real Delta tables: what is pinned stays readable, what is not goes, and small files become few."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from mlops_assets.data.sources.delta import DeltaSource
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse import vacuum
from mlops_assets.lakehouse.catalog_errors import spark_errors
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.maintenance import MaintenanceReport, maintain, plan_maintenance
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.lakehouse.delta_ages import committed_at, days_ago
from mlops_assets_tests.lakehouse.kinds import FOLDER_FIRST
from mlops_assets_tests.lakehouse.sessions import numbers, session_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = FOLDER_FIRST

AGES = {0: 40.0, 1: 30.0, 2: 20.0, 3: 10.0, 4: 5.0}


def folder(lakehouse: Lakehouse, tmp_path: Path) -> Path:
    return tmp_path / "warehouse" / "t" if lakehouse.catalog else Path(lakehouse.location("t"))


def overwrite(lakehouse: Lakehouse, spark: SparkSession, table: Path) -> None:
    """Write versions 0 to 3, each over the last, 40 to 10 days ago, and append a second file 5 days ago."""
    last = None
    for version in range(4):
        last = lakehouse.replace("t", numbers(spark, 0, version + 1), base=last, metadata={"by": version})
    lakehouse.append("t", numbers(spark, 10, 12), base=last, metadata={"by": 4})
    committed_at(spark, table, {version: days_ago(age) for version, age in AGES.items()})


@pytest.fixture(scope="module")
def overwritten_once(new_lakehouse: Callable[[], Lakehouse], spark: SparkSession) -> Lakehouse:
    lakehouse = new_lakehouse()
    overwrite(lakehouse, spark, Path(lakehouse.location("t")))
    return lakehouse


@pytest.fixture
def overwritten(lakehouse: Lakehouse, overwritten_once: Lakehouse, spark: SparkSession, tmp_path: Path) -> Lakehouse:
    """Return the test's own tables after `overwrite`; what has a name in a catalog can't be copied."""
    if not lakehouse.catalog:
        return copy_tables(overwritten_once, lakehouse)
    overwrite(lakehouse, spark, folder(lakehouse, tmp_path))
    return lakehouse


def keep(lakehouse: Lakehouse, *pinned: int, hours: int = 0) -> MaintenanceReport:
    (plan,) = plan_maintenance(lakehouse, ["none", "t"], [Pin("t", version, "a model") for version in pinned], hours)
    return maintain(lakehouse, plan)


def readable(lakehouse: Lakehouse, version: int) -> bool:
    try:
        return len(lakehouse.read("t", version).collect()) > 0
    except spark_errors() as error:
        if "FILE_NOT_EXIST" in str(error):
            return False
        raise


def test_a_pinned_version_stays_and_older_ones_go(overwritten: Lakehouse, spark: SparkSession):
    settings = session_settings(spark)

    report = keep(overwritten, 2)

    assert [version for version in AGES if readable(overwritten, version)] == [1, 2, 3, 4], "1 within the margin"
    assert overwritten.read("t", 2).count() == 3
    assert (report.files_before, report.files_after, report.files_deleted) == (2, 1, 1)
    assert report.bytes_deleted > 0
    assert report.pinned_versions == (2, 4)
    assert (report.retention_hours, report.retention_reason) == (21 * 24 + 1, "version 2 is needed by a model")
    assert session_settings(spark) == settings

    assert keep(overwritten).pinned_versions == (4,), "the model is not registered any more"
    assert [version for version in AGES if readable(overwritten, version)] == [3, 4]


@pytest.mark.proof  # many Delta commits
def test_what_nothing_is_to_be_done_to_gets_no_new_version(overwritten: Lakehouse):
    """Also what a process does that comes after one that was killed at the end."""
    first = keep(overwritten, 2)

    second = keep(overwritten, 2)

    assert (second.version, second.files_deleted) == (first.version, 0)


@pytest.mark.proof  # many Delta commits
def test_what_a_killed_upkeep_has_left_is_finished(overwritten: Lakehouse):
    """It was killed while VACUUM was deleting: the table is compacted, and one of two files is gone."""
    overwritten.sql("OPTIMIZE {table}", "t")
    files = [path for version in (0, 1) for path in overwritten.read("t", version).inputFiles()]
    Path(unquote(urlsplit(files[0]).path)).unlink()

    report = keep(overwritten, 3)

    assert report.files_deleted == len(files) - 1
    assert [version for version in AGES if readable(overwritten, version)] == [2, 3, 4]
    assert overwritten.read("t", overwritten.require("t", made_by="t").version).count() == 6


@pytest.mark.proof  # many Delta commits
def test_upkeep_is_no_new_data(overwritten: Lakehouse, spark: SparkSession, tmp_path: Path):
    before = overwritten.require("t", made_by="t")

    keep(overwritten, 2)
    after = overwritten.require("t", made_by="t")

    assert after.version > before.version
    assert (after.rows_version, after.metadata, after.rows_written) == (4, before.metadata, before.rows_written)
    assert after.named_by_rows.version == 4
    followed = DeltaSource(str(folder(overwritten, tmp_path)), after_version=3, has_key=True)
    assert [batch.table.num_rows for batch in followed.batches()] == [2], "whoever watches it sees version 4 alone"
    grown = overwritten.append("t", numbers(spark, 20, 21), base=after, metadata={})
    assert grown.rows_version == grown.version == after.version + 1
    assert overwritten.read("t", grown.version).count() == 7


@pytest.mark.proof  # many Delta commits
def test_a_log_that_has_forgotten_what_was_removed_when_gives_no_pinned_file_away(
    lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path
):
    """A file of version 0 that is still part of the pinned version 2, and removed by 3, is a stranger to VACUUM.

    The checkpoint is of a time when the table kept nothing for longer than an hour.
    """
    table = None
    for version in range(3):
        table = lakehouse.append("t", numbers(spark, version, version + 1), base=table, metadata={})
    lakehouse.replace("t", numbers(spark, 9, 10), base=table, metadata={})
    forget_removals(lakehouse, spark, folder(lakehouse, tmp_path))

    with pytest.raises(StorageError, match="of 3 files of version 2, which is pinned"):
        keep(lakehouse, 2)

    assert lakehouse.read("t", 2).count() == 3
    assert readable(lakehouse, 2)
    assert keep(lakehouse).files_deleted == 3, "nobody needs it any more"
    assert not readable(lakehouse, 2)


@dataclass(frozen=True)
class CutLists(Lakehouse):
    """Tables of a platform that lists only the first file of what VACUUM would delete."""

    def sql(self, statement: str, name: str) -> DataFrame:
        listed = super().sql(statement, name)
        return listed.orderBy("path").limit(1) if statement.endswith("DRY RUN") else listed


def cut(lakehouse: Lakehouse) -> Lakehouse:
    return CutLists(**{field.name: getattr(lakehouse, field.name) for field in fields(lakehouse)})


def forget_removals(lakehouse: Lakehouse, spark: SparkSession, table: Path) -> None:
    """Make a checkpoint of a time when the table kept nothing for longer than an hour."""
    lakehouse.sql(
        "ALTER TABLE {table} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 1 hours')", "t"
    )
    versions = lakehouse.require("t", made_by="t").version + 1
    committed_at(spark, table, {version: days_ago(AGES[version]) for version in range(min(versions, len(AGES)))})
    java: Any = spark.sparkContext._jvm  # PySpark has no such call
    delta = java.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, str(table))
    delta.checkpoint()


@pytest.mark.proof  # many Delta commits
def test_a_list_that_may_be_cut_gives_no_pinned_file_away(
    lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On Databricks a dry run lists at most 1,000 files; here one, which no pinned version needs."""
    monkeypatch.setattr(vacuum, "LISTED_AT_MOST", 1)
    table = None
    for version in range(3):
        table = lakehouse.append("t", numbers(spark, version, version + 1), base=table, metadata={})
    lakehouse.replace("t", numbers(spark, 9, 10), base=table, metadata={})
    at = folder(lakehouse, tmp_path)
    forget_removals(lakehouse, spark, at)
    stray = at / "0-of-a-killed-writer.parquet"
    stray.write_bytes(b"")
    os.utime(stray, (days_ago(60), days_ago(60)))

    with pytest.raises(StorageError, match="1 files or more, and does not list all of them"):
        keep(cut(lakehouse), 2)

    assert lakehouse.read("t", 2).count() == 3
    assert readable(lakehouse, 2)


@pytest.mark.proof  # many Delta commits
def test_what_the_log_knows_goes_however_short_the_list_is(overwritten: Lakehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vacuum, "LISTED_AT_MOST", 1)

    report = keep(cut(overwritten))

    assert report.files_deleted == 3, "versions 0 to 2 had a file each"
    assert [version for version in AGES if readable(overwritten, version)] == [3, 4]


@pytest.mark.proof  # many Delta commits
def test_deletion_vectors_of_a_pinned_version_stay(lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path):
    table = lakehouse.append("t", numbers(spark, 0, 4), base=None, metadata={})
    lakehouse.sql("ALTER TABLE {table} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')", "t")
    lakehouse.sql("DELETE FROM {table} WHERE id = 2", "t")
    lakehouse.replace("t", numbers(spark, 9, 10), base=lakehouse.require("t", made_by="t"), metadata={})
    at = folder(lakehouse, tmp_path)
    pinned = lakehouse.require("t", made_by="t").version - 1
    assert list(at.glob("**/deletion_vector_*.bin")), "the version to pin has one"
    forget_removals(lakehouse, spark, at)
    # The data file is held back by its age, as if it had come later; the deletion vector is not.
    for file in at.glob("*.parquet"):
        os.utime(file)
    for vector in at.glob("**/deletion_vector_*.bin"):
        os.utime(vector, (days_ago(60), days_ago(60)))

    with pytest.raises(StorageError, match="1 deletion vectors"):
        keep(lakehouse, pinned)

    assert lakehouse.read("t", pinned).count() == 3
    assert table.version == 0


def test_a_table_without_our_properties_is_given_them(lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path):
    lakehouse.replace("t", numbers(spark, 0, 1), base=None, metadata={})
    lakehouse.sql("ALTER TABLE {table} UNSET TBLPROPERTIES ('delta.logRetentionDuration')", "t")
    lakehouse.sql(
        "ALTER TABLE {table} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 8 days')", "t"
    )

    keep(lakehouse)

    properties = lakehouse.sql("DESCRIBE DETAIL {table}", "t").collect()[0]["properties"]
    assert properties["delta.deletedFileRetentionDuration"] == "interval 3650 days"
    assert properties["delta.logRetentionDuration"] == "interval 3650 days"


def test_where_there_are_no_locks_a_short_retention_is_refused(lakehouse: Lakehouse, spark: SparkSession):
    lakehouse.replace("t", numbers(spark, 0, 1), base=None, metadata={})
    unlocked = replace(lakehouse, locks="")

    with pytest.raises(StorageError, match="nothing locks other writers out here"):
        plan_maintenance(unlocked, ["t"], [], 167)

    assert plan_maintenance(unlocked, ["t"], [], 168)[0].retention.hours == 168


def test_a_pin_to_a_version_that_never_was_stops_before_anything_is_touched(lakehouse: Lakehouse, spark: SparkSession):
    table = lakehouse.replace("t", numbers(spark, 0, 1), base=None, metadata={})

    with pytest.raises(StorageError, match=r"log has no version 7 \(a model\)"):
        keep(lakehouse, 7)

    assert lakehouse.require("t", made_by="t").version == table.version
