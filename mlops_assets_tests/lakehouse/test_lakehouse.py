"""The lakehouse: a commit happens once or not at all, and a table that moved on is noticed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse import locks as module
from mlops_assets.lakehouse.commits import StaleBaseError, TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets_tests.lakehouse.kinds import BOTH_KINDS, FOLDER_FIRST
from mlops_assets_tests.lakehouse.sessions import numbers, session_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def rows(lakehouse: Lakehouse) -> list[int]:
    current = lakehouse.require("t", made_by="t")
    return sorted(row["id"] for row in lakehouse.read("t", current.version).collect())


@BOTH_KINDS
def test_versions_and_notes_come_back_from_the_table(lakehouse: Lakehouse, spark: SparkSession):
    assert lakehouse.current("t") is None

    first = lakehouse.append("t", numbers(spark, 0, 3), base=None, metadata={"what": "first"})
    second = lakehouse.append("t", numbers(spark, 3, 5), base=first, metadata={"what": "second"})

    assert (first.version, second.version) == (0, 1)
    assert lakehouse.current("t") == second
    assert second.metadata["what"] == "second"
    assert rows(lakehouse) == [0, 1, 2, 3, 4]
    assert lakehouse.read("t", 0).count() == 3


@BOTH_KINDS
def test_a_small_table_is_fetched_as_it_was_at_a_version(lakehouse: Lakehouse, spark: SparkSession):
    first = lakehouse.append("t", numbers(spark, 0, 3).selectExpr("id", "id * 2 AS twice"), base=None, metadata={})
    lakehouse.append("t", numbers(spark, 3, 5).selectExpr("id", "id * 2 AS twice"), base=first, metadata={})

    found = lakehouse.fetch(first, ["twice"])

    assert found.column_names == ["twice"]
    assert sorted(found.column("twice").to_pylist()) == [0, 2, 4]


@BOTH_KINDS
def test_rows_are_counted_by_values_as_they_were_at_a_version(lakehouse: Lakehouse, spark: SparkSession):
    by_three = "id", "nullif(id % 3, 2) AS rest", "id > 4 AS large"
    first = lakehouse.append("t", numbers(spark, 0, 9).selectExpr(*by_three), base=None, metadata={})
    lakehouse.append("t", numbers(spark, 9, 12).selectExpr(*by_three), base=first, metadata={})

    assert lakehouse.counted(first, ["rest", "large"]) == {
        (0, False): 2,
        (1, False): 2,
        (None, False): 1,
        (0, True): 1,
        (1, True): 1,
        (None, True): 2,
    }


@FOLDER_FIRST
def test_a_table_keeps_ranges_of_what_readers_choose_by_and_of_nothing_else(lakehouse: Lakehouse, spark: SparkSession):
    wide = numbers(spark, 0, 3).selectExpr("id", "id * 2 AS twice", "id * 3 AS thrice")
    first = lakehouse.append("t", wide, base=None, metadata={}, skip_by=["id", "thrice"])
    lakehouse.append("t", wide, base=first, metadata={}, skip_by=["id", "thrice"])

    folder = spark.sql(f"DESCRIBE DETAIL {lakehouse._tables.sql_name('t')}").collect()[0]["location"]
    added = pa.table(DeltaTable(folder.removeprefix("file:")).get_add_actions(flatten=True))

    assert added.column("num_records").to_pylist() == [3, 3], "rows are counted all the same"
    assert {name for name in added.column_names if name.startswith("max.")} == {"max.id", "max.thrice"}
    assert added.column("max.thrice").to_pylist() == [6, 6]


@BOTH_KINDS
def test_replacing_keeps_the_past_readable(lakehouse: Lakehouse, spark: SparkSession):
    first = lakehouse.replace("t", numbers(spark, 0, 3), base=None, metadata={})

    lakehouse.replace("t", numbers(spark, 7, 9), base=first, metadata={})

    assert rows(lakehouse) == [7, 8]
    assert lakehouse.read("t", 0).count() == 3


@BOTH_KINDS
def test_a_merge_replaces_and_appends_in_one_commit_that_counts_and_notes(lakehouse: Lakehouse, spark: SparkSession):
    start = lakehouse.append(
        "t", numbers(spark, 0, 3).selectExpr("id", "0 AS by"), base=None, metadata={"what": "start"}
    )
    settings = session_settings(spark)

    coming = numbers(spark, 2, 6).selectExpr("id", "1 AS by")
    merged = lakehouse.merge("t", coming, key="id", base=start, metadata={"what": "merge"})

    assert (start.rows_written, merged.version, merged.rows_written) == (3, 1, 4)
    assert merged.metadata["what"] == "merge"
    assert [metadata["what"] for metadata in lakehouse.commit_metadata_since("t", -1)] == [
        "start",
        "merge",
    ]
    assert [metadata["what"] for metadata in lakehouse.commit_metadata_since("t", 0)] == ["merge"]
    found = lakehouse.read("t", 1).collect()
    assert sorted((row["id"], row["by"]) for row in found) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)]
    assert session_settings(spark) == settings
    with pytest.raises(StaleBaseError):
        lakehouse.merge("t", coming, key="id", base=start, metadata={"what": "late"})
    assert lakehouse.current("t") == merged


@FOLDER_FIRST
def test_a_merge_into_a_table_of_someone_else_is_refused(lakehouse: Lakehouse, spark: SparkSession):
    theirs = lakehouse.append("t", numbers(spark, 0, 3), base=None, metadata={})
    ours = numbers(spark, 0, 3).selectExpr("id", "'a' AS _batch_id")

    with pytest.raises(StorageError, match="the platform did not create this table: it lacks _batch_id"):
        lakehouse.merge("t", ours, key="id", base=theirs, metadata={})

    assert lakehouse.current("t") == theirs


@BOTH_KINDS
def test_an_update_changes_what_it_is_about_and_adds_no_row(lakehouse: Lakehouse, spark: SparkSession):
    start = lakehouse.append("t", numbers(spark, 0, 3).selectExpr("id", "0 AS _seen"), base=None, metadata={})
    news = spark.createDataFrame([(1, 5), (2, 0), (9, 5)], "subject long, seen int")
    about: dict[str, Any] = {"on": "old.id = new.subject", "when": "old._seen < new.seen", "values": {"_seen": "seen"}}

    written = lakehouse.update("t", news, **about, base=start, metadata={"what": "update"})

    assert (written.version, written.rows_written, written.metadata["what"]) == (1, 1, "update")
    rows = lakehouse.read("t", 1).collect()
    assert sorted((row["id"], row["_seen"]) for row in rows) == [(0, 0), (1, 5), (2, 0)]
    with pytest.raises(StaleBaseError):
        lakehouse.update("t", news, **about, base=start, metadata={"what": "late"})


@FOLDER_FIRST
def test_an_update_of_a_table_of_someone_else_is_refused(lakehouse: Lakehouse, spark: SparkSession):
    theirs = lakehouse.append("t", numbers(spark, 0, 3), base=None, metadata={})

    with pytest.raises(StorageError, match="the platform did not create this table: it lacks _seen"):
        lakehouse.update(
            "t",
            numbers(spark, 0, 3),
            on="old.id = new.id",
            when="true",
            values={"_seen": "id"},
            base=theirs,
            metadata={},
        )


@FOLDER_FIRST
def test_a_table_gets_a_column_of_the_platforms_when_that_is_asked_for_alone(lakehouse: Lakehouse, spark: SparkSession):
    start = lakehouse.append("t", numbers(spark, 0, 3).selectExpr("id", "'a' AS _batch_id"), base=None, metadata={})
    more = numbers(spark, 3, 4).selectExpr("id", "'a' AS _batch_id", "1 AS _seen")

    with pytest.raises(Exception, match="schema"):
        lakehouse.append("t", more, base=start, metadata={})
    lakehouse.append("t", more, base=start, metadata={}, new_columns=True)

    assert lakehouse.read("t", 1).columns == ["id", "_batch_id", "_seen"]


@BOTH_KINDS
@pytest.mark.parametrize("base", [None, 0], ids=["both create", "both append"])
def test_a_writer_that_looked_too_early_writes_nothing(lakehouse: Lakehouse, spark: SparkSession, base: int | None):
    """Two writers look at the same version; without a lock between them only one of them may commit."""
    start: TableVersion | None = None
    if base is not None:
        start = lakehouse.append("t", numbers(spark, 0, 1), base=None, metadata={"by": "start"})
    lakehouse.append("t", numbers(spark, 10, 12), base=start, metadata={"by": "the faster one"})

    with pytest.raises(StaleBaseError):
        lakehouse.append("t", numbers(spark, 20, 22), base=start, metadata={"by": "the slower one"})

    assert [value for value in rows(lakehouse) if value >= 10] == [10, 11]


@BOTH_KINDS
def test_of_two_writers_at_once_one_commits(lakehouse: Lakehouse, spark: SparkSession):
    """Without a lock: in a cloud store Delta itself keeps two apart, as it does here within one JVM."""
    start = lakehouse.append("t", numbers(spark, 0, 1), base=None, metadata={})
    together = threading.Barrier(2)
    told: list[str] = []

    def write(first: int) -> None:
        together.wait()
        try:
            lakehouse.append("t", numbers(spark, first, first + 2), base=start, metadata={"first": first})
        except StaleBaseError:
            told.append("stale")
        else:
            told.append("written")

    writers = [threading.Thread(target=write, args=(first,)) for first in (10, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert sorted(told) == ["stale", "written"]
    assert rows(lakehouse) in ([0, 10, 11], [0, 20, 21])


@FOLDER_FIRST
def test_the_lock_lets_one_in_at_a_time(lakehouse: Lakehouse):
    inside: list[str] = []

    def enter() -> None:
        with lakehouse.exclusive("t"):
            inside.append("second")

    with lakehouse.exclusive("t"):
        waiting = threading.Thread(target=enter)
        waiting.start()
        waiting.join(timeout=0.5)
        inside.append("first")
    waiting.join(timeout=10)

    assert inside == ["first", "second"]


@FOLDER_FIRST
def test_a_lock_that_cannot_be_had_is_an_error_and_not_a_hang(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.2)  # fifteen minutes otherwise

    with (
        lakehouse.exclusive("t"),
        pytest.raises(StorageError, match="another run has held the table"),
        lakehouse.exclusive("t"),
    ):
        pytest.fail("the lock was given twice")


@FOLDER_FIRST
def test_a_missing_table_says_what_to_materialize(lakehouse: Lakehouse):
    with pytest.raises(StorageError, match="materialize `x` first"):
        lakehouse.require("t", made_by="x")


@FOLDER_FIRST
def test_a_missing_version_is_named(lakehouse: Lakehouse, spark: SparkSession):
    lakehouse.append("t", numbers(spark, 0, 3), base=None, metadata={})

    with pytest.raises(StorageError, match="version 5 can't be read"):
        lakehouse.read("t", 5)


def test_a_half_written_first_version_is_no_table(lakehouse: Lakehouse, spark: SparkSession):
    """What a killed writer leaves behind: data files that no commit names."""
    numbers(spark, 100, 103).write.parquet(lakehouse.location("t"))
    assert lakehouse.current("t") is None

    lakehouse.append("t", numbers(spark, 0, 2), base=None, metadata={})

    assert rows(lakehouse) == [0, 1]


def test_staging_starts_empty_and_is_removed(lakehouse: Lakehouse):
    with lakehouse.staging("t") as folder:
        (folder / "left").write_text("x")
        left = folder
    assert not left.exists()
    left.mkdir(parents=True)
    (left / "by a killed process").write_text("x")

    with lakehouse.staging("t") as folder:
        assert list(folder.iterdir()) == []


def test_without_locks_two_stage_apart(lakehouse: Lakehouse):
    """As on a cluster: of two runs at once, neither may lose its rows, or load the other's."""
    free = Lakehouse(spark=lakehouse.spark, database=lakehouse.database, root=lakehouse.root)
    forgotten = Path(lakehouse.root) / "_staging" / "t" / f"{time.time() - 8 * 86_400:.0f}-forgotten"
    forgotten.mkdir(parents=True)
    (forgotten / "rows").write_text("x")

    with free.staging("t") as one:
        (one / "rows").write_text("one")
        os.utime(one, (0, 0))  # what a volume says of a folder's modification time is not reliable
        with free.staging("t") as two:
            assert list(two.iterdir()) == []
        assert (one / "rows").read_text() == "one"

    assert list((Path(lakehouse.root) / "_staging" / "t").iterdir()) == []


def test_a_root_that_cannot_be_written_says_so(lakehouse: Lakehouse, tmp_path: Path):
    (tmp_path / "file").write_text("")
    broken = Lakehouse(
        spark=lakehouse.spark, database="d", root=str(tmp_path / "file" / "d"), locks=str(tmp_path / "file" / "locks")
    )

    with pytest.raises(StorageError, match="folder can't be written"), broken.staging("t"):
        pytest.fail("a folder below a file was made")
    with pytest.raises(StorageError, match="MLOPS_HOME"), broken.exclusive("t"):
        pytest.fail("a lock below a file was made")
