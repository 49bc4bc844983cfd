"""A raw table that lacks what the manifest has on record is refused and can be repaired; a whole one passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.batches import batches
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.loading import repair
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.lakehouse.test_reverting import Database, Row

A: list[Row] = [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0), (9, 1.0, -1.0, 0)]
B: list[Row] = [(1, 2.0, 11.0, 1), (3, 1.0, 30.0, 0)]
BOTH = [(1, 2.0, 11.0, 1), (2, 1.0, 20.0, 0), (3, 1.0, 30.0, 0)]


@pytest.fixture(scope="module")
def loaded_once(new_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    database = Database(new_lakehouse())
    database.load("a", *A)
    database.load("b", *B)
    return database.lakehouse


@pytest.fixture
def database(lakehouse: Lakehouse, loaded_once: Lakehouse) -> Database:
    return Database(copy_tables(loaded_once, lakehouse))


def raw(database: Database) -> Path:
    return Path(database.lakehouse.location(RAW))


def lose_folder(database: Database) -> None:
    shutil.rmtree(raw(database))


def lose_commit(database: Database) -> None:
    for path in (raw(database) / "_delta_log").glob(f"*{1:020d}.*"):
        path.unlink()


def restore(database: Database) -> None:
    database.lakehouse.sql("RESTORE TABLE {table} TO VERSION AS OF 0", RAW).collect()


def test_a_whole_table_passes_and_needs_no_repair(database: Database):
    with database.lakehouse.exclusive(RAW):
        assert repair(database.store()) == []
    assert not database.load("a", *A)
    assert database.rows() == BOTH


@pytest.mark.parametrize(
    ("lose", "lost"),
    [
        pytest.param(lose_commit, ["b"], id="commit"),
        pytest.param(lose_folder, ["a", "b"], id="folder", marks=pytest.mark.proof),
        pytest.param(restore, ["b"], id="restore", marks=pytest.mark.proof),
    ],
)
def test_what_the_table_has_lost_is_named_and_repaired(
    database: Database, lose: Callable[[Database], None], lost: list[str]
):
    lose(database)

    with pytest.raises(StorageError, match=f"{len(lost)} batches on record are not in it") as refused:
        database.load("c", (4, 1.0, 40.0, 0))
    assert all(f"{name} (content-of-" in refused.value.what for name in lost)
    assert "mlops repair" in refused.value.fix

    with database.lakehouse.exclusive(RAW):
        assert sorted(repair(database.store())) == [f"content-of-{name}" for name in lost]
        assert repair(database.store()) == []
    assert [batch.source for batch in batches(database.lakehouse)] == [name for name in ("a", "b") if name not in lost][
        ::-1
    ]
    for name, content in (("a", A), ("b", B)):
        assert database.load(name, *content) is (name in lost)
    assert database.rows() == BOTH
    assert database.aside() == 1


@pytest.mark.proof  # a DELETE by somebody else
def test_rows_that_somebody_has_deleted_are_no_lost_batch(database: Database):
    database.lakehouse.sql("DELETE FROM {table} WHERE id = 2", RAW).collect()

    assert not database.load("a", *A)
    assert database.rows() == [BOTH[0], BOTH[2]]
