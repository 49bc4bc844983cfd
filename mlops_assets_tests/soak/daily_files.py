"""A month of transactions as it would arrive: one file a day in a folder that `dagster dev` watches, automation on.

`python -m mlops_assets_tests.soak.daily_files --data handbook_2018-05.parquet` cuts the file by day, drops the first
days at once (a model needs some) and the others one after another, prints what is dropped, what is materialized when
and by which sensor, takes screenshots of the UI, and ends when nothing more follows. The platform runs as `make ui`
starts it, at its own pace; only the days are shorter.

What belongs here: the script. What does not: any verdict on the models.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.settings import Settings
from mlops_assets_tests.browser.dagster_dev import DagsterDev
from mlops_assets_tests.browser.web_ui import WHOLE_GRAPH, WebUI, find_chromium, open_browser
from mlops_assets_tests.processes.control import ASSETS

_TIME = "tx_datetime"
_LOOK_EVERY = 2.0
# Long enough for two ticks of each sensor: what has not followed by then never will.
_QUIET_SECONDS = 90.0
_SHOWN = ("delta_version", "rows_added", "raw_version", "dagster/row_count", "mlflow_run_id", "model_version")
_OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def days_of(data: Path) -> list[tuple[date, pa.Table]]:
    """Cut a file of transactions by the day of their event time, in order."""
    table = pq.read_table(data)
    (name,) = (name for name in table.column_names if name.lower() == _TIME)
    days = pc.cast(pc.floor_temporal(table.column(name), unit="day"), pa.date32())
    return [(day, table.filter(pc.equal(days, day))) for day in sorted(pc.unique(days).to_pylist())]


@dataclass
class EventLog:
    """A log of what happened when.

    Attributes:
        instance: The Dagster instance that records it.
        write: Takes lines of the log.
    """

    instance: dg.DagsterInstance
    write: Callable[[str], None]
    changed: float = field(default_factory=time.monotonic)
    _seen: set[int] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)

    def record(self, text: str, at: float | None = None) -> None:
        """Write one line with its time."""
        self.changed = time.monotonic()
        moment = datetime.fromtimestamp(time.time() if at is None else at).astimezone()
        self.write(f"{moment:%H:%M:%S}  {text}")

    def look(self) -> None:
        """Record what was materialized, or failed, since the last look."""
        new = [
            (event.timestamp, event.storage_id, event.run_id, name, event.asset_materialization)
            for name in ASSETS
            for event in self.instance.fetch_materializations(dg.AssetKey(name), limit=100).records
            if event.storage_id not in self._seen
        ]
        for at, storage_id, run_id, name, made in sorted(new, key=lambda event: event[1]):
            self._seen.add(storage_id)
            metadata = {} if made is None else made.metadata
            details = ", ".join(f"{key.split('/')[-1]} {metadata[key].value}" for key in _SHOWN if key in metadata)
            self.record(f"  {name}: {details} ({self._by(run_id)})", at)
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
            if run.run_id not in self._failed:
                self._failed.add(run.run_id)
                self.record(f"  run {run.run_id[:8]} failed ({self._by(run.run_id)})")

    def is_quiet(self) -> bool:
        """Return whether no run is in progress and none has been for a while."""
        going = [run for run in self.instance.get_runs(limit=20) if run.status not in _OVER]
        if going:
            self.changed = time.monotonic()
        return time.monotonic() - self.changed > _QUIET_SECONDS

    def _by(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        return f"run {run_id[:8]}, by {run.tags.get('dagster/sensor_name', 'hand')}" if run is not None else run_id


@dataclass(frozen=True)
class Month:
    """How the days arrive.

    Attributes:
        days: Day and rows of each file.
        at_once: How many arrive at the beginning.
        every: Seconds between two of the others.
        limit: Seconds after which it ends anyway.
    """

    days: Sequence[tuple[date, pa.Table]]
    at_once: int
    every: float
    limit: float

    def play(self, landing: Path, log: EventLog) -> bool:
        """Drop the days and wait until nothing more follows; return whether it ended by itself."""
        waiting = deque(self.days)
        for _ in range(min(self.at_once, len(waiting))):
            _drop(waiting.popleft(), landing, log)
        begun = due = time.monotonic()
        while time.monotonic() - begun < self.limit:
            if waiting and time.monotonic() >= due + self.every:
                due = time.monotonic()
                _drop(waiting.popleft(), landing, log)
            log.look()
            if not waiting and log.is_quiet():
                return True
            time.sleep(_LOOK_EVERY)
        return False


def _drop(day: tuple[date, pa.Table], landing: Path, log: EventLog) -> None:
    named, rows = day
    draft = landing / f".{named}.part"
    pq.write_table(rows, draft)
    draft.rename(landing / f"{named}.parquet")
    log.record(f"dropped {named}.parquet, {rows.num_rows:,} rows")


def take_pictures(url: str, folder: Path) -> list[Path]:
    """Take screenshots of the asset graph, the automation's sensors and the runs.

    Raises:
        RuntimeError: There is no Chromium.
    """
    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError("no Chromium in the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [folder / f"daily-files-{name}.png" for name in ("assets", "automation", "runs")]
    with open_browser(chromium) as browser:
        page = browser.new_page(viewport=WHOLE_GRAPH)
        ui = WebUI(page, url)
        ui.open_lineage()
        for picture, place in zip(pictures, (None, "automation", "runs"), strict=True):
            if place is not None:
                page.goto(f"{url}/{place}")
            page.wait_for_timeout(4_000)  # until everything is fetched and has stopped moving
            page.screenshot(path=picture)
    return pictures


def main() -> int:
    """Play the month."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="Parquet file of the handbook's transactions")
    parser.add_argument("--days", type=int, default=31, help="number of days to use (%(default)s)")
    parser.add_argument("--at-once", type=int, default=14, help="days that arrive at the beginning (%(default)s)")
    parser.add_argument("--every", type=float, default=75.0, help="seconds between two of the others (%(default)s)")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it ends (%(default)s)")
    parser.add_argument("--retrain-rows", type=int, default=60_000, help="MLOPS_RETRAIN_ROWS (%(default)s)")
    # With the handbook's own week a month is too short for three sets with gaps between them.
    parser.add_argument("--label-delay", type=float, default=2.0, help="days, in the contract (%(default)s)")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the UI (<MLOPS_HOME>/soak)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ending it must not leave its processes behind
    ours = Settings.from_environment().home
    ensure_delta_jars(ours / "jars")
    days = days_of(given.data)[: given.days]
    (ours / "soak").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=ours / "soak", prefix="daily-"))
    landing, contract = folder / "landing", folder / "handbook.yaml"
    landing.mkdir()
    shorter_delay = load_contract("handbook").model_copy(update={"label_delay_days": given.label_delay})
    contract.write_text(shorter_delay.to_yaml(), "utf-8")
    variables = {
        "MLOPS_CONTRACT": str(contract),
        "MLOPS_AUTOMATION": "on",
        "MLOPS_RETRAIN_ROWS": str(given.retrain_rows),
    }
    server = DagsterDev.start(folder / "home", ours / "jars", source=str(landing), variables=variables)
    try:
        with dg.DagsterInstance.from_config(str(folder / "home" / "dagster")) as instance:
            log = EventLog(instance, _print)
            ended = Month(days, given.at_once, given.every, given.limit).play(landing, log)
        for picture in take_pictures(server.url, given.pictures or ours / "soak"):
            _print(f"picture: {picture}")
    finally:
        server.stop()
    if not ended:
        _print(f"not finished after {given.limit:.0f} s; logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
