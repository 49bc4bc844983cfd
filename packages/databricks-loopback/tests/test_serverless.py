"""Serverless compute: what a submission must say, what a task sees, and a real Spark Connect session in it."""

from __future__ import annotations

import io
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.compute import Environment, Library, PythonPyPiLibrary
from databricks.sdk.service.jobs import JobEnvironment, Run, RunOutput, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat

from databricks_loopback import Workspace
from databricks_loopback.driving import SUCCESS, output, run_code, small_cluster, states, submit, wait_for_end

SCRIPT = "/Users/engineer@example.com/serverless.py"


def environment(version: str = "5", *dependencies: str, key: str = "default") -> JobEnvironment:
    spec = {"environment_version": version, "dependencies": list(dependencies)}
    return JobEnvironment(environment_key=key, spec=Environment.from_dict(spec))


def task(code: str, client: WorkspaceClient, **fields: Any) -> SubmitTask:
    content = io.BytesIO(textwrap.dedent(code).encode())
    client.workspace.upload(SCRIPT, content, format=ImportFormat.AUTO, overwrite=True)
    file = SparkPythonTask(python_file=f"/Workspace{SCRIPT}")
    named: dict[str, Any] = {"environment_key": "default", "spark_python_task": file, **fields}
    return SubmitTask(task_key="main", **named)


def ran(code: str, client: WorkspaceClient, *dependencies: str) -> tuple[Run, RunOutput]:
    run_id = submit(client, task(code, client), environments=[environment("5", *dependencies)])
    run = wait_for_end(client, run_id, seconds=240)
    return run, output(client, run)


def test_a_task_has_no_cluster_and_sees_no_context(client: WorkspaceClient):
    code = """
    import json, os
    variables = [os.environ.get(name) for name in ("DATABRICKS_RUNTIME_VERSION", "IS_SERVERLESS", "DB_CLUSTER_ID")]
    print(json.dumps([sorted(set(globals()) & {"spark", "sc", "dbutils"}), os.path.exists("/dbfs"), *variables]))
    """
    before = len(list(client.clusters.list()))
    run, result = ran(code, client)
    assert states(run) == SUCCESS, result.error
    assert json.loads(result.logs or "") == [["dbutils", "spark"], False, "client.5.0", "TRUE", None]
    assert run.tasks is not None
    assert run.tasks[0].cluster_instance is None
    assert len(list(client.clusters.list())) == before


def test_dependencies_are_lines_of_pip(client: WorkspaceClient):
    path = "/Users/engineer@example.com/requirements.txt"
    client.workspace.upload(path, io.BytesIO(b"packaging>=20\n"), format=ImportFormat.AUTO, overwrite=True)
    run, _ = ran("import packaging", client, f"-r /Workspace{path}", "databricks_sdk")
    assert states(run) == SUCCESS
    run, _ = ran("pass", client, "no-such-package")
    assert "No matching distribution found for no-such-package" in states(run)[2]


@pytest.mark.parametrize(
    ("fields", "environments", "said"),
    [
        ({}, [], "environment_key default is not one of the environments"),
        ({"environment_key": None}, [environment()], "must be specified, or environment_key for serverless compute"),
        ({}, [environment("99")], "Environment version 99 is not supported"),
        ({}, [environment(), environment()], "Environment keys must be unique"),
        ({"libraries": [Library(pypi=PythonPyPiLibrary("x"))]}, [environment()], "Libraries field is not supported"),
        ({"new_cluster": small_cluster()}, [environment()], "the task names a cluster"),
        ({"spark_python_task": SparkPythonTask("dbfs:/x.py")}, [environment()], "DBFS is not available on serverless"),
    ],
)
def test_what_the_jobs_api_refuses(
    client: WorkspaceClient, fields: dict[str, Any], environments: list[JobEnvironment], said: str
):
    with pytest.raises(DatabricksError, match=said):
        submit(client, task("pass", client, **fields), environments=environments)


SPARK = """
import json, os, sys
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

seen = {"one": SparkSession.builder.getOrCreate().version == spark.version}
seen["kind"] = type(SparkSession.getActiveSession()).__module__
rows = spark.range(10).withColumn("half", F.col("id") / 2)
rows.write.format("delta").option("userMetadata", "the note").saveAsTable("serverless_numbers")
seen["rows"] = spark.table("serverless_numbers").count()
seen["note"] = spark.sql("DESCRIBE HISTORY serverless_numbers").first()["userMetadata"]

def refused(call):
    try:
        call()
    except Exception as error:
        return str(error)[:60]

seen["refused"] = [
    refused(lambda: spark.sparkContext),
    refused(lambda: rows.persist()),
    refused(lambda: spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", "x")),
    refused(lambda: __import__("pyspark").SparkContext()),
    refused(lambda: spark.conf.set("spark.sql.shuffle.partitions", "3")),
]
print(json.dumps(seen))
"""


@pytest.mark.proof  # a start of a Spark Connect server
def test_spark_is_a_connect_session_with_the_platforms_refusals(workspace: Workspace, client: WorkspaceClient):
    run, result = ran(SPARK, client)
    assert states(run) == SUCCESS, result.error_trace
    seen = json.loads((result.logs or "").splitlines()[0])
    assert seen["one"]
    assert seen["kind"] == "pyspark.sql.connect.session"
    assert (seen["rows"], seen["note"]) == (10, "the note")
    context, caching, setting, classic, allowed = seen["refused"]
    assert "sparkContext" in context
    assert caching.startswith("[NOT_SUPPORTED_WITH_SERVERLESS]")
    assert setting.startswith("[CONFIG_NOT_AVAILABLE]")
    assert "serverless compute" in classic or "JVM_ATTRIBUTE" in classic
    assert allowed is None


@pytest.mark.proof  # two starts of Spark
def test_tables_of_a_cluster_are_there_on_serverless_compute(tmp_path: Path, delta_jars: tuple[Path, ...]):
    write = "spark.range(4).write.format('delta').saveAsTable('kept'); print(spark.table('kept').count())"
    read = "print(spark.catalog.tableExists('kept'), spark.catalog.tableExists('none'), spark.table('kept').count())"
    tag = "spark.sql(\"ALTER TABLE spark_catalog.default.kept SET TAGS ('a' = 'b')\")"
    with Workspace(tmp_path, delta_jars=delta_jars, metastore=True) as workspace:
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        run, result = run_code(client, write)
        assert states(run) == SUCCESS, result.error_trace
        run, result = ran(f"{read}\n{tag}", client)
        assert states(run) == SUCCESS, result.error_trace
        assert (result.logs or "").splitlines()[0] == "True False 4"
        assert workspace.table_tags == {"spark_catalog.default.kept": {"a": "b"}}
