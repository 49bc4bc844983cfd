"""The process is killed between the commits of a load and of a replay: each row stays in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from deltalake import DeltaTable

from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.transaction_tables import quarantined_rows, take_snapshot
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import replaced
from mlops_assets_tests.processes.conftest import on_shared_spark
from mlops_assets_tests.processes.control import ANSWER_SECONDS, Worker, eventually, processes_of, worker
from mlops_assets_tests.processes.points import Point, Then
from mlops_assets_tests.processes.state import staged, table

RAW = "raw_transactions"
ROWS, BAD = 1_000, 7
JVM_SECONDS = 15.0


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files, each with amounts below zero in its first rows."""
    found = []
    for seed in (3, 4):
        rows = replaced(generate(rows=ROWS, days=2, fraud_rate=0.03, seed=seed), "amount", ["-1.00"] * BAD)
        found.append(tmp_path / f"{seed}.csv")
        pa_csv.write_csv(rows, found[-1])
    return found


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """A contract that takes amounts below zero."""
    contract = load_contract("creditcard")
    columns = tuple(c.model_copy(update={"min": -5.0}) if c.name == "amount" else c for c in contract.columns)
    path = tmp_path / "fixed" / "creditcard.yaml"
    path.parent.mkdir()
    path.write_text(contract.model_copy(update={"version": 2, "columns": columns, "amount": None}).to_yaml())
    return path


@pytest.fixture
def places(spark_resource: SparkResource) -> Callable[[Path, Path, Contract], tuple[set[str], set[str]]]:
    """Returns which rows of a file a reader sees in the raw table and in quarantine."""

    def snapshot(home: Path, file: Path, contract: Contract) -> tuple[set[str], set[str]]:
        settings = Settings(home=home, source=str(file))
        lakehouse = on_shared_spark(build_resources(settings)["lakehouse"], settings, spark_resource)
        found = []
        aside = quarantined_rows(lakehouse, take_snapshot(lakehouse, contract), 10**6)
        raw = table(home, RAW).rows() if table(home, RAW).exists else aside.slice(0, 0)
        for rows in (raw, aside):
            mine = rows.filter(pa.compute.equal(rows.column("_source"), str(file))).column("_row_number").to_pylist()
            assert len(mine) == len(set(mine)), "a row is there twice"
            found.append({str(number) for number in mine})
        return found[0], found[1]

    return snapshot


@pytest.fixture
def spare(tmp_path: Path) -> Iterator[list[Worker]]:
    """Processes that are started at once, so that they import their libraries side by side."""
    with ExitStack() as started:
        yield [started.enter_context(worker(tmp_path / f"{number}.log")) for number in range(5)]


@pytest.mark.proof  # two minutes of processes that are started and killed
@pytest.mark.timeout(6 * ANSWER_SECONDS)
def test_killed_between_any_two_commits_each_row_is_in_one_place(
    files: list[Path],
    fixed: Path,
    new_home: Callable[[], Path],
    places: Callable[[Path, Path, Contract], tuple[set[str], set[str]]],
    spare: list[Worker],
):
    home, (first, second) = new_home(), files
    before, after = load_contract("creditcard"), load_contract(str(fixed))
    good, bad = {str(n) for n in range(BAD, ROWS)}, {str(n) for n in range(BAD)}

    def kill_at(point: Point, source: Path, contract: Path | None = None, *, replay: bool = False) -> None:
        process = spare.pop()
        process.begin(home, source, RAW, stop_at=point, then=Then.DIE_WITH_ALL, contract=contract, replay=replay)
        process.wait_killed()
        eventually(lambda: not processes_of(home), JVM_SECONDS, "the JVM goes when its process is gone")

    kill_at(Point.QUARANTINE_COMMITTED, first)
    assert DeltaTable(table(home, "quarantined_transactions").folder).to_pyarrow_table().num_rows == BAD
    assert places(home, first, before) == (set(), set()), "half of a load is seen"

    kill_at(Point.RAW_COMMITTED, first)
    assert not table(home, "ingested_batches").exists
    assert places(home, first, before) == (good, bad)

    # The next load finishes what the killed one has left, and does not take it in again.
    kill_at(Point.RAW_COMMITTED, second)
    assert [places(home, file, before) for file in files] == [(good, bad)] * 2

    kill_at(Point.REPLAY_MARKED, second, fixed, replay=True)
    assert [places(home, file, after) for file in files] == [(good, bad)] * 2

    kill_at(Point.REPLAY_RECORDED, second, fixed, replay=True)
    assert [places(home, file, after) for file in files] == [(good | bad, set())] * 2

    with worker(fixed.with_suffix(".log")) as process:
        process.begin(home, second, RAW, contract=fixed)
        answer = process.answer()
    assert answer.failures == {}
    assert answer.metadata[RAW]["rows_added"] == 0
    assert answer.metadata[RAW]["rows_already_known"] == ROWS
    assert [places(home, file, after) for file in files] == [(good | bad, set())] * 2
    assert DeltaTable(table(home, "quarantined_transactions").folder).to_pyarrow_table().num_rows == 0
    assert staged(home) == []
