"""Batches that are taken out again: the tables are then as if they had never come, whatever came before and after."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.staging import stage_load
from mlops_assets.data.labels.labels import stage_labels
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.batches import batches, chosen
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.load_report import LoadReport
from mlops_assets.lakehouse.loading import revert
from mlops_assets.lakehouse.transaction_tables import KNOWN, LABELS, MANIFEST, QUARANTINED, RAW, REPLACED
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.lakehouse.dying import Killed, Kind, dying

# id, time, amount, label as delivered
Row = tuple[int, float, float, int]
# id, label, when it became known
Label = tuple[int, int, float]

KEYED = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="double"),
        Column(name="amount", type="double", min=0),
        Column(name="fraud", type="long"),
    ),
    features=("amount",),
    key="id",
    target="fraud",
    event_time="at",
    ordered=False,
    max_bad_share=1.0,
    max_changed_share=1.0,
)
PLAIN = KEYED.model_copy(update={"key": None})
LATE = KEYED.model_copy(
    update={"labels": LabelColumns(key="id", label="is_fraud", known_at="known_at", window_days=None)}
)


@dataclass
class Listed:
    """A source of one input, whose content is its name."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]

    def batches(self) -> Iterator[SourceBatch]:
        columns = {
            column: pa.array([str(row[position]) for row in self.rows], pa.string())
            for position, column in enumerate(self.columns)
        }
        yield SourceBatch(self.name, f"content-of-{self.name}", pa.table(columns))


@dataclass
class Database:
    """A database under test."""

    lakehouse: Lakehouse
    contract: Contract = KEYED
    dagster_run: str = field(default="run")

    def store(self) -> TransactionStore:
        return TransactionStore(self.lakehouse, self.contract, self.dagster_run)

    def load(self, name: str, *rows: Row) -> bool:
        """Load rows as the asset does it; return whether the batch was new."""
        store = self.store()
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            snapshot = store.recover(folder)
            source = Listed(name, ("id", "at", "amount", "fraud"), rows)
            staged = stage_load(source, self.contract, folder, snapshot.recorded)
            assert staged.errors == []
            if staged.records:
                assert not store.commit(snapshot, staged, folder).refused
            return bool(staged.records)

    def label(self, name: str, *labels: Label) -> None:
        store = LabelStore(self.lakehouse, self.contract, self.dagster_run)
        with self.lakehouse.exclusive(LABELS), self.lakehouse.staging(LABELS) as folder:
            table = store.current()
            source = Listed(name, ("id", "is_fraud", "known_at"), labels)
            staged = stage_labels(source, self.contract, folder, store.batches(table))
            assert staged.errors == []
            if staged.records:
                store.commit(table, staged, folder)

    def recover(self) -> None:
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            self.store().recover(folder)

    def revert(self, *names: str) -> LoadReport:
        with self.lakehouse.exclusive(RAW):
            report = revert(self.store(), [f"content-of-{name}" for name in names])
        assert report.of_table[0].passed, report.of_table[0].description
        return report

    def rows(self, table: str = RAW) -> list[Row]:
        newest = self.lakehouse.current(table)
        if newest is None:
            return []
        rows = self.lakehouse.read(table, newest.version).select("id", "at", "amount", "fraud").collect()
        return sorted(tuple(row) for row in rows)

    def aside(self) -> int:
        table = self.lakehouse.current(QUARANTINED)
        return 0 if table is None else self.lakehouse.read(QUARANTINED, table.version).count()


@pytest.fixture
def keyed(lakehouse: Lakehouse) -> Database:
    return Database(lakehouse)


def test_a_reverted_batch_never_came_and_may_come_again(keyed: Database):
    first: list[Row] = [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 1)]
    wrong: list[Row] = [(1, 1.0, 10.0, 0), (3, 1.0, 30.0, 0), (4, 1.0, -1.0, 0)]
    keyed.load("good", *first, (5, 1.0, 50.0, 0))
    keyed.load("bad", *wrong)
    after = [(1, 1.0, 10.0, 0), (2, 1.0, 20.0, 1), (3, 1.0, 30.0, 0), (5, 1.0, 50.0, 0)]
    assert keyed.rows() == after
    before = keyed.lakehouse.require(RAW, made_by="test").version

    report = keyed.revert("bad")

    assert keyed.rows() == [*first, (5, 1.0, 50.0, 0)]
    assert (report.removed, report.restored, keyed.aside()) == (1, 1, 0)
    assert keyed.lakehouse.require(RAW, made_by="test").version == before + 1, "one commit"
    assert keyed.lakehouse.read(RAW, before).count() == 4, "history is kept"
    assert [batch.source for batch in batches(keyed.lakehouse)] == ["good"]
    assert keyed.load("bad", *wrong)
    assert keyed.rows() == after
    assert not keyed.load("good", *first), "what stays is still known"


def test_a_batch_that_is_not_there_is_one_error_and_changes_nothing(keyed: Database):
    keyed.load("good", (1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0))
    found = batches(keyed.lakehouse)

    with pytest.raises(StorageError, match=r"no batch 'nothing' is loaded.*lists them"):
        chosen(found, ["nothing"], where="here")
    with pytest.raises(StorageError, match="no batch is named"):
        chosen(found, [], where="here")
    with pytest.raises(StorageError, match="no batch '' is loaded"):
        chosen(found, [""], where="here")
    with pytest.raises(StorageError, match="2 batches begin with content"):
        chosen(
            [*found, *[batch.__class__("content-of-b", "b", 1, 1, "") for batch in found]], ["content"], where="here"
        )
    assert chosen(found, ["content-of-g", "content-of-good"], where="here") == found


@pytest.mark.proof  # several loads
def test_rows_that_lost_against_a_reverted_one_come_back(keyed: Database):
    keyed.load("newest", (1, 9.0, 9.0, 0), (2, 1.0, 1.0, 1))
    keyed.load("older", (1, 5.0, 5.0, 0))
    keyed.load("oldest", (1, 1.0, 1.0, 1))
    keyed.load("again", (2, 1.0, 1.0, 1))
    assert keyed.rows() == [(1, 9.0, 9.0, 0), (2, 1.0, 1.0, 1)]

    keyed.revert("newest")
    assert keyed.rows() == [(1, 5.0, 5.0, 0), (2, 1.0, 1.0, 1)], "a repeated row has its own batch now"

    keyed.revert("older", "again")
    assert keyed.rows() == [(1, 1.0, 1.0, 1)]
    assert keyed.rows(KNOWN) == [(1, 1.0, 1.0, 1)], "rows of reverted batches are nowhere"
    assert keyed.rows(REPLACED) == []


@pytest.mark.proof  # six orders of three loads for each rule
@pytest.mark.parametrize(("says", "wins"), [("event_time", "newest"), ("amount", "version"), ("arrival", None)])
def test_what_wins_on_redelivery_is_what_the_contract_says_in_every_order(
    new_lakehouse: Callable[[], Lakehouse], says: str, wins: str | None
):
    contract = KEYED.model_copy(update={"last_write": says})
    rows: dict[str, Row] = {"newest": (1, 9.0, 1.0, 0), "version": (1, 5.0, 9.0, 0), "oldest": (1, 1.0, 5.0, 0)}
    for order in itertools.permutations(rows):
        database = Database(new_lakehouse(), contract)
        for name in order:
            database.load(name, rows[name], (2, 1.0, 1.0, 1))
        assert database.rows()[0] == rows[wins or order[-1]], order
        database.revert(wins or order[-1])
        left = [name for name in order if name != (wins or order[-1])]
        index = {"event_time": 1, "amount": 2}.get(says)
        then = max(left, key=lambda name: rows[name][index]) if index is not None else left[-1]
        assert database.rows()[0] == rows[then], order


@pytest.mark.proof  # several loads
def test_without_a_key_the_rows_of_the_batch_go_and_no_other(lakehouse: Lakehouse):
    database = Database(lakehouse, PLAIN)
    database.load("a", (1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0))
    database.load("b", (1, 1.0, 10.0, 1), (3, 1.0, 30.0, 0))

    database.revert("a")

    assert database.rows() == [(1, 1.0, 10.0, 1), (3, 1.0, 30.0, 0)]


@pytest.mark.proof  # several loads
def test_a_batch_without_a_row_in_the_table_is_reverted_too(keyed: Database):
    keyed.load("good", (1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0))
    keyed.load("bad", (3, 1.0, -1.0, 0))
    keyed.load("late", (1, 0.0, 5.0, 1))

    report = keyed.revert("bad", "late")

    assert (report.removed, report.restored, keyed.aside()) == (0, 0, 0)
    assert keyed.load("bad", (3, 1.0, 3.0, 0)), "its content may come again"
    assert keyed.rows() == [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0), (3, 1.0, 3.0, 0)]


@pytest.mark.proof  # several loads
def test_labels_are_reverted_and_rows_that_come_back_have_those_of_today(lakehouse: Lakehouse):
    database = Database(lakehouse, LATE)
    database.load("a", (1, 1.0, 10.0, 0), (2, 1.0, 20.0, 0))
    database.load("b", (1, 2.0, 11.0, 0))
    database.label("yes", (1, 1, 5.0))
    database.recover()
    assert database.rows() == [(1, 2.0, 11.0, 1), (2, 1.0, 20.0, 0)]

    database.revert("b")
    assert database.rows() == [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0)], "the label came after it was replaced"

    database.label("wrong", (2, 1, 6.0), (1, 0, 6.0))
    database.recover()
    assert database.rows() == [(1, 1.0, 10.0, 0), (2, 1.0, 20.0, 1)]
    database.revert("wrong")
    assert database.rows() == [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0)]
    database.label("wrong", (2, 1, 6.0), (1, 0, 6.0))
    database.recover()
    assert database.rows() == [(1, 1.0, 10.0, 0), (2, 1.0, 20.0, 1)], "a label file that was reverted may come again"


@pytest.mark.proof  # a kill and a recovery each
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(lambda name, *_: name == RAW, id="raw"),
        pytest.param(lambda name, *_: name == QUARANTINED, id="quarantine"),
        pytest.param(lambda name, *_: name == REPLACED, id="replaced"),
        pytest.param(lambda name, *_: name == KNOWN, id="known"),
        pytest.param(lambda name, *_: name == MANIFEST, id="manifest"),
    ],
)
@pytest.mark.parametrize("then", ["load", "revert"])
def test_a_revert_that_is_killed_after_any_commit_is_finished(keyed: Database, after: Kind, then: str):
    keyed.load("a", (1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0))
    keyed.load("b", (1, 1.0, 11.0, 1), (2, 0.0, 0.0, 1), (3, 1.0, 30.0, 0), (4, 1.0, -1.0, 0))
    keyed.load("c", (1, 1.0, 12.0, 1))
    dead = Database(dying(keyed.lakehouse, after))
    with pytest.raises(Killed):
        dead.revert("b")

    if then == "load":
        assert keyed.load("b", (1, 1.0, 11.0, 1), (3, 1.0, 30.0, 0))
        keyed.revert("b")
    else:
        keyed.recover()

    assert keyed.rows() == [(1, 1.0, 12.0, 1), (2, 1.0, 20.0, 0)]
    assert (keyed.rows(KNOWN), keyed.aside()) == ([], 0)
    # "b" came again after "c" and replaced it: its copy stays, and says what the table says.
    assert set(keyed.rows(REPLACED)) - set(keyed.rows()) == {(1, 1.0, 10.0, 1)}
    assert sorted(batch.source for batch in batches(keyed.lakehouse)) == ["a", "c"]


@dataclass
class Model:
    """What the table must hold, in plain Python: rows and labels of the batches that are in, newest arrival last."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    labels: dict[str, list[Label]] = field(default_factory=dict)

    def table(self) -> list[Row]:
        last: dict[int, tuple[tuple[float, int, int], Row]] = {}
        for arrived, batch in enumerate(self.rows.values()):
            for number, row in enumerate(batch):
                order = (row[1], arrived, number)
                if row[0] not in last or order > last[row[0]][0]:
                    last[row[0]] = (order, row)
        said: dict[int, tuple[tuple[float, int, int], int]] = {}
        for arrived, named in enumerate(self.labels.values()):
            for number, (key, label, known_at) in enumerate(named):
                if key not in said or (known_at, arrived, number) > said[key][0]:
                    said[key] = ((known_at, arrived, number), label)
        rows = [row for _, row in last.values()]
        return sorted((key, at, amount, said[key][1] if key in said else own) for key, at, amount, own in rows)


KEYS = 20
MOMENTS = st.integers(0, 3).map(float)
ROWS = st.lists(
    st.tuples(st.integers(1, KEYS), MOMENTS, st.integers(0, 2).map(float), st.integers(0, 1)), min_size=5, max_size=30
)
NAMED = st.lists(st.tuples(st.integers(1, KEYS), st.integers(0, 1), MOMENTS), min_size=1, max_size=10)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), ROWS),
        st.tuples(st.just("label"), NAMED),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("revert"), st.sets(st.integers(0, 9), min_size=1, max_size=2)),
    ),
    min_size=4,
    max_size=7,
)


@pytest.mark.proof  # about 200 histories of keys: ten of the table, each with 20 keys
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(first=ROWS, steps=STEPS)
def test_random_histories_end_in_what_a_plain_model_says(
    new_lakehouse: Callable[[], Lakehouse], first: list[Row], steps: list[tuple[str, Any]]
):
    database, model = Database(new_lakehouse(), LATE), Model()
    brought: list[tuple[str, str, list[Any]]] = []  # what came, in the order of its first arrival

    def bring(kind: str, name: str, content: list[Any]) -> None:
        there = model.rows if kind == "load" else model.labels
        if kind == "load":
            assert database.load(name, *content) is (name not in there)
        else:
            database.label(name, *content)
        there.setdefault(name, content)

    for number, (kind, given_) in enumerate([("load", first), *steps]):
        if kind in ("load", "label"):
            brought.append((kind, f"{kind}{number}", given_))
            bring(*brought[-1])
        elif kind == "again":  # a redelivery: known while it is in, and new after it was reverted
            bring(*brought[given_ % len(brought)])
        else:
            names = {brought[chosen_ % len(brought)][1] for chosen_ in given_}
            names &= model.rows.keys() | model.labels.keys()
            if names:
                database.revert(*sorted(names))
                for name in names:
                    model.rows.pop(name, None)
                    model.labels.pop(name, None)
    database.recover()
    assert database.rows() == model.table()
