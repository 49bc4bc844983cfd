"""What a sensor tick costs, by how much was loaded long ago.

- New files: a tick with 100, 1,000 and 10,000 old files in the folder, all taken and none new. Each tick lists the
  folder, since a changed file counts as new; so a tick must not grow faster with the files than a listing does. The
  listing alone (names, sizes and times from the operating system) is measured for comparison.
- Watched table: a tick with 10, 100 and 1,000 versions, all loaded. The log is read from its last checkpoint; there is
  one every 100 versions, as Delta's writers make them.

Ticks of all sizes take turns. A tick here is the sensor's own work in the code server, in CPU seconds (the files'
metadata are cached by the system, so there is no waiting), with the cursor as Dagster stores it. Dagster's own cost per
tick is left out; it would make the ratios look better.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks._report import report
from benchmarks._turns import cpu_seconds
from mlops_assets.automation.landed_days import fold
from mlops_assets.automation.landing import LandingState
from mlops_assets.automation.sensors import new_files_sensor, watched_table_sensor
from mlops_assets.automation.watched_table import WatchState
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.listing import landed_files
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILES = (100, 1_000, 10_000)
VERSIONS = (10, 100, 1_000)
ROUNDS = 9
WANTED_SECONDS = 0.5
_CHECKPOINT_EVERY = 100
_LONG_AGO_S = 1_700_000_000
FILES_RATIO = "tick of the sensor of new files: most old files / fewest"
PER_FILE_RATIO = "the same for each file"
LISTING_RATIO = "tick with most old files / listing them by the operating system"
VERSIONS_RATIO = "tick of the sensor of a watched table: most versions / fewest"


def landing(folder: Path, files: int, instance: dg.DagsterInstance) -> Callable[[], None]:
    """Make a landing folder in which all files are taken; return a tick of its sensor."""
    folder.mkdir()
    for number in range(files):
        (folder / f"transactions_{number:06d}.csv").write_text("loaded long ago\n")
    for path in folder.iterdir():
        os.utime(path, (_LONG_AGO_S, _LONG_AGO_S))
    listed = landed_files(str(folder))
    left, days = fold(frozenset(file.mark for file in listed), frozenset(), listed, time.time())
    taken = LandingState(taken=left, days=days)
    sensor = new_files_sensor(
        FraudModelSpec(contract=load_contract("creditcard"), source=str(folder)), status=dg.DefaultSensorStatus.STOPPED
    )
    return _ticking(sensor, taken.to_cursor(), instance)


def watched(folder: Path, versions: int, instance: dg.DagsterInstance) -> Callable[[], None]:
    """Make a Delta table with that many versions, all loaded; return a tick of its sensor."""
    rows = pa.table({"x": [1]})
    for number in range(versions):
        write_deltalake(str(folder), rows, mode="append")
        if number % _CHECKPOINT_EVERY == _CHECKPOINT_EVERY - 1:
            DeltaTable(str(folder)).create_checkpoint()
    loaded = WatchState(str(DeltaTable(str(folder)).metadata().id), loaded=versions - 1)
    sensor = watched_table_sensor(
        FraudModelSpec(contract=load_contract("creditcard"), source=f"delta:{folder}"),
        status=dg.DefaultSensorStatus.STOPPED,
    )
    return _ticking(sensor, loaded.to_cursor(), instance)


def _ticking(sensor: dg.SensorDefinition, cursor: str, instance: dg.DagsterInstance) -> Callable[[], None]:
    def tick() -> None:
        with dg.build_sensor_context(instance, cursor) as context:
            result = sensor(context)
        if not isinstance(result, dg.SensorResult) or result.run_requests or result.cursor != cursor:
            raise RuntimeError(f"the tick of {sensor.name} found something new")

    return tick


def by_the_system(folder: Path) -> Callable[[], None]:
    """Return a listing of a folder that only asks the operating system for what the sensor needs."""

    def look() -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                entry.stat()

    return look


def measure(
    files: Sequence[int], versions: Sequence[int], rounds: int, folder: Path, instance: dg.DagsterInstance
) -> dict[str, list[float]]:
    """Return the seconds of each look, one per round: `files N`, `listing N`, `versions N`."""
    looks: dict[str, Callable[[], None]] = {}
    for count in files:
        looks[f"files {count}"] = landing(folder / f"files_{count}", count, instance)
        looks[f"listing {count}"] = by_the_system(folder / f"files_{count}")
    for count in versions:
        looks[f"versions {count}"] = watched(folder / f"table_{count}", count, instance)
    return cpu_seconds(looks, rounds)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, nargs="+", default=FILES)
    parser.add_argument("--versions", type=int, nargs="+", default=VERSIONS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    files, versions = sorted(given.files), sorted(given.versions)
    with tempfile.TemporaryDirectory(prefix="ticks-") as folder, dg.DagsterInstance.ephemeral() as instance:
        seconds = measure(files, versions, max(1, given.rounds), Path(folder), instance)

    def times(one: str, other: str, *, by: float = 1.0) -> list[float]:
        return [a / b / by for a, b in zip(seconds[one], seconds[other], strict=True)]

    least, most = f"files {files[0]}", f"files {files[-1]}"
    details: dict[str, Any] = {"wanted_seconds": WANTED_SECONDS, "seconds": seconds}
    report(
        "sensor_tick",
        ratios={
            FILES_RATIO: times(most, least),
            PER_FILE_RATIO: times(most, least, by=files[-1] / files[0]),
            LISTING_RATIO: times(most, f"listing {files[-1]}"),
            VERSIONS_RATIO: times(f"versions {versions[-1]}", f"versions {versions[0]}"),
        },
        details=details,
    )
    for name, values in seconds.items():
        print(f"{name:16} {median(values) * 1000:8.1f} ms  [{min(values) * 1000:.1f} to {max(values) * 1000:.1f}]")
    print(f"at most {WANTED_SECONDS:g} s with {files[-1]:,} old files: {median(seconds[most]) <= WANTED_SECONDS}")


if __name__ == "__main__":
    main()
