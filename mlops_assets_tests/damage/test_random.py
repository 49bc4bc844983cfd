"""A hundred random damages of a small home, each from a seed, some after a load that was killed.

Whatever was damaged, the next load ends as on an undamaged twin, or in one error that names the file and the fix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.damage.homes import NEXT, content, filled, flip_at, is_clear, outcome
from mlops_assets_tests.lakehouse.dying import Killed, dying
from mlops_assets_tests.lakehouse.test_reverting import Database

SEEDS = 100
WAYS = ("delete", "cut", "flip", "flips", "zeros", "exchange", "grow")


@pytest.fixture(scope="module")
def filled_once(new_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    return filled(new_lakehouse())


def next_load(database: Database) -> dict[str, list[tuple[object, ...]]]:
    database.load("next", *NEXT)  # no news if a killed load had got so far
    return content(database)


def damaged(home: Path, seed: int) -> str:
    """Damage a file that the seed chooses, in a way that it chooses."""
    chance = np.random.default_rng(seed)
    files = sorted(
        path for path in home.rglob("*") if path.is_file() and path.stat().st_size and "_staging" not in path.parts
    )
    path = files[chance.integers(len(files))]
    way = WAYS[chance.integers(len(WAYS))]
    size = path.stat().st_size
    if way == "delete":
        path.unlink()
    elif way == "cut":
        path.write_bytes(path.read_bytes()[: int(chance.integers(size))])
    elif way in ("flip", "flips"):
        for _ in range(1 if way == "flip" else 20):
            flip_at(path, int(chance.integers(size)), int(chance.integers(8)))
    elif way == "zeros":
        start = int(chance.integers(size))
        held = path.read_bytes()
        path.write_bytes(held[:start] + bytes(min(512, size - start)) + held[start + 512 :])
    elif way == "exchange":
        like = [p for p in files if p.suffix == path.suffix]
        path.write_bytes(like[chance.integers(len(like))].read_bytes())
    else:
        path.write_bytes(path.read_bytes() + chance.bytes(int(chance.integers(1, 600))))
    return f"{way} of {path.relative_to(home)}"


@pytest.mark.proof  # a hundred loads
@pytest.mark.timeout(1800)
def test_random_damages_and_kills_end_as_on_an_undamaged_twin_or_in_one_error(
    filled_once: Lakehouse, new_lakehouse: Callable[[], Lakehouse]
):
    twin = next_load(Database(copy_tables(filled_once, new_lakehouse())))
    refused = 0
    for seed in range(SEEDS):
        database = Database(copy_tables(filled_once, new_lakehouse()))
        chance = np.random.default_rng((seed, 1))
        if chance.random() < 1 / 3:
            last = int(chance.integers(1, 6))
            commits = iter(range(1, 100))
            dead = Database(dying(database.lakehouse, lambda *_, last=last, commits=commits: next(commits) == last))
            with contextlib.suppress(Killed):
                dead.load("next", *NEXT)
        what = damaged(Path(database.lakehouse.root), seed)

        found, said, error = outcome(database, next_load)

        if error is None:
            assert found == twin, f"seed {seed}: {what}"
        else:
            refused += 1
            assert said, f"seed {seed}: {what}: verify says ok, a load {error}"
            assert is_clear(error), f"seed {seed}: {what}: {type(error)}: {str(error)[:600]}"
    assert 0 < refused < SEEDS
