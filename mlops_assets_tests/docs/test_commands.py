"""The commands of the pages, run one after another by a reader who starts with nothing but the checkout."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_assets_tests.docs.pages import PAGES, README, Block, blocks_of, name_of
from mlops_assets_tests.docs.reader import Reader

RUNNING = [page for page in PAGES if any(block.runs for block in blocks_of(page))]
# Each of these commands starts a Spark session, or several.
_STARTS_SPARK = re.compile(r"make demo|pytest")
SLOW = [page for page in RUNNING if any(_STARTS_SPARK.search(block.command) for block in blocks_of(page) if block.runs)]


@pytest.fixture
def reader(tmp_path: Path, shared_home: Path) -> Reader:
    return Reader.sit_down(tmp_path / "checkout", shared_home / "jars")


def own_files(folder: Path) -> None:
    """Write the files that the README's reader has: what `my_contract.yaml` describes."""
    draw, count = np.random.default_rng(5), 9_000
    fraud = draw.random(count) < 0.03
    seconds = np.sort(draw.uniform(0, 60 * 86_400, count))
    table = pd.DataFrame(
        {
            "happened_at": pd.Timestamp("2026-01-01") + pd.to_timedelta(seconds, unit="s").round("us"),
            "amount": draw.lognormal(np.where(fraud, 4.5, 3.0), 1.0),
            "n_last_day": draw.poisson(np.where(fraud, 6, 2)).astype(float),
            "merchant_risk": np.where(draw.random(count) < 0.1, np.nan, draw.beta(2, 8, count)),
            "is_fraud": fraud.astype(int),
        }
    )
    (folder / "transactions").mkdir()
    table.to_parquet(folder / "transactions" / "all.parquet", index=False)


BEFORE: dict[Path, Callable[[Path], None]] = {README: own_files}


def follow(reader: Reader, page: Path) -> None:
    if page in BEFORE:
        BEFORE[page](reader.folder)
    for block in blocks_of(page):
        reader.follow(block)


@pytest.mark.parametrize("page", [page for page in RUNNING if page not in SLOW], ids=name_of)
def test_the_quick_commands_of_a_page_run(reader: Reader, page: Path):
    follow(reader, page)


@pytest.mark.proof
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("page", SLOW, ids=name_of)
def test_the_commands_of_a_page_run(reader: Reader, page: Path):
    follow(reader, page)


def test_readme_and_tutorial_are_among_them():
    assert {"README.md", "docs/tutorial/first-model.md"} <= {name_of(page) for page in SLOW}


def test_a_command_that_fails_fails_the_test(reader: Reader):
    with pytest.raises(AssertionError, match=r"page.md:1 ended with 3:\n"):
        reader.follow(Block("page.md", 1, "shell", "true\n(exit 3)\ntrue\n"))
    with pytest.raises(AssertionError, match=r"ended with 1:"):
        reader.follow(Block("page.md", 1, "python", "raise ValueError\n"))


def test_a_command_that_should_fail_must_do_so_as_the_page_says(reader: Reader):
    said = reader.follow(Block("page.md", 1, "shell", "echo no such file; exit 2\n", "fails", "no such file"))

    assert said == "no such file\n"
    with pytest.raises(AssertionError):
        reader.follow(Block("page.md", 1, "shell", "echo no such file\n", "fails", "no such file"))
    with pytest.raises(AssertionError):
        reader.follow(Block("page.md", 1, "shell", "echo another reason; exit 2\n", "fails", "no such file"))


def test_a_reader_has_a_home_of_their_own_and_make_sets_nothing_up(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_SOURCE", "from above")
    commands = '$ echo "$MLOPS_HOME ${MLOPS_SOURCE-unset}"\nnot a command\n$ make -n doctor\n'

    home, *made = reader.follow(Block("page.md", 1, "console", commands)).splitlines()

    assert home == f"{reader.folder / '.mlops'} unset"
    assert len(made) == 1
    assert "doctor" in made[0]
    assert os.environ["MLOPS_SOURCE"] == "from above"
