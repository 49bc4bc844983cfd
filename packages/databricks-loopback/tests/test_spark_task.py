"""A task with Spark and Delta: the session, the paths, and what comes back. One start of Spark for all of it."""

from __future__ import annotations

import io
import json

import pyarrow.parquet
import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, small_cluster, states, submit, wait_for_end

TASK = """
import json, os, sys
assert "pyspark" not in sys.modules, "a task that needs no Spark must not pay for it"
from pyspark import SparkContext
from pyspark.sql import SparkSession

seen = {"before": isinstance(spark, SparkSession) and isinstance(sc, SparkContext)}
found = SparkSession.getActiveSession()
built = SparkSession.builder.master("local[7]").config("spark.sql.shuffle.partitions", "5").getOrCreate()
seen["one session"] = found is spark and built is spark and sc is spark.sparkContext
seen["conf"] = {name: spark.conf.get(name) for name in sys.argv[1:]}
seen["master"] = sc.master
seen["tag"] = spark.conf.get("spark.databricks.clusterUsageTags.clusterId") == os.environ["DB_CLUSTER_ID"]

spark.range(10).write.format("delta").save("dbfs:/lake/numbers")
spark.range(10, 15).write.format("delta").mode("append").save("/lake/numbers")
seen["rows"] = [spark.read.format("delta").option("versionAsOf", v).load("/lake/numbers").count() for v in (0, 1)]
seen["files"] = sorted(os.listdir("/dbfs/lake/numbers/_delta_log"))
spark.range(3).coalesce(1).write.parquet("/Volumes/main/spark/out/numbers")
open("/tmp/local.txt", "w").write("of the machine")
seen["text"] = [spark.read.text(path).first().value for path in ("file:/tmp/local.txt", "/lake/in.txt")]
workers = sc.parallelize([1, 2], 2).map(lambda n: [n, sys.executable, "DATABRICKS_RUNTIME_VERSION" in os.environ])
seen["workers"] = workers.collect()
with open("/dbfs/lake/seen.json", "w") as file:
    json.dump(seen, file)
"""


@pytest.mark.proof  # a start of Spark; `test_stock_launcher` and the platform's tests run tasks as well
def test_task_writes_delta_that_is_read_back(workspace: Workspace, client: WorkspaceClient):
    workspace.catalog.add_schema("main.spark")
    workspace.catalog.add_volume("main.spark.out")
    workspace.secrets.put("spark", "password", "back\\slash")
    client.dbfs.upload("/lake/in.txt", io.BytesIO(b"uploaded"))
    cluster = small_cluster(
        spark_conf={"spark.sql.ansi.enabled": "false", "spark.project.password": "{{secrets/spark/password}}"}
    )
    names = ("spark.sql.ansi.enabled", "spark.project.password", "spark.sql.shuffle.partitions")
    task = python_task(TASK, client, *names, new_cluster=cluster)
    run = wait_for_end(client, submit(client, task), seconds=120)
    assert run.tasks is not None
    assert run.tasks[0].run_id is not None
    result = client.jobs.get_run_output(run.tasks[0].run_id)
    assert states(run)[1] == "SUCCESS", (result.error_trace or "") + (result.logs or "")
    seen = json.loads(client.dbfs.download("/lake/seen.json").read())
    assert seen["before"]
    assert seen["one session"]
    assert list(seen["conf"].values()) == ["false", "back\\slash", "5"]
    assert seen["master"] == "local[2]", "the cluster's session was there before the task asked for one"
    assert seen["tag"]
    assert seen["rows"] == [10, 15]
    assert [name for name in seen["files"] if name.endswith(".json")] == [f"{n:020d}.json" for n in (0, 1)]
    assert seen["text"] == ["of the machine", "uploaded"]
    assert seen["workers"] == [[n, "/databricks/python3/bin/python3", True] for n in (1, 2)]
    # Read back by this process, through the storage and through the API.
    numbers = pyarrow.parquet.read_table(workspace.storage.volumes / "main" / "spark" / "out" / "numbers")
    assert sorted(numbers["id"].to_pylist()) == [0, 1, 2]
    assert client.dbfs.exists("/lake/numbers/_delta_log/00000000000000000001.json")
