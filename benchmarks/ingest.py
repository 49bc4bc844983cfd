"""What the checks of a load cost: our complete load of a file against Spark's plain read and append of the same file.

Ours is the asset as a user materializes it, in this process: it looks for leftovers of a killed load, hashes the file,
checks it against the contract and stages it, sends bad rows to the quarantine and good ones to the raw table, records
the batch, checks the counts and writes the metadata. Plain is Spark's `read` and `write.mode("append")` with Delta's
defaults, which checks nothing and appends the bad rows too. (By default Delta keeps the range of each of the first 32
columns; the raw table keeps those of key, time and entity.) Both append to existing tables on one Spark session, in
alternating order; dirty pages are written out before each.

The main ratios are of wall time. Those of CPU time, for this process and its JVM together, are less affected by a busy
machine. Ours does part of its work on the driver alone, so on several cores wall time is the stricter measure.

One row in a thousand is bad. Three kinds of input: Parquet and CSV without a key (appended once per batch), and Parquet
with a key in the contract (merged; none of its rows is known yet). On Spark's side CSV gets its types from a schema.

Sizes that need more memory than is free are skipped with a message: a file is read whole, on the driver.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks._report import report
from benchmarks._sessions import LOCAL
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.automation.jobs import LOAD_DATA
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import Databases

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET = 0.6
Kind = Literal["parquet", "csv", "keyed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS = {"parquet": "Parquet", "csv": "CSV", "keyed": "Parquet with a key"}
ROWS = (1_000_000, 5_000_000)
ROUNDS = 3
BAD_EVERY = 1_000
_FIRST_ROWS = 1_000  # of the load that creates the tables
_CHUNK_ROWS = 500_000
# File, Arrow table, typed columns and good rows; a CSV is first held as text.
_BYTES_PER_ROW = {"parquet": 31 * 8 * 4, "csv": 31 * 8 * 4 + 31 * 20 * 3, "keyed": 32 * 8 * 4}


@dataclass(frozen=True)
class Case:
    """One kind and size of input file.

    Attributes:
        kind: Kind of the file.
        rows: Rows in it.
    """

    kind: Kind
    rows: int

    @property
    def label(self) -> str:
        """Name of its ratio."""
        return f"rows a second, ours / Spark's read and append: {LABELS[self.kind]}, {self.rows:,} rows"

    @property
    def cpu_label(self) -> str:
        """Name of its ratio in CPU time."""
        return f"the same by CPU time: {LABELS[self.kind]}, {self.rows:,} rows"

    @property
    def suffix(self) -> str:
        """Ending of its files."""
        return "csv" if self.kind == "csv" else "parquet"

    def contract(self) -> Contract:
        """Return the contract that its rows are checked against."""
        shipped = load_contract("creditcard")
        if self.kind != "keyed":
            return shipped
        number = Column(name="number", type="long", min=0)
        return shipped.model_copy(update={"key": "number", "columns": (number, *shipped.columns)})

    def fits(self) -> bool:
        """Return whether it fits into memory."""
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return self.rows * _BYTES_PER_ROW[self.kind] < int(meminfo["MemAvailable"].split()[0]) * 1024


def write_input(case: Case, path: Path, rows: int, *, first: int = 0) -> int:
    """Write a file in event-time order and return how many of its rows are bad.

    Args:
        case: Kind of the file.
        path: The file.
        rows: Number of rows.
        first: Number of the first row; rows with different numbers are different.
    """
    bad = 0
    writer: Any = None
    for start in range(first, first + rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, first + rows - start)
        table = generate(max(100, count), days=1.0, fraud_rate=0.01, seed=start // 100 + 1).slice(0, count)
        later = pc.add(table.column("time"), 86_400.0 * (start // 100))
        table = table.set_column(table.column_names.index("time"), "time", later)
        numbers = np.arange(start, start + count)
        wrong = pa.array(numbers % BAD_EVERY == BAD_EVERY // 2)
        bad += int(pc.sum(wrong).as_py())
        amounts = table.column("amount")
        spoilt = (
            pc.if_else(wrong, "n/a", amounts.cast(pa.string()))
            if case.kind == "csv"
            else pc.if_else(wrong, -1.0, amounts)
        )
        table = table.set_column(table.column_names.index("amount"), "amount", spoilt)
        if case.kind == "keyed":
            table = table.add_column(0, "number", pa.array(numbers))
        if writer is None:
            opened = pa_csv.CSVWriter if case.kind == "csv" else pq.ParquetWriter
            writer = opened(str(path), table.schema)
        writer.write_table(table)
    writer.close()
    return bad


class Ours:
    """The platform's load, into a new database."""

    def __init__(self, spark: SparkResource, case: Case, folder: Path) -> None:
        lakehouse = Lakehouse(
            spark=lambda: spark.session, database="bench", root=str(folder / "lakehouse"), locks=str(folder / "locks")
        )
        folder.mkdir(parents=True, exist_ok=True)
        contract = folder / "contract.yaml"
        contract.write_text(case.contract().to_yaml())
        settings = Settings(home=folder, source=str(folder.parent), contract=str(contract))
        self._defs = build_defs(settings, lakehouse=Databases(lakehouse))

    def load(self, file: Path) -> tuple[int, int]:
        """Load a file; return how many rows were accepted and quarantined.

        Raises:
            RuntimeError: The load did not succeed.
        """
        job = self._defs.resolve_job_def(LOAD_DATA)
        config = {
            "ops": {RAW: {"config": {"source": {"location": str(file)}}}},
            "loggers": {"console": {"config": {"log_level": "ERROR"}}},
        }
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
        if not result.success:
            failures = [str(event.step_failure_data.error) for event in result.get_step_failure_events()]
            raise RuntimeError(f"the load of {file.name} failed: {'; '.join(failures)}")
        metadata = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }[RAW]
        return int(str(metadata["rows_added"].value)), int(str(metadata["rows_quarantined"].value))


class Plain:
    """Spark's own read and append."""

    def __init__(self, spark: SparkResource, case: Case, folder: Path) -> None:
        self._session, self._case, self._table = spark.session, case, str(folder / "plain")

    def load(self, file: Path) -> None:
        """Append a file."""
        reader = self._session.read
        if self._case.kind == "csv":
            types = ", ".join(f"`{c.name}` {'bigint' if c.type == 'long' else c.type}" for c in self._columns())
            rows = reader.schema(types).csv(str(file), header=True)
        else:
            rows = reader.parquet(str(file))
        rows.write.format("delta").mode("append").save(self._table)

    def _columns(self) -> Sequence[Column]:
        return self._case.contract().columns


def measure(spark: SparkResource, cases: Sequence[Case], rounds: int, folder: Path) -> tuple[dict[str, Any], ...]:
    """Measure each case.

    Args:
        spark: Where both sides run.
        cases: Files.
        rounds: How often each side loads each case, at least once.
        folder: Empty folder for files and tables.

    Returns:
        Per case: its fields, seconds of both sides per round, and the process's peak memory so far.
    """
    results = []
    for case in cases:
        first, file = folder / f"first.{case.suffix}", folder / f"input.{case.suffix}"
        write_input(case, first, _FIRST_ROWS)
        bad = write_input(case, file, case.rows, first=_CHUNK_ROWS)
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        cpu: dict[str, list[float]] = {"ours": [], "plain": []}
        for number in range(-1, rounds):  # round -1 warms the JVM up on the small file
            sides = ("ours", "plain") if number % 2 else ("plain", "ours")
            for side in sides:
                source = first if number < 0 else file
                elapsed, spent = _one_load(spark, case, side, first, source, bad, folder / "tables")
                if number >= 0:
                    seconds[side].append(round(elapsed, 3))
                    cpu[side].append(round(spent, 3))
            if number >= 0:
                timings = ", ".join(f"{side} {seconds[side][-1]:.1f} s (CPU {cpu[side][-1]:.1f} s)" for side in seconds)
                print(f"{LABELS[case.kind]}, {case.rows:,} rows, round {number}: {timings}", flush=True)
        results.append(
            {
                "kind": case.kind,
                "rows": case.rows,
                "bad_rows": bad,
                "bytes": file.stat().st_size,
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
        file.unlink()
    return tuple(results)


def _one_load(
    spark: SparkResource, case: Case, side: str, first: Path, file: Path, bad: int, folder: Path
) -> tuple[float, float]:
    """Return wall and CPU seconds of loading `file` into tables that hold `first`."""
    folder.mkdir()
    try:
        loader: Ours | Plain = (Ours if side == "ours" else Plain)(spark, case, folder)
        loader.load(first)
        os.sync()
        started, spent = time.perf_counter(), _cpu_seconds(spark)
        counts = loader.load(file)
        elapsed, spent = time.perf_counter() - started, _cpu_seconds(spark) - spent
    finally:
        shutil.rmtree(folder)
    if counts is not None and file != first and counts != (case.rows - bad, bad):
        raise RuntimeError(f"{case.label}: {counts} rows accepted and quarantined, {(case.rows - bad, bad)} expected")
    return elapsed, spent


def _cpu_seconds(spark: SparkResource) -> float:
    """Return the CPU time of this process and its JVM so far."""
    gateway: Any = spark.session.sparkContext._gateway  # noqa: SLF001 - no public API gives the JVM's process id
    jvm = gateway.proc.pid
    fields = Path(f"/proc/{jvm}/stat").read_text("utf-8").rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    wanted = [Case(kind, rows) for rows in given.rows for kind in given.kinds]
    cases = [case for case in wanted if case.fits()]
    settings = Settings.from_environment()
    spark = SparkResource(home=str(settings.home), master=LOCAL, java_home=settings.java_home)
    place = settings.home / "bench"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=place) as folder:
        results = measure(spark, cases, max(1, given.rounds), Path(folder))
    wall, by_cpu = (
        {
            getattr(case, label): [plain / ours for ours, plain in zip(*measured[what].values(), strict=True)]
            for case, measured in zip(cases, results, strict=True)
        }
        for label, what in (("label", "seconds"), ("cpu_label", "cpu_seconds"))
    )
    report("ingest", ratios={**wall, **by_cpu}, details={"target": TARGET, "cases": results})
    for measured in results:
        ours = sorted(measured["seconds"]["ours"])[len(measured["seconds"]["ours"]) // 2]
        print(f"{LABELS[measured['kind']]}, {measured['rows']:,} rows: ours {measured['rows'] / ours:,.0f} rows/s")
    for case in wanted:
        if case not in cases:
            print(f"skipped, not enough memory: {LABELS[case.kind]}, {case.rows:,} rows")
    print(f"at least {TARGET:g} in the middle of each: {all(np.median(values) >= TARGET for values in wall.values())}")


if __name__ == "__main__":
    main()
