"""`mlops verify` says ok of what loads have left, and what is wrong where parts don't fit together.

Damages of every kind of file are in `damage`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.data.columns import BATCH_ID
from mlops_assets.diagnostics.consistency import verify_tables
from mlops_assets.diagnostics.mlflow_file import check_store
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lakehouse.transaction_tables import QUARANTINED, RAW
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.lakehouse.test_reverting import Database

CONTENT = {
    "a": [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0), (9, 1.0, -1.0, 0)],
    "b": [(1, 2.0, 11.0, 1), (3, 1.0, 30.0, 0), (2, 0.0, 0.0, 1)],
}


@pytest.fixture(scope="module")
def loaded_once(new_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    database = Database(new_lakehouse())
    for name, rows in CONTENT.items():
        database.load(name, *rows)
    return database.lakehouse


@pytest.fixture
def database(lakehouse: Lakehouse, loaded_once: Lakehouse) -> Database:
    return Database(copy_tables(loaded_once, lakehouse))


def wrong(database: Database, *pins: Pin) -> list[str]:
    """Return the findings that are errors."""
    found = verify_tables("m", database.lakehouse, lambda: pins)
    return [str(finding) for finding in found if finding.level == "error"]


def folder(database: Database, name: str) -> Path:
    return Path(database.lakehouse.location(name))


def test_what_loads_have_left_is_ok(database: Database):
    (finding,) = verify_tables("m", database.lakehouse, lambda: [Pin(RAW, 0, "a model")])

    assert str(finding) == "ok      tables of m: 5 tables are whole and fit together"


def test_where_nothing_was_written_there_is_nothing_to_tell(lakehouse: Lakehouse):
    assert verify_tables("m", lakehouse, None) == []


def test_a_model_that_is_pinned_to_a_version_that_is_gone(database: Database):
    (line,) = wrong(database, Pin(RAW, 7, "a model"))

    assert "models are pinned to version 7, which the table does not have" in line


def test_files_of_a_version_that_a_model_is_pinned_to_are_looked_at(database: Database):
    for path in folder(database, RAW).glob("*.parquet"):
        if path.name not in str(database.lakehouse.read(RAW, 1).inputFiles()):
            path.unlink()

    assert wrong(database) == []
    assert "of version 0 is missing" in wrong(database, Pin(RAW, 0, "a model"))[0]


def test_a_table_that_lacks_batches_and_rows_that_are_not_on_record(database: Database):
    shutil.rmtree(folder(database, RAW))
    assert "2 batches on record are not in the table: a, b" in wrong(database)[0]


def test_a_quarantine_that_is_gone_is_missed_where_rows_were_set_aside(database: Database):
    shutil.rmtree(folder(database, QUARANTINED))

    assert "the table is gone: rows of 1 batches were set aside" in wrong(database)[0]


@pytest.mark.proof  # a commit of somebody else
def test_rows_that_are_not_on_record(database: Database):
    rows = database.lakehouse.read(RAW, 1)
    strange = rows.limit(1).selectExpr(*[f"'x' AS {n}" if n == BATCH_ID else n for n in rows.columns])
    strange.write.format("delta").mode("append").save(str(folder(database, RAW)))

    assert "1 rows are of batches that are not on record, or were reverted: x" in wrong(database)[0]


def test_a_store_that_is_gone_is_an_error_where_artifacts_are(tmp_path: Path):
    uri, artifacts = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts"
    assert check_store(uri, artifacts) == []
    (artifacts / "1").mkdir(parents=True)
    assert check_store(uri, artifacts) == [], "an empty folder is no run"
    (artifacts / "1" / "model.ubj").write_bytes(b"model")
    assert "is gone, and artifacts of its runs" in check_store(uri, artifacts)[0].text
    (tmp_path / "mlflow.db").write_bytes(b"garbage" * 1000)
    assert "can't be read" in check_store(uri, artifacts)[0].text


def test_a_store_that_is_there_is_ok(empty_mlflow: Path, tmp_path: Path):
    (finding,) = check_store(f"sqlite:///{empty_mlflow}", tmp_path)

    assert finding.level == "ok"
