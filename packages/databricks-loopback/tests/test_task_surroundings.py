"""What a submitted task sees: its surroundings, storage, secrets and libraries. None of these touches Spark."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import (
    ClusterLogConf,
    DataSecurityMode,
    DbfsStorageInfo,
    Library,
    PythonPyPiLibrary,
    TerminationReasonCode,
    VolumesStorageInfo,
)
from databricks.sdk.service.jobs import Source, SparkPythonTask, SubmitTask, TerminationCodeCode
from databricks.sdk.service.workspace import ImportFormat

from databricks_loopback import Workspace
from databricks_loopback.driving import (
    SUCCESS,
    cluster_id,
    output,
    run_code,
    small_cluster,
    states,
    submit,
    wait_for_end,
)

SURROUNDINGS = """
import importlib.util, json, os, sys
json.dump({
    "arguments": sys.argv, "path": sys.path, "variables": dict(os.environ), "here": os.getcwd(),
    "beside": os.listdir("."), "root": os.listdir("/"), "processes": [p for p in os.listdir("/proc") if p.isdigit()],
    "names": sorted(set(globals()) & {"spark", "sc", "dbutils", "__file__"}), "name": __name__,
    "editable": importlib.util.find_spec("databricks_loopback") is not None,
    "tests": importlib.util.find_spec("tests") is not None,
    "libraries": importlib.util.find_spec("pyspark") is not None,
}, sys.stdout)
"""


def test_task_sees_a_cluster_and_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, client: WorkspaceClient):
    monkeypatch.setenv("PARENT_SECRET", "leaked")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    cluster = small_cluster(spark_env_vars={"TEAM": "fraud", "LANG": "sv"})
    run, result = run_code(client, SURROUNDINGS, "--limit", "5 $x", new_cluster=cluster)
    assert states(run) == SUCCESS
    seen = json.loads(result.logs or "")
    assert seen["arguments"][1:] == ["--limit", "5 $x"]
    assert seen["arguments"][0].startswith("/dbfs/code/")
    assert (seen["name"], seen["names"]) == ("__main__", ["dbutils", "sc", "spark"])
    assert (seen["editable"], seen["tests"], seen["libraries"]) == (False, False, True)
    assert (seen["here"], seen["beside"]) == ("/databricks/driver", [])
    variables = seen["variables"]
    assert (variables["DATABRICKS_RUNTIME_VERSION"], variables["TEAM"], variables["LANG"]) == ("18.2", "fraud", "sv")
    assert "PARENT_SECRET" not in variables
    assert not [name for name in variables if name.startswith(("PYTEST", "VIRTUAL_ENV", "DAGSTER"))]
    assert not {"work", "home", "mnt", "srv"} & set(seen["root"])
    assert {"dbfs", "Volumes", "Workspace", "databricks"} <= set(seen["root"])
    assert len(seen["processes"]) < 10, "a process table of its own"
    assert not [entry for entry in seen["path"] if str(Path(__file__).parents[1]) in entry]


def test_only_what_was_uploaded_can_be_imported(client: WorkspaceClient):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("uploaded_project/__init__.py", "where = 'uploaded'\n")
    client.dbfs.upload("/code/project.zip", io.BytesIO(archive.getvalue()), overwrite=True)
    importing = "import sys; sys.path.insert(0, sys.argv[1]); import uploaded_project; print(uploaded_project.where)"
    without, failed = run_code(client, importing, "/nowhere")
    assert states(without)[1] == "FAILED"
    assert failed.error == "ModuleNotFoundError: No module named 'uploaded_project'"
    run, result = run_code(client, importing, "/dbfs/code/project.zip")
    assert states(run) == SUCCESS
    assert result.logs == "uploaded\n"


def test_storage_is_mounted_for_reading_and_writing(workspace: Workspace, client: WorkspaceClient):
    workspace.catalog.add_schema("main.tasks")
    workspace.catalog.add_volume("main.tasks.files")
    client.dbfs.upload("/in/a", io.BytesIO(b"from dbfs"), overwrite=True)
    client.files.upload("/Volumes/main/tasks/files/a", io.BytesIO(b"from a volume"))
    code = """
    import os
    os.makedirs("/dbfs/out", exist_ok=True)
    open("/dbfs/out/a", "w").write(open("/dbfs/in/a").read() + ", back")
    open("/Volumes/main/tasks/files/b", "w").write(open("/Volumes/main/tasks/files/a").read() + ", back")
    print(dbutils.fs.head("dbfs:/in/a"), [f.name for f in dbutils.fs.ls("/Volumes/main/tasks/files")])
    dbutils.fs.put("/out/b", "by dbutils")
    dbutils.fs.cp("dbfs:/out/b", "file:/tmp/b")
    print(open("/tmp/b").read(), dbutils.fs.rm("dbfs:/out/b"), dbutils.fs.rm("dbfs:/out/b"))
    """
    run, result = run_code(client, code)
    assert states(run) == SUCCESS, result.error
    assert result.logs == "from dbfs ['a', 'b']\nby dbutils True False\n"
    assert client.dbfs.download("/out/a").read() == b"from dbfs, back"
    contents = client.files.download("/Volumes/main/tasks/files/b").contents
    assert contents is not None
    assert contents.read() == b"from a volume, back"


@pytest.mark.parametrize("with_prefix", [True, False])
def test_file_of_the_workspace_is_run(client: WorkspaceClient, with_prefix: bool):
    path = "/Users/engineer@example.com/task.py"
    source = b"import sys; print(sys.argv[0])"
    client.workspace.upload(path, io.BytesIO(source), format=ImportFormat.AUTO, overwrite=True)
    file = SparkPythonTask(python_file=("/Workspace" if with_prefix else "") + path, source=Source.WORKSPACE)
    task = SubmitTask(task_key="main", new_cluster=small_cluster(), spark_python_task=file)
    run = wait_for_end(client, submit(client, task))
    assert output(client, run).logs == f"/Workspace{path}\n"


def test_secrets_reach_the_task(workspace: Workspace, client: WorkspaceClient):
    workspace.secrets.put("prod", "token", "s3cret")
    code = """
    import os
    print(os.environ["TOKEN"], dbutils.secrets.get("prod", "token"), dbutils.secrets.get(scope="prod", key="token"))
    print(dbutils.secrets.list("prod"), [scope.name for scope in dbutils.secrets.listScopes() if scope.name == "prod"])
    try:
        dbutils.secrets.get("prod", "other")
    except Exception as error:
        print(error)
    """
    cluster = small_cluster(spark_env_vars={"TOKEN": "{{secrets/prod/token}}"})
    run, result = run_code(client, code, new_cluster=cluster)
    assert states(run) == SUCCESS, result.error
    first, listed, error = (result.logs or "").splitlines()
    assert first == "s3cret s3cret s3cret"
    assert listed == "[SecretMetadata(key='token')] ['prod']"
    assert "Secret does not exist with scope: prod and key: other" in error
    shown = client.clusters.get(cluster_id(run)).spark_env_vars
    assert shown == {"TOKEN": "{{secrets/prod/token}}"}, "the API never shows the value"


def test_environment_variables_are_exported_as_they_are(client: WorkspaceClient):
    code = "import os; print(os.environ['A'], os.environ.get('B'))"
    run, result = run_code(client, code, new_cluster=small_cluster(spark_env_vars={"A": '"$HOME"'}))
    assert states(run) == SUCCESS, result.error
    assert result.logs == '"$HOME" None\n'
    run, result = run_code(client, code, new_cluster=small_cluster(spark_env_vars={"A": "1' B='2"}))
    assert result.logs == "1 2\n", "a quote ends the value"
    run, _ = run_code(client, code, new_cluster=small_cluster(spark_env_vars={"A": "it's"}))
    assert "SPARK_STARTUP_FAILURE (SERVICE_FAULT)" in states(run)[2]


def test_a_volume_holds_no_table(workspace: Workspace, client: WorkspaceClient):
    workspace.catalog.add_schema("main.tables")
    workspace.catalog.add_volume("main.tables.files")
    code = "import os, sys; os.makedirs(sys.argv[1] + '/_delta_log')"
    run, _ = run_code(client, code, "/Volumes/main/tables/files/t")
    assert "/Volumes/main/tables/files/t: volumes can't hold tables" in states(run)[2]
    assert client.dbfs.exists("/t") is False
    run, _ = run_code(client, code, "/dbfs/t")
    assert states(run) == SUCCESS


def test_unknown_secret_stops_the_cluster(client: WorkspaceClient):
    run, _ = run_code(client, "pass", new_cluster=small_cluster(spark_conf={"spark.x": "{{secrets/no/such}}"}))
    assert "SECRET_RESOLUTION_ERROR (SERVICE_FAULT)" in states(run)[2]
    reason = client.clusters.get(cluster_id(run)).termination_reason
    assert reason is not None
    assert reason.code == TerminationReasonCode.SECRET_RESOLUTION_ERROR


def test_libraries_are_checked_and_wheels_unpacked(client: WorkspaceClient):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("shipped.py", "word = 'from the wheel'\n")
    client.dbfs.upload("/lib/shipped-1-py3-none-any.whl", io.BytesIO(wheel.getvalue()), overwrite=True)
    requirements = b"# pinned\n--index-url x\ndagster\nnone; python_version < '3'\n"
    client.workspace.upload("/Users/engineer@example.com/requirements.txt", io.BytesIO(requirements), overwrite=True,
                            format=ImportFormat.AUTO)  # fmt: skip
    client.dbfs.upload("/lib/requirements.txt", io.BytesIO(requirements), overwrite=True)
    good = [
        Library(pypi=PythonPyPiLibrary(package="dagster>=1")),
        Library(whl="dbfs:/lib/shipped-1-py3-none-any.whl"),
        Library(requirements="/Workspace/Users/engineer@example.com/requirements.txt"),
    ]
    run, result = run_code(client, "import shipped; print(shipped.word)", libraries=good)
    assert (states(run), result.logs) == (SUCCESS, "from the wheel\n")
    for bad, why in (
        (Library(pypi=PythonPyPiLibrary(package="dagster==0.0.1")), "the loopback workspace has dagster"),
        (Library(pypi=PythonPyPiLibrary(package="no-such-thing")), "No matching distribution"),
        (Library(pypi=PythonPyPiLibrary(package="a b")), "invalid requirement"),
        (Library(whl="dbfs:/lib/none-py3-none-any.whl"), "file not found"),
        (Library(whl="dbfs:/lib/requirements.txt"), "only pure wheels"),
        (Library(requirements="dbfs:/lib/requirements.txt"), "workspace files and volumes only"),
        (Library(jar="dbfs:/lib/a.jar"), "no source for jar libraries"),
    ):
        run, _ = run_code(client, "pass", libraries=[bad])
        assert states(run)[:2] == ("INTERNAL_ERROR", "FAILED")
        assert why in states(run)[2]
        assert run.status is not None
        assert run.status.termination_details is not None
        assert run.status.termination_details.code == TerminationCodeCode.LIBRARY_INSTALLATION_ERROR


def test_logs_are_delivered(workspace: Workspace, client: WorkspaceClient):
    workspace.catalog.add_schema("main.logs")
    workspace.catalog.add_volume("main.logs.cluster")
    for conf, root in (
        (ClusterLogConf(dbfs=DbfsStorageInfo("dbfs:/cluster-logs")), workspace.storage.dbfs / "cluster-logs"),
        (
            ClusterLogConf(volumes=VolumesStorageInfo("/Volumes/main/logs/cluster")),
            workspace.storage.volumes / "main" / "logs" / "cluster",
        ),
    ):
        code = "import sys; print('out'); print('err', file=sys.stderr)"
        run, _ = run_code(client, code, new_cluster=small_cluster(cluster_log_conf=conf))
        delivered = root / cluster_id(run) / "driver"
        assert (delivered / "stdout").read_text() == "out\n"
        assert (delivered / "stderr").read_text() == "err\n"


def test_existing_cluster_is_used_and_stays(client: WorkspaceClient):
    made = client.clusters.create(
        spark_version="17.3.x-scala2.13", node_type_id="i3.xlarge", num_workers=0, spark_env_vars={"A": "1"}
    ).result()
    code = "import os; print(os.environ['A'], os.environ['DATABRICKS_RUNTIME_VERSION'])"
    run, result = run_code(client, code, existing_cluster_id=made.cluster_id)
    assert (states(run), result.logs) == (SUCCESS, "1 17.3\n")
    assert cluster_id(run) == made.cluster_id
    assert client.clusters.get(cluster_id(run)).termination_reason is None


def test_shared_access_mode_has_neither_context_nor_mount(client: WorkspaceClient):
    cluster = small_cluster(data_security_mode=DataSecurityMode.USER_ISOLATION)
    source = b"import os\nprint(os.path.exists('/dbfs'))\nsc"
    client.workspace.upload("/Shared/shared.py", io.BytesIO(source), format=ImportFormat.AUTO)
    file = SparkPythonTask(python_file="/Workspace/Shared/shared.py")
    task = SubmitTask(task_key="main", new_cluster=cluster, spark_python_task=file)
    result = output(client, wait_for_end(client, submit(client, task)))
    assert result.error == "NameError: name 'sc' is not defined"
    assert (result.logs or "").startswith("False\n")


def test_workspace_without_dbfs_mounts_none(tmp_path: Path):
    with Workspace(tmp_path, dbfs=False) as workspace, workspace.faults.no_dbfs():
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        source = b"import os; print(os.path.exists('/dbfs'))"
        client.workspace.upload("/Shared/a.py", io.BytesIO(source), format=ImportFormat.AUTO)
        file = SparkPythonTask(python_file="/Workspace/Shared/a.py")
        task = SubmitTask(task_key="main", new_cluster=small_cluster(), spark_python_task=file)
        assert output(client, wait_for_end(client, submit(client, task))).logs == "False\n"
