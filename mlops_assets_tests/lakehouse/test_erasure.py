"""A card leaves every table and every file; the others stay, and the tables go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.staging import stage_load
from mlops_assets.data.splits.split import SplitSpec
from mlops_assets.diagnostics.consistency import verify_tables
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse.erasure import Eraser
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.maintenance import maintain_tables
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lakehouse.split_sets import SET_TABLES, SplitRequest, split_tables
from mlops_assets.lakehouse.transaction_tables import KNOWN, MANIFEST, QUARANTINED, RAW, REPLACED
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.lakehouse.dying import Killed, Kind, dying
from mlops_assets_tests.lakehouse.test_reverting import LATE, Database, Listed

CARDS = LATE.model_copy(
    update={
        "columns": (*LATE.columns, Column(name="card", type="string")),
        "entity": "card",
    }
)
ERASED = "card-0000-1111"
OTHERS = [f"card-{n:04d}-2222" for n in range(9)]
COLUMNS = ("id", "at", "amount", "fraud", "card")


class Cards(Database):
    """Tables whose rows have a card."""

    def load(self, name: str, *rows: tuple[object, ...]) -> bool:
        store = self.store()
        with self.lakehouse.exclusive(RAW), self.lakehouse.staging(RAW) as folder:
            snapshot = store.recover(folder)
            staged = stage_load(Listed(name, COLUMNS, rows), self.contract, folder, snapshot.recorded)
            assert staged.errors == []
            if staged.records:
                assert not store.commit(snapshot, staged, folder).refused
            return bool(staged.records)

    def eraser(self, *cards: str, contract: Contract | None = None) -> Eraser:
        store = self.store()
        return Eraser(store if contract is None else type(store)(self.lakehouse, contract), cards or (ERASED,))

    def cards(self, table: str) -> set[str]:
        newest = self.lakehouse.require(table, made_by="test")
        return {row[0] for row in self.lakehouse.read(table, newest.version).select("card").distinct().collect()}


def rows(first: int, count: int, at: float) -> list[tuple[object, ...]]:
    """Rows of many cards, and one of the card that is erased."""
    found: list[tuple[object, ...]] = [
        (n, at + n / 100, float(n), n % 2, OTHERS[n % len(OTHERS)]) for n in range(first, first + count)
    ]
    return [*found, (first + count, at, 5.0, 1, ERASED)]


@pytest.fixture(scope="module")
def filled_once(new_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    database = Cards(new_lakehouse(), CARDS)
    database.load("a", *rows(0, 30, 1.0), (90, 1.0, -1.0, 0, ERASED), (91, 1.0, -1.0, 0, OTHERS[0]))
    database.label("yes", (30, 1, 5.0), (3, 1, 5.0))
    # Its row of "a" is replaced, an older one loses against it, and another card's as well.
    database.load("b", *rows(100, 30, 2.0), (30, 2.0, 6.0, 0, ERASED), (3, 3.0, 1.0, 0, OTHERS[3]))
    database.load("late", (30, 0.5, 7.0, 0, ERASED), (3, 0.5, 1.0, 0, OTHERS[3]))
    spec = SplitSpec(validation_fraction=0.2, test_fraction=0.2)
    report = split_tables(database.lakehouse, CARDS, SplitRequest(spec, min_rows=1), dagster_run="run")
    assert report.tables, [str(outcome) for outcome in report.outcomes]
    newest = database.lakehouse.require(RAW, made_by="test").version
    scores = database.lakehouse.read(RAW, newest).select(BATCH_ID, ROW_NUMBER, "id", "card", "amount")
    database.lakehouse.append(SCORES, scores, base=None, metadata={})
    return database.lakehouse


@pytest.fixture
def cards(lakehouse: Lakehouse, filled_once: Lakehouse) -> Cards:
    return Cards(copy_tables(filled_once, lakehouse), CARDS)


def errors(database: Database, *pins: Pin) -> list[str]:
    return [str(f) for f in verify_tables("m", database.lakehouse, lambda: pins) if f.level == "error"]


def text_in_files(folder: Path, text: str) -> list[str]:
    """Return the names of files that have the text in plain bytes: an outside look, which knows no format."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.proof  # some twenty commits and a vacuum of eight tables
def test_a_card_leaves_every_table_and_every_file(cards: Cards):
    root = Path(cards.lakehouse.root)
    before = cards.eraser().find()
    assert before.rows.keys() >= {RAW, QUARANTINED, REPLACED, KNOWN, SCORES, SET_TABLES["train"]}
    assert set(before.files) >= set(before.rows)
    assert set(before.sources) == {"a", "b", "late"}
    assert text_in_files(root, ERASED) != []
    assert cards.eraser().versions_used([0, 1]) == ([0, 1], [])
    others = {name: cards.cards(name) - {ERASED} for name in (RAW, REPLACED, SCORES)}
    untouched = cards.lakehouse.require(MANIFEST, made_by="test").version

    left = cards.eraser().erase()

    assert left.nothing, left
    assert cards.eraser().find().nothing
    assert text_in_files(root, ERASED) == []
    assert {name: cards.cards(name) for name in (RAW, REPLACED, SCORES)} == others
    assert cards.lakehouse.require(MANIFEST, made_by="test").version == untouched
    assert errors(cards, Pin(RAW, 0, "a model")) == [], "a pin to what was erased is no damage"
    with pytest.raises(StorageError, match="version 0 can't be read"):
        cards.lakehouse.read(RAW, 0)
    assert cards.eraser().versions_used([0]) == ([], [0])


@pytest.mark.proof  # an erasure, then a load, a revert, a split and upkeep
def test_the_tables_go_on_after_an_erasure(cards: Cards):
    cards.eraser().erase()

    assert not cards.load("b", *rows(100, 30, 2.0)), "what was loaded stays known"
    assert cards.load("c", *rows(200, 30, 3.0)[:-1])
    cards.label("more", (201, 1, 9.0))
    cards.recover()
    spec = SplitSpec(validation_fraction=0.2, test_fraction=0.2)
    assert split_tables(cards.lakehouse, CARDS, SplitRequest(spec, min_rows=1), dagster_run="run").tables
    cards.revert("c")
    assert cards.cards(RAW) <= set(OTHERS)
    report = maintain_tables(
        cards.lakehouse,
        [RAW, QUARANTINED, REPLACED],
        lambda: [Pin(RAW, 0, "a model of before")],
        0,
        locks=(RAW,),
        wait_seconds=1,
        log=lambda _: None,
    )
    assert len(report.tables) == 3
    assert errors(cards) == []


@pytest.mark.proof  # an erasure each
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(lambda name, *_: name == QUARANTINED, id="quarantine"),
        pytest.param(lambda name, *_: name == SET_TABLES["test"], id="sets"),
        pytest.param(lambda name, *_: name == RAW, id="raw"),
    ],
)
def test_an_erasure_that_is_killed_is_finished_by_the_next(cards: Cards, after: Kind):
    with pytest.raises(Killed):
        Cards(dying(cards.lakehouse, after), CARDS).eraser().erase()

    assert cards.eraser().erase().nothing
    assert text_in_files(Path(cards.lakehouse.root), ERASED) == []


def test_what_can_not_be_erased_is_refused(cards: Cards):
    numbered = CARDS.model_copy(update={"entity": "id", "key": None, "labels": None})
    with pytest.raises(ContractError, match="the contract names no entity"):
        cards.eraser(contract=CARDS.model_copy(update={"entity": None}))
    with pytest.raises(ContractError, match="seven is no id, which is a long"):
        cards.eraser("seven", contract=numbered)
    with pytest.raises(ContractError, match="an empty value is no card"):
        cards.eraser("")
    assert cards.eraser("card-of-nobody").find().nothing
    assert cards.lakehouse.read(RAW, 0).select(BATCH_ID).count() > 0
