"""The table path without a SparkContext: what serverless compute has is a Spark Connect session and nothing else.

The proof runs the loading and cutting assets against a real Spark Connect server, which refuses whatever needs the JVM
of the driver. The list of classic-only calls is what it can't see: calls in branches that it does not take.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyspark
import pytest
from deltalake import DeltaTable

import mlops_assets
from mlops_assets.resources.spark import SparkResource
from mlops_assets_tests.assets.harness import transactions, write_csv

PACKAGE = Path(mlops_assets.__file__).parent
CHECKOUT = PACKAGE.parent
# What the Python client of Spark Connect has not, or serverless compute refuses (`persist` and its kin).
CLASSIC = frozenset(
    {"sparkContext", "_sc", "_jvm", "_jsc", "_jdf", "_jsparkSession", "rdd", "toJSON", "emptyRDD", "parallelize"}
    | {"accumulator", "addPyFile", "setLocalProperty", "setJobGroup", "foreachPartition"}
    | {"persist", "unpersist", "cache", "checkpoint", "localCheckpoint"}
)
# The rooms whose code runs in a loader's step.
TABLE_PATH = ("data", "lakehouse", "assets", "registry", "tracking")
# Why the search stays on classic compute.
SEARCH = "training"


def classic_calls(folder: Path) -> list[str]:
    """Return `file: name` of each use of a classic-only attribute of Spark."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in CLASSIC:
                found.add(f"{path.relative_to(folder).as_posix()}: {node.attr}")
    return sorted(found)


def test_no_classic_only_call_is_left_in_the_table_path():
    assert {room: classic_calls(PACKAGE / room) for room in TABLE_PATH} == {room: [] for room in TABLE_PATH}


def test_the_list_sees_them(tmp_path: Path):
    assert classic_calls(PACKAGE / SEARCH) != [], "SparkTrials needs a SparkContext"
    (tmp_path / "bad.py").write_text("def f(spark, rows):\n    spark.sparkContext.addPyFile('x')\n    rows.persist()\n")
    assert classic_calls(tmp_path) == ["bad.py: addPyFile", "bad.py: persist", "bad.py: sparkContext"]


CLIENT = """
import json, sys
from pathlib import Path
import dagster as dg
from pyspark.sql import SparkSession
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.tables import PathTables
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings

home, remote = Path(sys.argv[1]), sys.argv[2]
settings = Settings(home=home)
# On a cluster the session is the one that the platform has; SPARK_REMOTE makes that a Connect session.
spark = SparkResource(home=str(home), on_cluster=bool(remote))
lakehouse = LakehouseResource(spark=spark, root=str(home / "lakehouse"), locks=str(home / "locks"))
job = build_defs(settings, lakehouse=lakehouse).resolve_job_def("main")
names = ["raw_transactions", "quarantined_transactions", "train_set", "validation_set", "test_set"]
config = {"ops": {"raw_transactions": {"config": {"source": {"rows": 3000, "days": 6, "fraud_rate": 0.03, "seed": 3}}}}}
with dg.DagsterInstance.ephemeral() as instance:
    for _ in range(2):  # the second load finds what the first has written
        job.execute_in_process(
            run_config=config, instance=instance, asset_selection=[dg.AssetKey(name) for name in names]
        )
tables = PathTables(str(home / "lakehouse" / "creditcard_synthetic"))
found = {}
for name in names:
    newest = tables.newest(name)
    rows = spark.session.sql(f"SELECT * FROM delta.`{tables.address(name)}`")
    # Spark hashes no maps, and each load has its own time.
    plain = [n for n, kind in rows.dtypes if "map<" not in kind and n != "_ingested_at"]
    rows = rows.selectExpr("COUNT(*) AS n", f"SUM(HASH({', '.join(plain)})) AS h").collect()[0]
    found[name] = [newest.version, newest.metadata.get("split_id"), rows["n"], rows["h"]]
print("FOUND", json.dumps({"session": type(spark.session).__module__, "tables": found}))
"""


# Finds and loads what has arrived.
STREAM = """
import json, sys
from pathlib import Path
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.arriving_files import ArrivingFiles
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.resources.spark import SparkResource

home, remote, folder = Path(sys.argv[1]), *sys.argv[2:]
spark = SparkResource(home=str(home), on_cluster=bool(remote))
lakehouse = Lakehouse(lambda: spark.session, "streamed", root=str(home / "lakehouse"), locks=str(home / "locks"))
store = TransactionStore(lakehouse, load_contract("creditcard"), "a run")
while True:  # as the asset is tried again on a busy machine
    try:
        report = ArrivingFiles(lakehouse, folder, settle_seconds=0).load_into(store)
        break
    except StorageError as error:
        if not error.transient:
            raise
added = [Path(name).name for name in report.inputs_added]
print("FOUND", json.dumps({"session": type(spark.session).__module__, "added": added, "rows": report.accepted}))
"""


def ran(code: str, home: Path, remote: str, *arguments: str) -> dict[str, Any]:
    """Run one of the programs in a process of its own; return what it has found."""
    home.mkdir(exist_ok=True)
    variables = {"SPARK_REMOTE": remote} if remote else {}
    done = subprocess.run(
        [sys.executable, "-c", code, str(home), remote, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "MLOPS_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert done.returncode == 0, done.stderr[-6_000:]
    (line,) = lines
    return dict(json.loads(line.removeprefix("FOUND ")))


@pytest.fixture
def server(tmp_path: Path, shared_home: Path) -> Iterator[str]:
    """A Spark Connect server of the pyspark package, with Delta."""
    settings = SparkResource(home=str(shared_home), master="local[2]")._configuration()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings |= {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(tmp_path / "warehouse"),
    }
    conf = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    home = Path(pyspark.__file__).parent
    main = ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    log = tmp_path / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(home / "bin" / "spark-submit"), *main, *conf, "spark-internal"],
            cwd=tmp_path,
            env={**os.environ, "SPARK_HOME": str(home)},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text("utf-8")[-4_000:]
                    assert time.monotonic() < deadline, log.read_text("utf-8")[-4_000:]
                    time.sleep(0.5)
            yield f"sc://127.0.0.1:{port}"
        finally:
            process.kill()  # nothing of it is kept, and a shell may have had its children ignore SIGTERM
            process.wait(30)


@pytest.mark.proof  # reason: two Spark sessions and a server
@pytest.mark.timeout(900)
def test_loading_and_cutting_need_no_spark_context(tmp_path: Path, shared_home: Path, server: str):
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    (embedded / "jars").symlink_to(shared_home / "jars")
    here = ran(CLIENT, embedded, "")
    there = ran(CLIENT, tmp_path / "remote", server)
    assert here["session"] == "pyspark.sql.session"
    assert there["session"] == "pyspark.sql.connect.session"
    assert there["tables"] == here["tables"]
    assert there["tables"]["raw_transactions"][2] == 3_000


@pytest.mark.proof  # reason: a server, and a process for each load
@pytest.mark.timeout(900)
def test_a_stream_needs_no_spark_context_and_goes_on_in_another_process(tmp_path: Path, server: str):
    folder, home = tmp_path / "arrives here", tmp_path / "remote"
    folder.mkdir()
    write_csv(transactions(200, seed=1, fraud_rate=0.1), folder / "a.csv")
    first = ran(STREAM, home, server, str(folder))
    assert first == {"session": "pyspark.sql.connect.session", "added": ["a.csv"], "rows": 200}
    write_csv(transactions(200, seed=2, fraud_rate=0.1), folder / "b.csv")
    assert ran(STREAM, home, server, str(folder))["added"] == ["b.csv"]
    assert ran(STREAM, home, server, str(folder))["added"] == []
    loaded = DeltaTable(str(home / "lakehouse" / "raw_transactions")).to_pandas()
    expected = pd.concat([pd.read_csv(folder / name) for name in ("a.csv", "b.csv")]).rename(columns=str.lower)
    assert sorted(loaded["amount"]) == pytest.approx(sorted(expected["amount"]))
