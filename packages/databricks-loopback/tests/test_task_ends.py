"""How a submitted task ends, by itself and by force. Each runs for real, in its own processes; none touches Spark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import TerminationReasonCode
from databricks.sdk.service.jobs import (
    Run,
    RunLifeCycleState,
    SparkPythonTask,
    SubmitTask,
    TaskDependency,
    TerminationCodeCode,
)

from databricks_loopback import Workspace, start_failures
from databricks_loopback.driving import (
    SUCCESS,
    cluster_id,
    output,
    processes,
    python_task,
    run_code,
    small_cluster,
    states,
    submit,
    wait_for_end,
    wait_for_text,
    wait_until,
)

# A task that starts a process in a session of its own, says that it runs, and waits. The length of the sleep marks it.
SLEEPER = """
import os, subprocess, sys, time
folder, marker = sys.argv[1:]
subprocess.Popen(["sleep", marker], start_new_session=True)
os.makedirs(f"/dbfs{folder}")
open(f"/dbfs{folder}/running", "w").write("yes")
time.sleep(60)
"""


def test_states_go_from_pending_to_terminated(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.slow_start(0.5)
    run_id = submit(client, python_task("import time; time.sleep(0.5)", client), run_name="stages")
    seen: list[RunLifeCycleState | None] = []

    def ended(run: Run) -> bool:
        state = run.state.life_cycle_state if run.state else None
        if state not in seen:
            seen.append(state)
        return bool(run.state and run.state.result_state)

    run = wait_until(client, run_id, ended)
    expected = [RunLifeCycleState.PENDING, RunLifeCycleState.RUNNING, RunLifeCycleState.TERMINATED]
    assert [state for state in seen if state != RunLifeCycleState.TERMINATING] == expected
    assert run.run_page_url == f"{workspace.host}/?o=1234567890123456#job/{run.job_id}/run/{run_id}"
    assert (run.run_name, run.creator_user_name) == ("stages", "engineer@example.com")
    assert run.tasks is not None
    assert run.tasks[0].setup_duration is not None
    assert run.tasks[0].setup_duration >= 500
    assert client.clusters.get(cluster_id(run)).termination_reason is not None


def test_exception_fails_the_run_with_its_trace(client: WorkspaceClient):
    run, result = run_code(client, "print('before')\ndef f():\n    raise ValueError('no ünicode')\nf()")
    message = "Task main failed with message: Workload failed, see run output for details."
    assert states(run) == ("INTERNAL_ERROR", "FAILED", message)
    assert result.error == "ValueError: no ünicode"
    assert result.error_trace is not None
    assert "line 3, in f" in result.error_trace
    assert "driver.py" not in result.error_trace
    assert (result.logs or "").startswith("before\nTraceback")
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code == TerminationCodeCode.RUN_EXECUTION_ERROR


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "import sys; sys.exit(3)", "def ("])
def test_exit_and_broken_source_fail_the_run(client: WorkspaceClient, code: str):
    run, result = run_code(client, code)
    assert states(run)[1] == "FAILED"
    assert (result.error or "").startswith(("SystemExit: ", "SyntaxError: "))


def test_driver_that_dies_is_out_of_reach(client: WorkspaceClient):
    run, result = run_code(client, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    lost = f"Could not reach driver of cluster {cluster_id(run)}"
    assert states(run) == ("INTERNAL_ERROR", "FAILED", f"Task main failed with message: {lost}.")
    assert result.error == f"{lost}."
    reason = client.clusters.get(cluster_id(run)).termination_reason
    assert reason is not None
    assert reason.code == TerminationReasonCode.DRIVER_UNREACHABLE


def test_missing_file_fails_the_run(client: WorkspaceClient):
    file = SparkPythonTask(python_file="dbfs:/none.py")
    task = SubmitTask(task_key="main", new_cluster=small_cluster(), spark_python_task=file)
    run = wait_for_end(client, submit(client, task))
    assert states(run)[1] == "FAILED"
    assert "Cannot read the python file dbfs:/none.py" in states(run)[2]


def test_cancel_kills_every_process_of_the_task(client: WorkspaceClient):
    run_id = submit(client, python_task(SLEEPER, client, "/cancel", "4001.25"))
    wait_for_text(client, "/cancel/running")
    assert processes("sleep 4001.25")
    asked = time.monotonic()
    client.jobs.cancel_run(run_id)
    run = wait_for_end(client, run_id)
    assert time.monotonic() - asked < 5
    assert states(run) == ("TERMINATED", "CANCELED", "Run cancelled.")
    assert run.state is not None
    assert run.state.user_cancelled_or_timedout
    assert processes("sleep 4001.25") == []
    client.jobs.cancel_run(run_id)  # cancelling what is over changes nothing
    assert states(client.jobs.get_run(run_id))[1] == "CANCELED"


def test_cancel_while_pending_starts_nothing(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.slow_start(60)
    run_id = submit(client, python_task("open('/dbfs/never', 'w')", client))
    wait_until(client, run_id, lambda run: bool(run.tasks and run.tasks[0].cluster_instance))
    client.jobs.cancel_run(run_id)
    assert states(wait_for_end(client, run_id))[1] == "CANCELED"
    assert not client.dbfs.exists("/never")


@pytest.mark.parametrize("of_task", [True, False])
def test_timeout_ends_the_run(client: WorkspaceClient, of_task: bool):
    task = python_task("import time; time.sleep(60)", client, timeout_seconds=1 if of_task else None)
    run = wait_for_end(client, submit(client, task, timeout_seconds=60 if of_task else 1))
    assert states(run) == ("TERMINATED", "TIMEDOUT", "Run timed out.")
    assert run.state is not None
    assert run.state.user_cancelled_or_timedout


def test_spot_loss_kills_the_driver(workspace: Workspace, client: WorkspaceClient):
    run_id = submit(client, python_task(SLEEPER, client, "/spot", "4002.25"))
    wait_for_text(client, "/spot/running")
    assert processes("sleep 4002.25")
    workspace.clusters.get(cluster_id(client.jobs.get_run(run_id))).lose()
    run = wait_for_end(client, run_id)
    assert states(run)[:2] == ("INTERNAL_ERROR", "FAILED")
    assert "Could not reach driver of cluster" in states(run)[2]
    cluster = client.clusters.get(cluster_id(run))
    assert cluster.termination_reason is not None
    assert cluster.termination_reason.code == TerminationReasonCode.SPOT_INSTANCE_TERMINATION
    assert processes("sleep 4002.25") == []


def test_spot_loss_by_the_clock(workspace: Workspace, client: WorkspaceClient):
    workspace.faults.spot_loss(after_s=0.2)
    run, result = run_code(client, "import time; time.sleep(60)")
    assert states(run)[:2] == ("INTERNAL_ERROR", "FAILED")
    assert (result.error or "").startswith("Could not reach driver of cluster")
    assert states(run_code(client, "pass")[0]) == SUCCESS, "the next one lives"


@pytest.mark.parametrize(
    "failure",
    [
        start_failures.STOCKOUT,
        start_failures.QUOTA,
        start_failures.POOL_FULL,
        start_failures.POOL_GONE,
        start_failures.NODE_TYPE,
    ],
    ids=lambda failure: failure.code,
)
def test_cluster_that_does_not_start(
    workspace: Workspace, client: WorkspaceClient, failure: start_failures.StartFailure
):
    workspace.faults.start_failure(failure)
    run, result = run_code(client, "open('/dbfs/never', 'w')")
    cluster = client.clusters.get(cluster_id(run))
    assert cluster.termination_reason is not None
    assert cluster.termination_reason.code == TerminationReasonCode[failure.code]
    assert cluster.termination_reason.parameters == failure.parameters
    assert (cluster.state_message or "").startswith(failure.text)
    assert states(run)[:2] == ("INTERNAL_ERROR", "FAILED")
    assert f"{failure.code} ({failure.type})" in states(run)[2]
    assert result.error is not None
    assert not client.dbfs.exists("/never")


def test_tasks_wait_for_those_they_depend_on(client: WorkspaceClient):
    first = python_task("open('/dbfs/order', 'w').write('first')", client, key="first")
    second = python_task(
        "print(open('/dbfs/order').read())", client, key="second", depends_on=[TaskDependency(task_key="first")]
    )
    run = wait_for_end(client, submit(client, first, second))
    assert states(run) == SUCCESS
    assert output(client, run, 1).logs == "first\n"
    broken = python_task("1 / 0", client, key="first")
    run = wait_for_end(client, submit(client, broken, second))
    assert states(run)[2].endswith("see run output for details. This caused all downstream tasks to get skipped.")
    assert run.tasks is not None
    assert run.tasks[1].state is not None
    assert run.tasks[1].state.life_cycle_state == RunLifeCycleState.SKIPPED


def test_end_of_the_workspace_ends_its_tasks(tmp_path: Path):
    with Workspace(tmp_path) as workspace:
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        run_id = submit(client, python_task(SLEEPER, client, "/end", "4003.25"))
        wait_for_text(client, "/end/running")
        assert processes("sleep 4003.25")
    assert processes("sleep 4003.25") == []
    folder = workspace.runs.get(run_id).tasks[0].folder
    assert sorted(path.name for path in folder.iterdir()) == ["stderr", "stdout"], "the machine left nothing behind"


def test_workspace_that_is_killed_leaves_no_process(tmp_path: Path):
    owner = f"""
    import sys
    from pathlib import Path
    from databricks.sdk import WorkspaceClient
    from databricks_loopback import Workspace
    from databricks_loopback.driving import python_task, submit, wait_for_text

    with Workspace(Path({str(tmp_path)!r})) as workspace:
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        submit(client, python_task({SLEEPER!r}, client, "/killed", "4004.25"))
        wait_for_text(client, "/killed/running")
        print("ready", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(owner)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert processes("sleep 4004.25")
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes("sleep 4004.25"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
