"""Labels that come after, before and instead of their transactions' own, and processes that end in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.data.columns import LABEL_HISTORY, LABEL_KNOWN_AT, OWN_LABEL
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.staging import stage_load
from mlops_assets.data.labels.labels import stage_labels
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.replaced_rows import replaced_rows
from mlops_assets.lakehouse.transaction_tables import LABELS, RAW, REPLACED, Snapshot
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.lakehouse.dying import Killed, Kind, dying

# id, card, time, target as written
Row = tuple[int, str, float, str]
# key, label, time it became known
Label = tuple[Any, str, float]
# id, target, when its label became known
Seen = tuple[int, int | None, float | None]


def contract(*, by: str = "id", labels: bool = True, nullable: bool = True, window: float = 4.5) -> Contract:
    """Return a contract of numbered transactions of cards; `by` is what label files name, `window` in seconds."""
    return Contract(
        name="cards",
        version=1,
        columns=(
            Column(name="id", type="long"),
            Column(name="card", type="string"),
            Column(name="at", type="double"),
            Column(name="amount", type="double"),
            Column(name="fraud", type="long", nullable=nullable),
        ),
        features=("amount",),
        key="id",
        entity="card",
        target="fraud",
        event_time="at",
        ordered=False,
        max_bad_share=0.5,
        labels=LabelColumns(
            key=by, label="is_fraud", known_at="known_at", window_days=None if by == "id" else window / 86_400
        )
        if labels
        else None,
    )


@dataclass
class Listed:
    """A source of one file: equal rows are equal content, whatever the name."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    name: str = "file"

    def batches(self) -> Iterator[SourceBatch]:
        columns = {
            column: pa.array([str(row[position]) or None for row in self.rows], pa.string())
            for position, column in enumerate(self.columns)
        }
        yield SourceBatch(self.name, f"hash of {self.rows}", pa.table(columns))


@dataclass
class Database:
    """A database under test."""

    lakehouse: Lakehouse
    contract: Contract = field(default_factory=contract)

    def load(self, *rows: Row) -> Snapshot:
        """Load transactions, as the asset does it."""
        store = TransactionStore(self.lakehouse, self.contract, "run")
        source = Listed(("id", "card", "at", "amount", "fraud"), [(*row[:3], 1.0, row[3]) for row in rows])
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            snapshot = store.recover(folder)
            load = stage_load(source, self.contract, folder, snapshot.recorded)
            assert load.errors == []
            return store.commit(snapshot, load, folder).snapshot if load.records else snapshot

    def bring(self, *labels: Label, name: str = "labels.csv") -> TableVersion | None:
        """Bring labels to their table, as the asset does it; None if they are known."""
        assert self.contract.labels is not None
        store, named = LabelStore(self.lakehouse, self.contract, "run"), self.contract.labels
        source = Listed((named.key, named.label, named.known_at), labels, name)
        with self.lakehouse.exclusive(LABELS), self.lakehouse.staging(LABELS) as folder:
            table = store.current()
            staged = stage_labels(source, self.contract, folder, store.batches(table))
            assert staged.errors == []
            return store.commit(table, staged, folder) if staged.records else None

    def merge(self) -> Snapshot:
        """Merge the labels that are there, as the asset does it."""
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            return TransactionStore(self.lakehouse, self.contract, "run").recover(folder)

    def bring_and_merge(self, *labels: Label) -> Snapshot:
        self.bring(*labels)
        return self.merge()

    def waiting(self) -> int:
        store = LabelStore(self.lakehouse, self.contract)
        table = store.current()
        assert table is not None
        return store.count(table).waiting

    def raw(self) -> list[Seen]:
        table = self.lakehouse.require(RAW, made_by="test")
        rows = self.lakehouse.read(RAW, table.version)
        known = LABEL_KNOWN_AT if LABEL_KNOWN_AT in rows.columns else "NULL"
        return sorted((row[0], row[1], row[2]) for row in rows.selectExpr("id", "fraud", known).collect())

    def version(self, name: str = RAW) -> int:
        return self.lakehouse.require(name, made_by="test").version


@pytest.fixture
def database(lakehouse: Lakehouse) -> Database:
    return Database(lakehouse)


@pytest.mark.proof  # several loads
def test_the_label_that_became_known_last_stands_whatever_order_files_come_in(database: Database):
    database.load((1, "a", 1.0, "0"), (2, "a", 2.0, ""), (3, "b", 3.0, "0"))
    assert database.bring((1, "1", 50.0), (2, "1", 20.0), (2, "0", 30.0)) is not None

    assert database.merge().labelled == 2
    assert database.raw() == [(1, 1, 50.0), (2, 0, 30.0), (3, 0, None)]

    # An older label of 1, a newer one of 2, and the first file again under another name.
    assert database.bring((1, "0", 40.0), (2, "1", 31.0)) is not None
    assert database.bring((1, "1", 50.0), (2, "1", 20.0), (2, "0", 30.0), name="renamed.csv") is None
    before = database.version()

    assert database.merge().labelled == 2, "the label in force of 1 stays, and its history has one more"
    assert database.raw() == [(1, 1, 50.0), (2, 1, 31.0), (3, 0, None)]
    assert database.version() == before + 1
    assert database.merge().labelled == 0
    assert database.version() == before + 1, "a merge that changes nothing makes no version"


@pytest.mark.proof  # several loads
def test_a_label_waits_for_its_transaction_and_outlives_its_replacement(database: Database):
    database.bring((1, "1", 9.0), (7, "1", 9.0))
    assert database.waiting() == 2

    database.load((1, "a", 1.0, ""), (2, "a", 2.0, "0"))
    assert database.raw() == [(1, 1, 9.0), (2, 0, None)]
    assert database.waiting() == 1

    # A later write of 1 takes its place, one of 2 says the same, and 7 comes at last.
    snapshot = database.load((1, "a", 1.5, "0"), (2, "a", 2.0, "0"), (7, "b", 3.0, "0"))
    assert snapshot.raw is not None
    assert snapshot.raw.rows_written == 2
    assert database.raw() == [(1, 1, 9.0), (2, 0, None), (7, 1, 9.0)]
    assert database.waiting() == 0
    # Delivered again as it was: known, though its own target is not the one in the table.
    version = database.version()
    database.load((7, "b", 3.0, "0"), (1, "a", 1.5, "0"))
    assert database.version() == version


@pytest.mark.proof  # several loads; `data/labels` tests the rule
def test_a_label_by_entity_is_about_what_happened_before_it_within_its_window(lakehouse: Lakehouse):
    database = Database(lakehouse, contract(by="card"))
    database.load((1, "a", 1.0, "0"), (2, "a", 9.0, "0"), (3, "b", 1.0, "0"), (7, "a", 0.5, "0"))
    database.bring(("a", "1", 5.0), ("c", "1", 5.0))

    assert database.merge().labelled == 1
    assert database.waiting() == 1
    database.load((4, "a", 4.0, ""), (5, "a", 6.0, ""), (6, "c", 5.0, "0"))

    seen = [(1, 1, 5.0), (2, 0, None), (3, 0, None), (4, 1, 5.0), (5, None, None), (6, 1, 5.0), (7, 0, None)]
    assert database.raw() == seen

    # An earlier label of the card comes later: what happened before it is its own, and so far back as its window.
    database.bring(("a", "0", 3.0))
    assert database.merge().labelled == 2
    assert database.raw() == [(1, 0, 3.0), *seen[1:6], (7, 0, 3.0)]

    # A wider window in the contract reaches further back, without any new label.
    database.bring(("b", "1", 8.0))
    assert database.merge().labelled == 0
    database.contract = contract(by="card", window=7.5)
    assert database.merge().labelled == 2, "row 3 has a label now, and row 7 a second one in its history"
    assert database.raw()[2] == (3, 1, 8.0)


def test_a_row_that_is_replaced_is_kept_as_it_was(database: Database):
    """With its labels, once or more: a process that is killed before the merge leaves a copy behind."""
    database.load((1, "a", 1.0, "0"), (2, "a", 2.0, "0"))
    database.bring((1, "1", 9.0))
    assert replaced_rows(database.lakehouse) is None
    killed = Database(dying(database.lakehouse, lambda name, _, __: name == REPLACED))
    with pytest.raises(Killed):
        killed.load((1, "a", 1.5, "0"), (3, "b", 3.0, "0"))
    before = database.raw()

    database.load((1, "a", 1.5, "0"), (3, "b", 3.0, "0"))
    database.load((1, "a", 1.5, "0"), (4, "b", 3.0, "0"))

    kept = replaced_rows(database.lakehouse)
    assert kept is not None
    assert before == [(1, 1, 9.0), (2, 0, None)]
    found = {(row["id"], row["at"], row["fraud"], row[OWN_LABEL]) for row in kept.collect()}
    assert found == {(1, 1.0, 1, 0)}
    assert database.raw() == [(1, 1, 9.0), (2, 0, None), (3, 0, None), (4, 0, None)]


@pytest.mark.proof  # several loads
def test_a_home_from_before_histories_goes_on(lakehouse: Lakehouse):
    """Its table has the label in force alone: columns are added without a rewrite, and the next merge fills them."""
    database = Database(lakehouse)
    database.load((1, "a", 1.0, "0"), (2, "a", 2.0, "0"))
    database.bring((1, "1", 9.0), (1, "0", 5.0))
    table = database.merge().raw
    assert table is not None
    old = lakehouse.read(RAW, table.version).drop(OWN_LABEL, LABEL_HISTORY)
    lakehouse.replace(RAW, old, base=table, metadata=table.metadata)
    assert LABEL_HISTORY not in lakehouse.read(RAW, database.version()).columns

    assert database.merge().labelled == 1
    database.load((3, "a", 3.0, "1"), (2, "a", 2.5, "1"))

    assert database.raw() == [(1, 1, 9.0), (2, 1, None), (3, 1, None)]
    rows = lakehouse.read(RAW, database.version()).orderBy("id").select("_own_label", "_label_history").collect()
    assert [row[0] for row in rows] == [None, 1, 1], "what the label took the place of is lost there"
    assert [[(label.known_at, label.label) for label in row[1] or []] for row in rows] == [[(5.0, 0), (9.0, 1)], [], []]


@pytest.mark.proof  # several loads
def test_a_table_without_labels_is_left_as_it_is_and_gets_the_column_once(lakehouse: Lakehouse):
    before = Database(lakehouse, contract(labels=False, nullable=False))
    before.load((1, "a", 1.0, "0"))
    database = Database(lakehouse, contract(nullable=False))

    database.load((2, "a", 2.0, "0"))
    assert LABEL_KNOWN_AT not in lakehouse.read(RAW, database.version()).columns
    database.bring((3, "1", 9.0))
    database.merge()

    rows = lakehouse.read(RAW, database.version())
    assert rows.columns[-3:] == [LABEL_KNOWN_AT, OWN_LABEL, LABEL_HISTORY]
    assert all(rows.schema[name].nullable for name in rows.columns[-3:])
    assert lakehouse.read(RAW, database.version() - 1).count() == rows.count() == 2
    database.load((3, "a", 3.0, "0"), (1, "a", 1.5, "0"))
    assert database.raw() == [(1, 0, None), (2, 0, None), (3, 1, 9.0)]


STEPS: dict[str, Kind] = {
    "labels in their table": lambda name, _, __: name == LABELS,
    "column added": lambda name, columns, metadata: name == RAW and "amount" in columns,
    "labels merged": lambda name, columns, metadata: name == RAW and "amount" not in columns,
}


@pytest.mark.proof  # a kill and a recovery each
@pytest.mark.parametrize(
    ("killed_at", "then"), [("labels in their table", "load"), ("column added", "merge"), ("labels merged", "load")]
)
def test_a_process_that_is_killed_after_any_commit_loses_and_doubles_no_label(
    lakehouse: Lakehouse, killed_at: str, then: str
):
    labels: list[Label] = [(1, "1", 9.0), (4, "1", 9.0)]
    database = Database(lakehouse)
    database.load((1, "a", 1.0, "0"), (2, "a", 2.0, ""))
    killed = Database(dying(lakehouse, STEPS[killed_at]))

    with pytest.raises(Killed):
        killed.bring_and_merge(*labels)
    assert database.raw() == [(1, *((1, 9.0) if killed_at == "labels merged" else (0, None))), (2, None, None)]

    assert database.bring(*labels) is None, "what was committed is known"
    database.merge() if then == "merge" else database.load((4, "a", 3.0, "0"))

    assert database.raw() == [(1, 1, 9.0), (2, None, None), *([(4, 1, 9.0)] if then == "load" else [])]
    assert lakehouse.read(LABELS, database.version(LABELS)).count() == 2
    assert database.merge().labelled == 0


@pytest.mark.proof  # dozens of commits; which label counts is a property of `data/test_maturity`
def test_any_order_of_loads_and_labels_ends_in_the_same_table(lakehouse: Lakehouse):
    """Files of transactions and of labels in random order, one of each kind twice; what counts is what they say."""
    order = np.random.default_rng(11)
    loads: list[tuple[Row, ...]] = [
        ((1, "a", 1.0, "0"), (2, "a", 2.0, "")),
        ((3, "b", 1.0, "0"), (1, "a", 1.5, "0")),
        ((4, "b", 2.0, ""), (2, "a", 1.0, "1")),
    ]
    labels: list[tuple[Label, ...]] = [
        ((1, "1", 10.0), (2, "0", 10.0)),
        ((2, "1", 11.0), (9, "1", 11.0)),
        ((1, "0", 12.0), (4, "1", 12.0), (2, "0", 9.0)),
    ]
    expected = [(1, 0, 12.0), (2, 1, 11.0), (3, 0, None), (4, 1, 12.0)]
    for number in range(2):
        own = Lakehouse(
            spark=lakehouse.spark,
            database=lakehouse.database,
            root=f"{lakehouse.root}_{number}",
            locks=f"{lakehouse.locks}_{number}",
        )
        database = Database(own)
        steps: list[Callable[[], object]] = [partial(database.load, *rows) for rows in (*loads, loads[number])]
        steps += [partial(database.bring, *some) for some in (*labels, labels[number])]
        for step in order.permutation(len(steps)):
            steps[step]()
        database.merge()
        assert database.raw() == expected, f"order {number}"
        assert database.waiting() == 1


def test_labels_that_the_contract_no_longer_tells_of_are_not_lost_in_silence(lakehouse: Lakehouse):
    database = Database(lakehouse)
    database.load((1, "a", 1.0, "0"))
    database.bring((1, "1", 9.0))
    database.merge()

    database.contract = contract(by="card")
    with pytest.raises(ContractError, match="the labels in the table have another key than card"):
        database.merge()
    database.contract = contract().model_copy(update={"labels": None})
    with pytest.raises(ContractError, match="late labels, but the contract has no `labels` any more"):
        database.merge()
    database.contract = contract()
    shutil.rmtree(lakehouse.location(LABELS))
    with pytest.raises(StorageError, match="raw_transactions has late labels, but the table they came from is gone"):
        database.merge()
