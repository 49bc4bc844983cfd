"""Two processes on one home at the same time: nothing twice, nothing lost, nothing mixed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.locks import hold
from mlops_assets_tests.processes.conftest import ROWS
from mlops_assets_tests.processes.control import ANSWER_SECONDS, ASSETS, SETS, Answer, Worker, started, worker
from mlops_assets_tests.processes.points import Point
from mlops_assets_tests.processes.state import Tracked, embedded_store, staged, table

pytestmark = pytest.mark.timeout(3 * ANSWER_SECONDS)
RAW = ASSETS[0]
# A process that has a table's lock until its input ends.
HOLDER = """
import sys
from pathlib import Path
from mlops_assets.lakehouse.locks import hold
with hold(Path(sys.argv[1]), None, where="t"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path]) -> Path:
    """One home for all: each test leaves a whole one behind."""
    return new_home()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    logs = tmp_path_factory.mktemp("logs")
    with worker(logs / "one.log") as one, worker(logs / "other.log") as other:
        yield one, other


def both(pair: tuple[Worker, Worker]) -> list[Answer]:
    answers = [process.answer() for process in pair]
    assert all(answer.success for answer in answers), [answer.failures for answer in answers]
    return answers


def added(answers: list[Answer]) -> list[int]:
    return [answer.metadata[RAW]["rows_added"] for answer in answers]


def test_a_lock_keeps_another_process_out_until_it_is_released_or_its_holder_is_killed(tmp_path: Path):
    """What keeps two runs apart, without their Spark; the tests below are whole runs."""
    lock = tmp_path / "locks" / "t.lock"
    for end in ("released", "killed"):
        with started([sys.executable, "-c", HOLDER, str(lock)], tmp_path / "log", pipe=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StorageError, match="another run has held the table"), hold(lock, 0.2, where="t"):
                pytest.fail("the lock was given to two processes")
            if end == "killed":
                holder.kill()
        with hold(lock, 5.0, where="t"):
            pass


@pytest.mark.proof
def test_two_that_load_the_same_file_into_a_new_home_load_it_once(
    pair: tuple[Worker, Worker], home: Path, inputs: list[Path]
):
    for process in pair:
        process.begin(home, inputs[0], RAW)

    assert sorted(added(both(pair))) == [0, ROWS]
    assert (table(home, RAW).version, table(home, RAW).rows_of_batches()) == (0, [ROWS])


@pytest.mark.proof
def test_two_whole_jobs_end_with_two_searches_and_one_version_of_their_booster(
    pair: tuple[Worker, Worker], home: Path, inputs: list[Path]
):
    """They also create the MLflow store at the same time."""
    for process in pair:
        process.begin(home, inputs[0], *ASSETS)

    answers = both(pair)

    tracked = Tracked(embedded_store(home))
    parents = tracked.parents()
    said = [answer.metadata["tuned_model"]["mlflow_run_id"] for answer in answers]
    assert {run.info.run_id for run in parents} == set(said)
    assert [len(tracked.children(run)) for run in parents] == [3, 3]
    assert tracked.statuses() == {"FINISHED": 8}
    assert tracked.results(parents[0]) == tracked.results(parents[1])
    (registered,) = {answer.metadata["registered_model"]["mlflow_run_id"] for answer in answers}
    assert registered in said
    assert tracked.versions() == {1: {"champion", "challenger"}}, "the same booster is registered once"
    assert [table(home, name).version for name in SETS] == [0, 0, 0]


@pytest.mark.proof
def test_a_search_waits_for_sets_that_are_being_written(pair: tuple[Worker, Worker], home: Path, inputs: list[Path]):
    """It would find sets of two cuts, and fail, or worse."""
    writing, searching = pair
    writing.begin(home, inputs[1], RAW, *SETS, stop_at=Point.ONE_SET_COMMITTED)
    writing.wait_at(Point.ONE_SET_COMMITTED)
    searching.begin(home, inputs[1], "tuned_model")
    assert not searching.is_answering(5)
    writing.go_on()

    answers = both(pair)

    pinned = answers[1].metadata["tuned_model"]
    assert [pinned[f"{name}_version"] for name in ("train", "validation", "test")] == [1, 1, 1]


@pytest.mark.proof
def test_two_that_load_different_files_both_get_in(pair: tuple[Worker, Worker], home: Path, inputs: list[Path]):
    before = table(home, RAW).rows_of_batches()
    for process, file in zip(pair, inputs[2:4], strict=True):
        process.begin(home, file, RAW)

    assert added(both(pair)) == [ROWS, ROWS]
    assert table(home, RAW).rows_of_batches() == [*before, ROWS, ROWS]


@pytest.mark.proof
def test_without_a_common_lock_the_slower_one_looks_again(
    pair: tuple[Worker, Worker], home: Path, inputs: list[Path], tmp_path: Path
):
    """Two machines that share the tables and not the locks: the table's own log decides."""
    before = table(home, RAW).rows_of_batches()
    slow, fast = pair
    slow.begin(home, inputs[4], RAW, stop_at=Point.RAW_STAGED, locks=tmp_path / "locks")
    slow.wait_at(Point.RAW_STAGED)
    assert added([fast.run(home, inputs[4], RAW)]) == [ROWS]
    slow.go_on()

    assert added([slow.answer()]) == [0]
    assert table(home, RAW).rows_of_batches() == [*before, ROWS]
    assert staged(home) == []
