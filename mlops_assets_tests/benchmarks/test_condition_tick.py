from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.condition_tick import FACTS_RATIO, FORMER_RATIO, LOOK_RATIO, History
from mlops_assets.lineage import DELTA_VERSION

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run


def test_a_look_that_finds_something_due_is_no_measurement(tmp_path: Path):
    history = History(tmp_path / "home", 2)
    history.facts()

    history._record("raw_transactions", {DELTA_VERSION: 2}, "2-table")

    with pytest.raises(RuntimeError, match="not at rest"):
        history.facts()


@pytest.mark.proof  # a measurement
def test_make_bench(run: Run):
    document = run("condition_tick", "--loads", "3", "1", "--rounds", "2")

    assert set(document["ratios"]) == {LOOK_RATIO, FACTS_RATIO, FORMER_RATIO}
    assert set(document["details"]["seconds"]) == {
        f"{kind} {count}" for kind in ("look", "facts", "trained", "former") for count in (1, 3)
    }
