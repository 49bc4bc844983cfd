"""Every kind of file of a table, damaged in every way: what follows is right, or one error; never other rows.

Verification says beforehand what is wrong, whatever a run makes of it: one that doesn't read a file is not harmed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import MANIFEST, QUARANTINED, RAW, REPLACED
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.damage.homes import (
    NEXT,
    Damage,
    content,
    delete,
    exchange,
    files,
    filled,
    flip,
    is_clear,
    needed,
    outcome,
    truncate,
)
from mlops_assets_tests.lakehouse.test_reverting import Database

KINDS: dict[str, str] = {
    "data": "*.parquet",
    "log": "_delta_log/*.json",
    "checkpoint": "_delta_log/*.checkpoint.parquet",
    "last checkpoint": "_delta_log/_last_checkpoint",
    "version checksum": "_delta_log/0*.crc",
    "checksum of data": ".*.parquet.crc",
    "checksum of log": "_delta_log/.*.json.crc",
}
# Without a checksum there is less to compare with. A checkpoint is missed because `_last_checkpoint` names it.
UNMISSED = {"checksum of data", "checksum of log", "last checkpoint", "version checksum"}
LIKE = {RAW: REPLACED, REPLACED: RAW, QUARANTINED: MANIFEST, MANIFEST: QUARANTINED}


@pytest.fixture(scope="module")
def filled_once(new_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    return filled(new_lakehouse())


@pytest.fixture(scope="module")
def twin(filled_once: Lakehouse, new_lakehouse: Callable[[], Lakehouse]) -> dict[str, object]:
    """What the next load leaves where nothing is damaged."""
    return dict(next_load(Database(copy_tables(filled_once, new_lakehouse()))))


def next_load(database: Database) -> dict[str, list[tuple[object, ...]]]:
    assert database.load("next", *NEXT)
    return content(database)


def older(path: Path, other: Path) -> None:
    exchange(path, other)


# A small table has one checkpoint at most.
CASES = [
    (kind, damage)
    for kind in KINDS
    for damage in (delete, truncate, flip, older, exchange)
    if damage is not older or "checkpoint" not in kind
]


@pytest.mark.proof  # 132 damages of a small home, each with a load
@pytest.mark.parametrize("table", LIKE)
@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_damaged_file_is_found_and_never_read_as_other_rows(
    lakehouse: Lakehouse,
    filled_once: Lakehouse,
    twin: dict[str, object],
    table: str,
    kind: str,
    damage: Damage,
):
    database = Database(copy_tables(filled_once, lakehouse))
    pattern = KINDS[kind]
    of_kind = files(database, table, pattern)
    path = of_kind[-1]
    if kind in ("data", "checksum of data"):
        data = sorted(needed(database, table))[-1]
        path = data if kind == "data" else data.with_name(f".{data.name}.crc")
    before = [p for p in of_kind if p.read_bytes() != path.read_bytes()]
    others = [p for p in files(database, LIKE[table], pattern) if p.read_bytes() != path.read_bytes()]
    assert before or damage is not older
    assert others or damage is not exchange

    damage(path, before[0] if damage is older else others[-1] if others else path)

    found, said, error = outcome(database, next_load)
    unmissed = damage is delete and kind in UNMISSED
    assert bool(said) is not unmissed, said
    if error is None:
        assert found == twin
    else:
        assert is_clear(error), f"{type(error)}: {str(error)[:600]}"


@pytest.mark.proof  # a load
@pytest.mark.parametrize("leftover", ["lock", "staging", "temporary"])
def test_what_a_killed_run_leaves_beside_the_tables_does_no_harm(
    lakehouse: Lakehouse, filled_once: Lakehouse, twin: dict[str, object], leftover: str
):
    database = Database(copy_tables(filled_once, lakehouse))
    folder = Path(database.lakehouse.location(RAW))
    paths = {
        "lock": Path(database.lakehouse.locks) / f"{Path(database.lakehouse.root).name}.{RAW}.lock",
        "staging": Path(database.lakehouse.root) / "_staging" / RAW / "old" / "good" / "00000.parquet",
        "temporary": folder / "_delta_log" / f".{99:020d}.json.0f.tmp",
    }
    path = paths[leftover]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0garbage")

    found, said, error = outcome(database, next_load)

    assert (found, said, error) == (twin, "", None)
