"""The three tables as one: last writes, replays, and what is left when a process ends between two commits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.staging import stage_load
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse import quarantine_table, transaction_tables
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import (
    MANIFEST,
    QUARANTINED,
    RAW,
    Snapshot,
    in_quarantine,
    quarantined_rows,
)
from mlops_assets.lakehouse.transactions import Outcome, TransactionStore
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.lakehouse.dying import Killed, Kind, dying

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet
    from pyspark.sql import DataFrame, SparkSession

PLAIN = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="double"),
        Column(name="amount", type="double", min=0, max=100),
        Column(name="fraud", type="long"),
    ),
    features=("amount",),
    target="fraud",
    event_time="at",
    ordered=False,
    max_bad_share=1.0,
)
KEYED = PLAIN.model_copy(update={"key": "id"})
Row = tuple[int, float, str, int]


@dataclass
class Listed:
    """A source whose batches are given: content by name."""

    contents: dict[str, list[Row]]

    def batches(self) -> Iterator[SourceBatch]:
        for name, rows in self.contents.items():
            columns = {
                column: pa.array([str(row[position]) for row in rows], pa.string())
                for position, column in enumerate(("id", "at", "amount", "fraud"))
            }
            # Equal rows are equal content, whatever the name.
            yield SourceBatch(name, f"hash of {rows}", pa.table(columns))


@dataclass
class Database:
    """A database under test."""

    lakehouse: Lakehouse
    contract: Contract = KEYED
    left: list[str] = field(default_factory=list)

    def store(self) -> TransactionStore:
        return TransactionStore(self.lakehouse, self.contract, "run")

    def load(self, **contents: list[Row]) -> Outcome:
        """Load, as the asset does it."""
        store = self.store()
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            snapshot = store.recover(folder)
            load = stage_load(Listed(contents), self.contract, folder, snapshot.recorded)
            assert load.errors == []
            return store.commit(snapshot, load, folder) if load.records else Outcome(snapshot)

    def replay(self) -> Outcome:
        store = self.store()
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            return store.replay(store.recover(folder), folder)

    def raw(self) -> list[Row]:
        table = self.lakehouse.current(RAW)
        if table is None:
            return []
        rows = self.lakehouse.read(RAW, table.version).select("id", "at", "amount", "fraud").collect()
        return sorted((row[0], row[1], str(row[2]), row[3]) for row in rows)

    def aside(self) -> list[tuple[int, list[str]]]:
        store = self.store()
        snapshot = store.snapshot()
        rows = quarantined_rows(self.lakehouse, snapshot, 1_000).to_pylist()
        assert store.totals(Outcome(snapshot)).quarantined == len(rows), "what is counted is what a reader sees"
        return sorted((int(dict(row["original"])["id"]), row["reasons"]) for row in rows)

    def version(self, name: str) -> int:
        table = self.lakehouse.current(name)
        return -1 if table is None else table.version


@pytest.fixture
def keyed(lakehouse: Lakehouse) -> Database:
    return Database(lakehouse)


@pytest.fixture
def plain(lakehouse: Lakehouse) -> Database:
    return Database(lakehouse, PLAIN)


def counts(outcome: Outcome) -> tuple[int, int, int]:
    assert outcome.accepted == sum(record.accepted for record in outcome.records)
    assert outcome.known == sum(record.already_known for record in outcome.records)
    for record in outcome.records:
        assert record.rows == record.accepted + record.quarantined + record.already_known
    return outcome.accepted, outcome.quarantined, outcome.known


def test_the_last_write_of_a_key_stands_in_the_table_whatever_order_files_come_in(keyed: Database):
    assert counts(keyed.load(b=[(1, 5.0, "5.0", 0), (2, 5.0, "5.0", 1), (2, 4.0, "4.0", 1)])) == (2, 0, 1)

    # 1 is earlier than what is there, 2 is later, 3 is new.
    late = keyed.load(a=[(1, 1.0, "1.0", 0), (2, 9.0, "9.0", 1), (3, 1.0, "1.0", 0)])

    assert counts(late) == (2, 0, 1)
    assert keyed.raw() == [(1, 5.0, "5.0", 0), (2, 9.0, "9.0", 1), (3, 1.0, "1.0", 0)]
    assert keyed.version(RAW) == 1
    assert keyed.lakehouse.read(RAW, 0).count() == 2, "history is kept"


def test_on_equal_event_times_the_row_that_came_later_wins_and_an_equal_row_changes_nothing(keyed: Database):
    keyed.load(a=[(1, 1.0, "1.0", 0), (2, 1.0, "1.0", 0)])

    corrected = keyed.load(b=[(1, 1.0, "1.0", 1), (2, 1.0, "1.0", 0)])

    assert counts(corrected) == (1, 0, 1)
    assert keyed.raw() == [(1, 1.0, "1.0", 1), (2, 1.0, "1.0", 0)]


def test_files_of_one_load_overlap_like_files_of_several(keyed: Database):
    outcome = keyed.load(a=[(1, 1.0, "1.0", 0), (2, 3.0, "3.0", 1)], b=[(1, 1.0, "2.0", 0), (2, 2.0, "2.0", 1)])

    assert counts(outcome) == (2, 0, 2)
    assert [(record.source, record.accepted) for record in outcome.records] == [("a", 1), ("b", 1)]
    assert keyed.raw() == [(1, 1.0, "2.0", 0), (2, 3.0, "3.0", 1)]


@pytest.mark.proof  # several loads
def test_a_batch_whose_rows_were_all_replaced_is_still_known(keyed: Database):
    """Its id stands in no row of the table any more."""
    first: list[Row] = [(1, 1.0, "1.0", 0)]
    second: list[Row] = [(1, 1.0, "2.0", 1), (2, 1.0, "2.0", 0)]
    keyed.load(a=first)
    keyed.load(b=second)

    again = keyed.load(renamed=first)

    assert again.records == ()
    assert keyed.raw() == second


def test_a_load_of_nothing_but_known_rows_leaves_the_raw_table_and_is_on_record(keyed: Database):
    keyed.load(a=[(1, 1.0, "1.0", 0), (2, 1.0, "1.0", 1)])

    assert counts(keyed.load(b=[(1, 1.0, "1.0", 0)])) == (0, 0, 1)

    assert keyed.version(RAW) == 0
    assert keyed.load(b=[(1, 1.0, "1.0", 0)]).records == ()


def test_without_a_key_rows_are_appended_once_a_batch(plain: Database):
    assert counts(plain.load(a=[(1, 1.0, "1.0", 0)], b=[(1, 1.0, "1.0", 0), (2, 2.0, "x", 0)])) == (2, 1, 0)

    assert plain.load(c=[(1, 1.0, "1.0", 0)]).records == ()
    assert plain.raw() == [(1, 1.0, "1.0", 0)] * 2
    assert plain.aside() == [(2, ["unreadable:amount"])]


def fixed(contract: Contract) -> Contract:
    """Return version 2, which accepts amounts up to 1,000."""
    columns = tuple(c.model_copy(update={"max": 1_000}) if c.name == "amount" else c for c in contract.columns)
    return contract.model_copy(update={"version": 2, "columns": columns})


@pytest.fixture(params=[quarantine_table.FEW_ROWS, 1], ids=["in one process", "on executors"])
def in_both_forms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Replays of more rows are tried on executors, in files with so many rows."""
    monkeypatch.setattr(quarantine_table, "FEW_ROWS", request.param)


@pytest.mark.usefixtures("in_both_forms")
def test_a_replay_takes_what_is_good_by_now_and_leaves_the_rest(plain: Database):
    plain.load(a=[(1, 1.0, "1.0", 0), (2, 2.0, "200", 1), (3, 3.0, "x", 0)])
    assert counts(plain.replay()) == (0, 2, 0)
    plain.contract = fixed(PLAIN)

    done = plain.replay()

    assert counts(done) == (1, 1, 0)
    assert plain.raw() == [(1, 1.0, "1.0", 0), (2, 2.0, "200.0", 1)]
    assert plain.aside() == [(3, ["unreadable:amount"])]
    (row,) = plain.lakehouse.read(RAW, plain.version(RAW)).where("id = 2").collect()
    assert (row["_source"], row["_row_number"]) == ("a", 1)
    assert counts(plain.replay()) == (0, 1, 0)
    assert plain.raw() == [(1, 1.0, "1.0", 0), (2, 2.0, "200.0", 1)]


@pytest.mark.proof  # several loads and a replay
@pytest.mark.usefixtures("in_both_forms")
def test_a_replayed_row_is_no_later_write_than_one_that_came_after_it(keyed: Database):
    keyed.load(a=[(1, 1.0, "200", 0), (2, 1.0, "200", 0), (3, 1.0, "300", 1)])
    keyed.load(b=[(1, 1.0, "1.0", 0), (2, 0.5, "1.0", 0)])
    keyed.contract = fixed(KEYED)

    done = keyed.replay()

    assert counts(done) == (2, 0, 1)
    assert keyed.raw() == [(1, 1.0, "1.0", 0), (2, 1.0, "200.0", 0), (3, 1.0, "300.0", 1)]
    assert keyed.aside() == []


@pytest.mark.usefixtures("in_both_forms")
def test_a_replay_that_does_not_meet_all_rows_changes_nothing(plain: Database, monkeypatch: pytest.MonkeyPatch):
    plain.load(a=[(1, 1.0, "1.0", 0), (2, 2.0, "200", 1), (3, 3.0, "x", 0)])
    plain.contract = fixed(PLAIN)
    before = plain.version(RAW), plain.version(QUARANTINED)

    def first(lakehouse: Lakehouse, snapshot: Snapshot) -> DataFrame:
        return in_quarantine(lakehouse, snapshot).where("_row_number = 1")

    for module in (quarantine_table, transaction_tables):
        monkeypatch.setattr(module, "in_quarantine", first)

    with pytest.raises(StorageError, match=r"2 rows are in quarantine, and 1 were tried again.*Fix: run again"):
        plain.replay()

    assert (plain.version(RAW), plain.version(QUARANTINED)) == before


# Processes that end between two commits.


def every_combination(*axes: Mapping[str, Any], soon: set[str]) -> list[ParameterSet]:
    """Return the cases of all combinations; those that aren't in `soon` (named by their ids) are long proofs."""
    cases = [(", ".join(names), names) for names in itertools.product(*axes)]
    assert soon <= {case for case, _ in cases}
    return [
        pytest.param(
            *(axis[name] for axis, name in zip(axes, names, strict=True)),
            id=case,
            marks=() if case in soon else pytest.mark.proof,
        )
        for case, names in cases
    ]


# The first of them is good, the second and the third are set aside for one reason each.
FIRST: list[Row] = [(1, 1.0, "1.0", 0), (2, 2.0, "200", 1)]
UNREADABLE: Row = (3, 3.0, "x", 0)
SECOND: list[Row] = [(1, 1.0, "3.0", 0), (4, 4.0, "4.0", 0), (5, 5.0, "x", 0)]


@pytest.fixture(scope="module")
def begun_once(new_lakehouse: Callable[[], Lakehouse]) -> Callable[[Contract], Lakehouse]:
    """Return the tables after a load of `FIRST` and `UNREADABLE`; each contract's are made once."""

    @cache
    def made(keyed: bool) -> Lakehouse:
        lakehouse = new_lakehouse()
        Database(lakehouse, KEYED if keyed else PLAIN).load(first=[*FIRST, UNREADABLE])
        return lakehouse

    return lambda contract: made(contract.key is not None)


KILLED_LOADS = every_combination(
    {"quarantined": QUARANTINED, "accepted": RAW, "on record": MANIFEST},
    {"without a key": PLAIN, "with a key": KEYED},
    soon={"accepted, with a key"},
)


@pytest.mark.parametrize(("killed_at", "contract"), KILLED_LOADS)
def test_a_load_that_is_killed_after_any_commit_neither_loses_nor_doubles_a_row(
    lakehouse: Lakehouse, begun_once: Callable[[Contract], Lakehouse], contract: Contract, killed_at: str
):
    database = Database(copy_tables(begun_once(contract), lakehouse), contract)
    killed = Database(dying(lakehouse, lambda name, *_: name == killed_at), contract)

    with pytest.raises(Killed):
        killed.load(second=SECOND)

    # What a reader sees at once: all of the load, or nothing.
    one = [(1, 1.0, "1.0", 0)] if contract is PLAIN else []
    all_in = sorted([*one, (1, 1.0, "3.0", 0), (4, 4.0, "4.0", 0)])
    nothing = killed_at == QUARANTINED
    assert database.raw() == ([(1, 1.0, "1.0", 0)] if nothing else all_in)
    before = [(2, ["out_of_range:amount"]), (3, ["unreadable:amount"])]
    assert database.aside() == [*before, *([] if nothing else [(5, ["unreadable:amount"])])]

    database.load(second=SECOND, third=[(6, 6.0, "6.0", 0)])

    assert database.raw() == sorted([*all_in, (6, 6.0, "6.0", 0)])
    assert database.aside() == [*before, (5, ["unreadable:amount"])]
    rows = lakehouse.read(MANIFEST, database.version(MANIFEST)).where("kind = 'load'").collect()
    assert sorted((row["source"], row["rows"], row["quarantined"]) for row in rows) == [
        ("first", 3, 2),
        ("second", 3, 1),
        ("third", 1, 0),
    ]


def test_rows_of_a_killed_load_that_comes_again_under_a_mended_contract_are_not_in_both_tables(lakehouse: Lakehouse):
    database = Database(lakehouse, PLAIN)
    database.load(first=[(9, 9.0, "9.0", 0)])
    with pytest.raises(Killed):
        Database(dying(lakehouse, lambda name, *_: name == QUARANTINED), PLAIN).load(second=FIRST)
    database.contract = fixed(PLAIN)

    database.load(second=FIRST)

    assert database.raw() == [(1, 1.0, "1.0", 0), (2, 2.0, "200.0", 1), (9, 9.0, "9.0", 0)]
    assert database.aside() == []
    assert lakehouse.read(QUARANTINED, database.version(QUARANTINED)).count() == 0


REPLAY_STEPS: dict[str, Kind] = {
    "marked": lambda name, _, metadata: name == QUARANTINED and bool(metadata["replays"]),
    "merged": lambda name, *_: name == RAW,
    "on record": lambda name, *_: name == MANIFEST,
    "forgotten": lambda name, _, metadata: name == QUARANTINED and not metadata["replays"],
}


KILLED_REPLAYS = every_combination(
    {step: step for step in REPLAY_STEPS},
    {"without a key": PLAIN, "with a key": KEYED},
    {"then a load": "load", "then a replay": "replay"},
    soon=set(),
)


@pytest.mark.parametrize(("killed_at", "contract", "then"), KILLED_REPLAYS)
def test_a_replay_that_is_killed_after_any_commit_neither_loses_nor_doubles_a_row(
    lakehouse: Lakehouse,
    begun_once: Callable[[Contract], Lakehouse],
    contract: Contract,
    killed_at: str,
    then: str,
):
    """The row that is replayed has a later rival in the meantime: a second try must not bring it back."""
    database = Database(copy_tables(begun_once(contract), lakehouse), fixed(contract))
    killed = Database(dying(lakehouse, REPLAY_STEPS[killed_at]), database.contract)

    with pytest.raises(Killed):
        killed.replay()

    replayed = [] if killed_at == "marked" else [(2, 2.0, "200.0", 1)]
    assert database.raw() == [(1, 1.0, "1.0", 0), *replayed]
    assert [number for number, _ in database.aside()] == ([2, 3] if not replayed else [3])
    assert all(reasons for _, reasons in database.aside())

    rival: list[Row] = [(2, 2.0, "7.0", 1)]
    if then == "load":
        database.load(second=rival)
    database.replay()

    winner = rival if then == "load" and contract is KEYED else [(2, 2.0, "200.0", 1)]
    both = rival if then == "load" and contract is PLAIN else []
    assert database.raw() == sorted([(1, 1.0, "1.0", 0), *winner, *both])
    assert database.aside() == [(3, ["unreadable:amount"])]


# The contract.


def test_a_table_follows_its_contract_by_version_only(keyed: Database):
    keyed.load(a=FIRST)
    shop = Column(name="shop", type="string", nullable=True)
    keyed.contract = KEYED.model_copy(update={"columns": (*KEYED.columns, shop)})

    with pytest.raises(ContractError, match="its version is still 1: shop: new, nullable"):
        keyed.load(b=SECOND)

    keyed.contract = keyed.contract.model_copy(update={"version": 2})
    with keyed.lakehouse.staging(RAW) as folder:
        keyed.store().recover(folder)
    assert keyed.lakehouse.read(RAW, keyed.version(RAW)).columns[-1] == "shop"
    assert keyed.raw() == [(1, 1.0, "1.0", 0)]
    keyed.contract = KEYED
    with pytest.raises(ContractError, match="written under version 2 of the contract, this is 1"):
        keyed.load(b=SECOND)


@pytest.mark.proof  # several loads
def test_a_table_from_before_the_manifest_is_taken_over(plain: Database):
    plain.load(a=FIRST[:1])
    for path in sorted(Path(plain.lakehouse.location(MANIFEST)).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    rows = plain.lakehouse.read(RAW, 0)
    Path(plain.lakehouse.location(MANIFEST)).rmdir()
    plain.lakehouse.replace(RAW, rows, base=plain.lakehouse.current(RAW), metadata={"contract": "by an older release"})

    plain.load(a=FIRST[:1], b=SECOND)

    assert plain.raw() == [(1, 1.0, "1.0", 0), (1, 1.0, "3.0", 0), (4, 4.0, "4.0", 0)]


def test_a_table_of_an_unknown_contract_gets_no_columns_by_accident(plain: Database, spark: SparkSession):
    rows = spark.createDataFrame(
        [(1, 1.0, 0, "hash", "a")], "id long, at double, fraud long, _batch_id string, _source string"
    )
    plain.lakehouse.append(RAW, rows, base=None, metadata={})

    with pytest.raises(ContractError, match="the table has no columns amount, and nothing records the contract"):
        plain.load(a=FIRST)
