"""Notebooks as tasks: their widgets, and one that is not there."""

from __future__ import annotations

import base64

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import NotebookTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat, Language

from databricks_loopback.driving import SUCCESS, output, small_cluster, states, submit, wait_for_end

SOURCE = b"""# Databricks notebook source
name = dbutils.widgets.get("name")
# COMMAND ----------
lines = [f"hello {name} {sorted(dbutils.widgets.getAll())}"]
try:
    dbutils.widgets.get("other")
except Exception as error:
    lines.append(str(error))
dbutils.fs.put("dbfs:/greeting", "|".join(lines), True)
"""


def task(path: str, **parameters: str) -> SubmitTask:
    notebook = NotebookTask(notebook_path=path, base_parameters=parameters)
    return SubmitTask(task_key="main", new_cluster=small_cluster(), notebook_task=notebook)


def test_a_notebook_reads_its_parameters_as_widgets(client: WorkspaceClient):
    content = base64.b64encode(SOURCE).decode()
    client.workspace.import_("/Shared/greeting", content=content, format=ImportFormat.SOURCE, language=Language.PYTHON)
    run = wait_for_end(client, submit(client, task("/Shared/greeting", name="you")))
    assert states(run) == SUCCESS, output(client, run).error
    assert output(client, run).logs is None, "the Jobs API has none for notebooks"
    lines = client.dbfs.download("/greeting").read().decode().split("|")
    assert lines[0] == "hello you ['name']"
    assert "No input widget named other is defined" in lines[1]


def test_a_notebook_that_is_not_there_fails_the_run(client: WorkspaceClient):
    run = wait_for_end(client, submit(client, task("/Shared/nothing")))
    assert run.state is not None
    tasks = run.tasks or []
    assert 'Unable to access the notebook "/Shared/nothing"' in str(tasks[0].state and tasks[0].state.state_message)
