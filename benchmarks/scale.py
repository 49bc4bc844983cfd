"""Tables that no driver can hold: does the driver's memory stay flat, and the wall time linear, as the rows grow?

Load, cut, register and batch scores run at each size, each as the asset that a user materializes and in a process of
its own, on a `local-cluster` of two executors with one core each and a heap of 1 GB for the driver. A driver's memory
is that of its Python and its JVM together, without the executors (`_driver_memory`); that the work is on the executors
is said by Spark's own counters for each of them. Between cut and registration a small model is trained over the
cluster; its time and memory are told, and not judged.

- Memory: highest memory of the driver at a size / at the smallest.
- Time: seconds a row at a size / at the smallest; 1 is linear, below 1 is due to fixed costs.
- Load: rows a second, ours / Spark's plain read and append of the same CSV files, in alternating order. Plain has the
  columns' types from a schema and checks nothing. Both append to tables that exist, in a JVM that is warm.
- At the smallest size: the same load and cut on `local[2]`, and whether its tables are the same, row by row.

One row in a thousand lacks its amount, and goes to the quarantine. Files are removed as soon as they are not needed; a
row takes 0.3 kB as CSV, and half a kB beside it in all the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyspark

from benchmarks._driver_memory import DriverMemory
from benchmarks._report import report
from benchmarks._scale_stages import FIRST, INPUT
from benchmarks._sessions import LOCAL
from mlops_assets.data.sources.synthetic import SECONDS_PER_DAY, generate
from mlops_assets.settings import Settings

STAGES: Final = ("load", "cut", "register", "score")
# A model must be there before it is registered.
_ORDER: Final = ("load", "cut", "tune", "register", "score")
CHECKOUT: Final = Path(__file__).resolve().parent.parent
MEMORY: Final = "peak memory of the driver / at the fewest rows"
TIME: Final = "seconds a row / at the fewest rows"
TARGETS: Final = {"load": 0.8, MEMORY: 1.3, TIME: 1.25}
FIRST_ROWS: Final = 1_000
BAD_EVERY: Final = 1_000
_DAYS: Final = 30.0
_DRAWN_ROWS: Final = 100_000
_MIB: Final = 2**20
_UNLIMITED: Final = json.dumps({"megabytes": 2**20, "rows": 10**10, "cells": 10**12})


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        rows: Rows of the inputs, rising.
        stages: What is reported; what they need before them runs, too.
        files_of: Files that an input of so many rows has is 1, or one for each so many rows.
        rounds: How often both sides load an input.
        executor_mib: Heap of an executor.
        driver_memory: Heap of the driver.
    """

    rows: tuple[int, ...] = (1_000_000, 4_000_000)
    stages: tuple[str, ...] = STAGES
    files: int = 1
    rounds: int = 2
    executor_mib: int = 1_024
    driver_memory: str = "1g"

    @property
    def master(self) -> str:
        """The cluster."""
        return f"local-cluster[2,1,{self.executor_mib}]"


class StageFailedError(Exception):
    """A stage did not come to its end."""


def write_input(folder: Path, rows: int, *, files: int = 1, seed: int = 0) -> int:
    """Write transactions in the order of their time as CSV files, a part of them in memory at a time.

    Some are drawn, and come again and again at later times: drawing takes longer than writing.

    Args:
        folder: Is made.
        rows: Number of rows.
        files: Number of files, each with as many rows.
        seed: Other transactions with another one.

    Returns:
        Bytes of the files.
    """
    folder.mkdir()
    drawn, per_file = min(rows, _DRAWN_ROWS), -(-rows // files)
    days = _DAYS * drawn / rows
    times, rests, header = _as_text(generate(drawn, days=days, fraud_rate=0.01, seed=seed + 1))
    for number in range(files):
        start, end = number * per_file, min(rows, (number + 1) * per_file)
        with (folder / f"{number:06d}.csv").open("wb") as file:
            file.write(header)
            while start < end:
                turn, first = divmod(start, drawn)
                count = min(drawn - first, end - start)
                later = pc.add(times.slice(first, count), SECONDS_PER_DAY * days * turn).cast(pa.string())
                lines = pc.binary_join_element_wise(later, rests.slice(first, count), ",")
                file.write(lines.buffers()[2])  # the text of all rows, one behind the other
                start += count
    return sum(file.stat().st_size for file in folder.iterdir())


def _as_text(table: pa.Table) -> tuple[pa.Array, pa.Array, bytes]:
    """Return the times of transactions, the rest of each as a line of CSV, and the header."""
    wrong = pa.array(np.arange(table.num_rows) % BAD_EVERY == BAD_EVERY // 2)
    amount = pc.if_else(wrong, None, table.column("amount"))
    rest = table.set_column(table.column_names.index("amount"), "amount", amount).drop_columns(["time"])
    written = pa.BufferOutputStream()
    pa_csv.write_csv(rest, written)
    header, *lines = written.getvalue().to_pybytes().decode().splitlines(keepends=True)
    return table.column("time").combine_chunks(), pa.array(lines), f'"time",{header}'.encode()


def run_stage(stage: str, master: str, folder: Path, rows: int, driver_memory: str) -> dict[str, Any]:
    """Run a stage in a process of its own.

    Returns:
        What it said (`_scale_stages`), and the highest memory of its driver.

    Raises:
        StageFailedError: It failed; the end of what it wrote is in the text.
    """
    limits = os.environ.get("MLOPS_INPUT_LIMITS", _UNLIMITED)
    environment = {**os.environ, "MLOPS_DRIVER_MEMORY": driver_memory, "MLOPS_INPUT_LIMITS": limits}
    command = [sys.executable, "-m", "benchmarks._scale_stages", stage, master, str(folder), str(rows)]
    log = folder / f"{stage}.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=errors) as process,
        DriverMemory(process.pid) as memory,
    ):
        try:
            answer, _ = process.communicate()
        finally:
            process.kill()  # if this process is interrupted alone
    if process.returncode:
        end = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-30:])
        peak = f"{memory.peak.total / _MIB:,.0f} MiB"
        raise StageFailedError(f"{stage} of {rows:,} rows ended with {process.returncode}; driver {peak}\n{end}")
    told: dict[str, Any] = json.loads(answer.splitlines()[-1])
    # Of each application Spark leaves a folder where it is installed.
    shutil.rmtree(Path(pyspark.__file__).parent / "work" / told.pop("application"), ignore_errors=True)
    return {"stage": stage, "rows": rows, **told, "peak_bytes": asdict(memory.peak)}


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Measure all.

    Returns:
        What each stage said, bytes of the inputs, whether the tables are the same as locally, and what failed.
    """
    found: dict[str, Any] = {"stages": [], "input_bytes": {}, "failed": []}
    for number, rows in enumerate(sizes.rows):
        place = folder / str(rows)
        place.mkdir()
        try:
            _at_size(sizes, number, place, found)
        except StageFailedError as error:
            print(error, flush=True)
            found["failed"].append(str(error).partition("\n")[0])
        finally:
            shutil.rmtree(place)
    return found


def _at_size(sizes: Sizes, number: int, place: Path, found: dict[str, Any]) -> None:
    rows = sizes.rows[number]

    def run(stage: str) -> None:
        told = run_stage(stage, sizes.master, place, rows, sizes.driver_memory)
        found["stages"].append(told)
        print(_line(told), flush=True)

    write_input(place / FIRST, FIRST_ROWS, seed=10**9)
    found["input_bytes"][rows] = write_input(place / INPUT, rows, files=min(sizes.files, rows))
    judged = "load" in sizes.stages
    for turn in range(sizes.rounds if judged else 1):
        sides = ("load", "plain_load") if (number + turn) % 2 == 0 else ("plain_load", "load")
        shutil.rmtree(place / "lakehouse", ignore_errors=True)
        for side in sides if judged else ("load",):
            os.sync()
            run(side)
        shutil.rmtree(place / "plain", ignore_errors=True)
    compared = number == 0 and judged
    there = _locally(place, rows, sizes.driver_memory) if compared else {}
    shutil.rmtree(place / INPUT)
    last = max(_ORDER.index(stage) for stage in sizes.stages)
    for stage in _ORDER[1 : last + 1]:
        run(stage)
    if compared:
        here = run_stage("contents", sizes.master, place, rows, sizes.driver_memory)["found"]
        found["same_tables_as_locally"] = {name: here[name] == there[name] for name in here}
        if not all(found["same_tables_as_locally"].values()):
            raise StageFailedError(f"{rows:,} rows: other tables than locally: {here} and {there}")


def _locally(place: Path, rows: int, driver_memory: str) -> dict[str, Any]:
    """Load and cut the same files in one process, without a cluster; return what the tables hold."""
    local = place / "local"
    local.mkdir()
    for name in (FIRST, INPUT):
        (local / name).symlink_to(place / name)
    there: dict[str, Any] = run_stage("load_and_cut", LOCAL, local, rows, driver_memory)["found"]
    shutil.rmtree(local)
    return there


def _line(told: dict[str, Any]) -> str:
    peak = {name: f"{size / _MIB:,.0f}" for name, size in told["peak_bytes"].items()}
    # The driver's own time of tasks is, in Spark's account, how long it has been there.
    workers = {name: counts for name, counts in sorted(told["executors"].items()) if name != "driver"}
    shares = []
    for what in ("input_bytes", "task_milliseconds"):
        whole = sum(counts[what] for counts in workers.values()) or 1
        shares.append(", ".join(f"{100 * counts[what] / whole:.0f} %" for counts in workers.values()))
    read = sum(counts["input_bytes"] for counts in workers.values())
    return (
        f"{told['rows']:>12,} rows {told['stage']:<10} {told['seconds']:8.1f} s, driver {peak['total']} MiB (Python "
        f"{peak['python']}, JVM {peak['jvm']}); executors read {read / _MIB:,.0f} MiB ({shares[0]}), time of "
        f"tasks {shares[1]}; tasks of the driver: {told['executors']['driver']['tasks']}"
    )


def ratios_of(found: Sequence[dict[str, Any]], stages: Sequence[str]) -> dict[str, list[float]]:
    """Return the ratios of a measurement by label; none of a stage that was measured at one size.

    Args:
        found: What the stages said.
        stages: Which of them are judged.
    """
    ratios: dict[str, list[float]] = {}

    def of(stage: str, rows: int) -> list[dict[str, Any]]:
        return [told for told in found if told["stage"] == stage and told["rows"] == rows]

    sizes = sorted({told["rows"] for told in found})
    for rows in sizes if "load" in stages else ():
        label = f"load, rows a second: ours / Spark's read and append, {rows:,} rows"
        sides = zip(of("plain_load", rows), of("load", rows), strict=False)
        ratios[label] = [plain["seconds"] / ours["seconds"] for plain, ours in sides]
    for stage in stages:
        least = of(stage, sizes[0]) if sizes else []
        more = [told for rows in sizes[1:] for told in of(stage, rows)]
        if least and more:
            peak = max(told["peak_bytes"]["total"] for told in least)
            pace = min(told["seconds"] / told["rows"] for told in least)
            ratios |= {
                f"{stage}: {MEMORY}": [told["peak_bytes"]["total"] / peak for told in more],
                f"{stage}: {TIME}": [told["seconds"] / told["rows"] / pace for told in more],
            }
    return {label: values for label, values in ratios.items() if values}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word.replace("_", "")) for word in text.split(",")))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=_numbers, default=Sizes.rows, help="such as 1000000,4000000")
    parser.add_argument("--stages", type=lambda text: tuple(text.split(",")), default=STAGES, help=",".join(STAGES))
    parser.add_argument("--shape", choices=("csv", "small-files"), default="csv", help="one CSV file, or many")
    parser.add_argument("--files", type=int, default=10_000, help="with --shape small-files: number of files")
    parser.add_argument("--rounds", type=int, default=Sizes.rounds, help="how often both sides load an input")
    parser.add_argument("--executor-mib", type=int, default=Sizes.executor_mib, help="heap of an executor")
    parser.add_argument("--driver-memory", default=Sizes.driver_memory, help="heap of the driver")
    given = parser.parse_args()
    if unknown := set(given.stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    if len(given.rows) == 1 and "load" not in given.stages:
        parser.error("one size has nothing to be compared with: name more rows")
    files = given.files if given.shape == "small-files" else 1
    sizes = Sizes(given.rows, given.stages, files, max(1, given.rounds), given.executor_mib, given.driver_memory)
    home = Settings.from_environment().home / "bench"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=home) as folder:
        found = measure(sizes, Path(folder))
    ratios = ratios_of(found["stages"], sizes.stages)
    report("scale", ratios=ratios, details={"targets": TARGETS, "sizes": asdict(sizes), **found})
    print(f"the same tables as on {LOCAL}: {found.get('same_tables_as_locally', 'not compared')}")
    if found["failed"]:
        raise SystemExit("; ".join(found["failed"]))


if __name__ == "__main__":
    main()
