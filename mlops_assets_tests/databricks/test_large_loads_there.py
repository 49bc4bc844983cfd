"""Many files and one above the limit for pieces, loaded on a loopback workspace: executors do it, and no row differs.

The classic cluster is Spark's `local-cluster`: executors are processes that have only what Spark has sent them, and its
event log says which tasks they ran. What stays open is a second machine: all of them have the same disk. On serverless
compute the same load goes through Spark Connect, whose server keeps no such log; there the tables are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyspark
import pytest
from deltalake import DeltaTable

from mlops_assets.data.columns import INGESTED_AT, ROW_NUMBER, SOURCE
from mlops_assets.data.ingest.staging import MANY_INPUTS
from mlops_assets.data.sources import large_files
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.lakehouse import loading
from mlops_assets.lakehouse.transaction_tables import QUARANTINED, RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.databricks.main_job import CHECKOUT
from mlops_assets_tests.databricks.main_job_ways import Way
from mlops_assets_tests.lakehouse.load_over_cluster import CONTRACT as PAYMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from databricks_loopback import Workspace
    from mlops_assets.lakehouse.lakehouse import Lakehouse

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]
NOBODY, DATABASE = "http://127.0.0.1:9", "payments"
# Text that nobody needs makes a file large with few rows.
CONTRACT = PAYMENTS.model_copy(update={"ignored": ("note",)})
NOTE, LARGE_ROWS, SMALL_ROWS = "n" * 32_000, 9_000, 50
SPARK_HOME = "/dbfs/spark_home"
EXECUTORS_APART = {
    "spark.master": "local-cluster[2,1,1024]",
    "spark.executor.extraClassPath": "/databricks/jars/*",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
    "spark.eventLog.dir": "dbfs:/events",
}


def deliver(folder: Path) -> None:
    """Write a large file, and many small ones; a row in 97 is bad."""
    folder.mkdir(parents=True)
    for number in range(MANY_INPUTS):
        write(folder / f"small {number:02d}.csv", number * SMALL_ROWS, SMALL_ROWS, "")
    write(folder / "z.csv", MANY_INPUTS * SMALL_ROWS, LARGE_ROWS, NOTE)
    assert (folder / "z.csv").stat().st_size > large_files.LARGE_BYTES


def write(path: Path, first: int, rows: int, note: str) -> None:
    with path.open("w") as file:
        file.write("id,time,amount,fraud,note\n")
        for number in range(first, first + rows):
            amount = -1.0 if number % 97 == 0 else number / 4
            file.write(f"{number},{number}.0,{amount},{int(number % 50 == 0)},{note}\n")


def spark_home(folder: Path) -> None:
    """Make a home of Spark into which the workers of `local-cluster` can write: that of a cluster can only be read."""
    folder.mkdir()
    there = f"/databricks/packages/{pyspark.__name__}"
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name != "work":  # is there once a `local-cluster` has run here
            (folder / entry.name).symlink_to(f"{there}/{entry.name}")


def rows_of(table: Path) -> pd.DataFrame:
    """Return a table's rows as another library reads them, without what each load has for itself."""
    found = DeltaTable(str(table)).to_pandas().drop(columns=INGESTED_AT)
    found[SOURCE] = found[SOURCE].map(os.path.basename)
    return found.sort_values([SOURCE, ROW_NUMBER]).reset_index(drop=True)


def launch(home: Path, variables: Mapping[str, str]) -> None:
    (home / "dagster").mkdir(parents=True)
    (home / "contract.yaml").write_text(json.dumps(CONTRACT.model_dump(mode="json", exclude_defaults=True)))
    own = {"HOME": str(home), "CONTRACT": str(home / "contract.yaml"), "DATABASE": DATABASE}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "load_data"],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "DAGSTER_HOME": str(home / "dagster"),
            **{f"MLOPS_{name}": value for name, value in own.items()},
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )
    assert done.returncode == 0, done.stderr[-8_000:]


def tasks_of_functions(events: Path) -> Counter[str]:
    """Return how many tasks each executor has ended, of stages that ran our function."""
    (log,) = events.iterdir()
    entries: list[dict[str, Any]] = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    stages = {
        entry["Stage Info"]["Stage ID"]
        for entry in entries
        if entry["Event"] == "SparkListenerStageCompleted" and "MapInArrow" in json.dumps(entry["Stage Info"])
    }
    ended = [entry for entry in entries if entry["Event"] == "SparkListenerTaskEnd" and entry["Stage ID"] in stages]
    return Counter(entry["Task Info"]["Executor ID"] for entry in ended)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Way("step", ""), id="classic"),
        pytest.param(Way("step", "spark_catalog", serverless=True), id="serverless"),
    ],
)
def test_executors_there_make_the_tables_that_one_process_makes_here(
    tmp_path: Path, shared_home: Path, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, way: Way
):
    with way.workspace(tmp_path / "workspace", shared_home, NOBODY) as workspace:
        inbox = f"{way.catalog or 'main'}/mlops_assets_dev/inbox"
        workspace.catalog.add_volume(inbox.replace("/", "."))
        deliver(workspace.storage.volumes / inbox / "new")
        (workspace.storage.dbfs / "events").mkdir()
        variables = {"MLOPS_SOURCE": f"/Volumes/{inbox}/new"}
        if not way.serverless:
            spark_home(workspace.storage.in_dbfs(SPARK_HOME.removeprefix("/dbfs")))
            variables["MLOPS_DATABRICKS_CLUSTERS__LOADER__SPARK_CONF"] = json.dumps(EXECUTORS_APART)
            variables["MLOPS_DATABRICKS_CLUSTERS__LOADER__SPARK_ENV_VARS"] = json.dumps({"SPARK_HOME": SPARK_HOME})
        launch(tmp_path / "launching", way.variables(workspace, NOBODY) | variables)

    # The same files in this process, whole and one after the other.
    monkeypatch.setattr(large_files, "LARGE_BYTES", 1 << 40)
    monkeypatch.setattr(loading, "MANY_INPUTS", 1 << 40)
    here = TransactionStore(lakehouse, CONTRACT, "a run")
    report = loading.load(here, FilesSource(str(workspace.storage.volumes / inbox / "new")))
    assert report.quarantined > 0
    for name in (RAW, QUARANTINED):
        found = rows_of(table(way, workspace, name))
        pd.testing.assert_frame_equal(found, rows_of(Path(lakehouse.location(name))))
    if not way.serverless:
        tasks = tasks_of_functions(workspace.storage.dbfs / "events")
        assert set(tasks) <= {"0", "1"}, "executors, and no driver"
        assert tasks.total() > MANY_INPUTS + 1, "a task for each small file, the large one's survey, and its pieces"


def table(way: Way, workspace: Workspace, name: str) -> Path:
    """Return a table's folder on this machine."""
    if way.catalog:
        return workspace.storage.dbfs / "user/hive/warehouse/mlops_assets_dev.db" / name
    return workspace.storage.in_dbfs(f"{way.table_root}/{DATABASE}/{name}")
