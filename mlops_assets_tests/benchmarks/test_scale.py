from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from benchmarks._driver_memory import DriverMemory, driver_processes, memory_of
from benchmarks._scale_stages import FIRST, INPUT, STAGES, Place
from benchmarks.scale import BAD_EVERY, MEMORY, TIME, StageFailedError, ratios_of, run_stage, write_input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets_tests.benchmarks.conftest import Run

MIB = 2**20
# Each process holds some MiB, and starts the next one.
FAMILY = """
import subprocess, sys
family = [("python", 30), ("java", 20), ("CoarseGrainedExecutorBackend", 200), ("worker", 100)]
at = int(sys.argv[1])
held = b"x" * (family[at][1] << 20)
if at + 1 < len(family):
    name = family[at + 1][0]
    program = sys.argv[2] if name == "java" else sys.executable
    child = subprocess.Popen([program, __file__, str(at + 1), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[psutil.Process]:
    """A driver's Python, its JVM, an executor below that, and a worker of the executor."""
    (tmp_path / "family.py").write_text(FAMILY)
    java = tmp_path / "java"
    java.symlink_to(sys.executable)
    command = [sys.executable, str(tmp_path / "family.py"), "0", str(java)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield psutil.Process(process.pid)
        process.kill()


def test_the_memory_of_a_driver_is_its_python_and_its_jvm_without_executors(driver: psutil.Process):
    with DriverMemory(driver.pid) as memory:
        time.sleep(0.5)
    python, jvm = memory_of(driver_processes(driver))

    assert 30 * MIB < python < 60 * MIB
    assert 20 * MIB < jvm < 50 * MIB
    assert memory.peak.total == pytest.approx(python + jvm, rel=0.1)


def test_a_driver_that_has_ended_holds_nothing(driver: psutil.Process):
    known = driver_processes(driver)
    driver.kill()
    driver.wait()

    assert memory_of(known[:1]) == (0, 0)
    assert driver_processes(driver) == []


def read(folder: Path) -> pa.Table:
    numbers = pa_csv.ConvertOptions(column_types={"time": pa.float64()})
    return pa.concat_tables([pa_csv.read_csv(file, convert_options=numbers) for file in sorted(folder.iterdir())])


def test_rows_of_an_input_are_in_the_order_of_their_time_and_the_same_in_one_file_or_many(tmp_path: Path):
    size = write_input(tmp_path / "one", 230_000)
    write_input(tmp_path / "many", 230_000, files=7)

    one, many = read(tmp_path / "one"), read(tmp_path / "many")
    at = one.column("time").to_numpy()
    assert size == sum(file.stat().st_size for file in (tmp_path / "one").iterdir())
    assert (at[1:] >= at[:-1]).all()
    assert 29 < at[-1] / 86_400 < 30
    assert len(list((tmp_path / "many").iterdir())) == 7
    assert many.equals(one)
    assert one.column("amount").null_count == 230_000 // BAD_EVERY
    assert one.group_by(one.column_names).aggregate([]).num_rows > 0.99 * one.num_rows


def told(stage: str, rows: int, seconds: float, peak: int) -> dict[str, Any]:
    return {"stage": stage, "rows": rows, "seconds": seconds, "peak_bytes": {"total": peak}}


def test_ratios_are_against_the_fewest_rows_and_against_plain():
    found = [
        *(told("load", 100, seconds, 1_000) for seconds in (10.0, 8.0)),
        *(told("plain_load", 100, seconds, 900) for seconds in (8.0, 8.0)),
        told("load", 400, 48.0, 1_500),
        told("plain_load", 400, 36.0, 900),
        told("cut", 100, 2.0, 1_000),  # it failed at 400
    ]

    assert ratios_of(found, ["load", "cut"]) == {
        "load, rows a second: ours / Spark's read and append, 100 rows": [0.8, 1.0],
        "load, rows a second: ours / Spark's read and append, 400 rows": [0.75],
        f"load: {MEMORY}": [1.5],
        f"load: {TIME}": [1.5],
    }


@pytest.mark.proof  # all stages, on the session of the tests
def test_each_stage_does_its_work(spark: SparkSession, tmp_path: Path):
    place = Place(spark, tmp_path, 5_000)
    write_input(tmp_path / FIRST, 1_000, seed=10**9)
    write_input(tmp_path / INPUT, place.rows)

    found = {stage: STAGES[stage](place)() for stage in ("load", "cut", "contents", "tune", "register", "score")}

    assert found["load"] == {"quarantined": 5}
    rows = {name: counted for name, (counted, _) in found["contents"].items()}
    assert rows["raw_transactions"] == 5_994
    assert rows["quarantined_transactions"] == 6
    assert rows["train_set"] + rows["validation_set"] + rows["test_set"] == 5_994
    assert found["register"] == {"test_rows": rows["test_set"]}
    assert found["score"] == {"scored": 5_994}


@pytest.mark.proof  # a session of its own
def test_a_stage_that_fails_is_no_measurement(tmp_path: Path):
    (tmp_path / FIRST).mkdir()

    with pytest.raises(StageFailedError, match=r"load of 10 rows ended with 1(?s:.*)holds no file"):
        run_stage("load", "local[1]", tmp_path, 10, "512m")


@pytest.mark.proof  # a measurement, on a cluster
def test_make_bench(run: Run):
    document = run("scale", "--rows", "2000", "--stages", "load", "--rounds", "1")

    stages = {told["stage"]: told for told in document["details"]["stages"]}
    assert set(stages) == {"load", "plain_load"}
    assert all(document["details"]["same_tables_as_locally"].values())
    for told in stages.values():
        assert told["executors"]["driver"]["tasks"] == 0
        assert sum(one["input_bytes"] for one in told["executors"].values()) > 0
        assert told["peak_bytes"]["total"] > 2**28
