"""One attempt of a step makes one run, whatever happens to the answer, and none that nobody watches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from databricks.sdk.service import jobs
from hypothesis import given
from hypothesis import strategies as st

from databricks_loopback import Workspace
from databricks_loopback.schema import check_call
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.profile import SHIPPED, load_profile
from mlops_assets.resources.launcher import launch_spec
from mlops_assets_tests.databricks.launch.driving import CLUSTER, Driver, is_idle, wait_until

SUBMIT = "/api/2.2/jobs/runs/submit"
ATTEMPT = Attempt("0b1f2c3d-0000-4000-8000-000000000000", "main_job", "tuned[model]", 1, ("tuned_model",))


def runs_of(driver: Driver) -> int:
    bodies = [call.body or {} for call in driver.workspace.calls.matching("POST", SUBMIT)]
    names = {body["run_name"] for body in bodies}
    assert len({body["idempotency_token"] for body in bodies}) == len(names)
    return sum(run.name in names for run in driver.workspace.runs)


@pytest.mark.parametrize("fault", ["lose_answer", "drop", "unavailable", "server_error", "throttle"])
def test_trouble_at_the_submit_makes_one_run(volume: Driver, fault: str):
    getattr(volume.workspace.faults, fault)(SUBMIT, times=2)
    outcome = volume.run("nothing")
    assert outcome.success, outcome.messages()
    assert len(volume.workspace.calls.matching("POST", SUBMIT)) == 3
    assert runs_of(volume) == 1


def test_run_whose_submission_was_never_answered_is_cancelled(volume: Driver):
    with volume.workspace.faults.lose_answer(SUBMIT, times=None):  # type: ignore[arg-type]
        outcome = volume.run("sleeper", retry_seconds=3)
    assert "does not answer" in outcome.failure_text
    assert runs_of(volume) == 1
    wait_until(lambda: is_idle(volume.workspace), seconds=5, what="the accepted run has ended")


def test_interrupt_in_the_middle_of_the_submit_leaves_no_run(workspace: Workspace):
    class Interrupted(Api):
        def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
            answer = super().call(method, path, **arguments)
            if path == SUBMIT:
                raise KeyboardInterrupt
            return answer

    api = Interrupted(Credentials(workspace.host, workspace.token))
    workspace.storage.in_dbfs("/wait.py").write_text("import time; time.sleep(600)", "utf-8")
    body = submission.submission(LaunchSpec(CLUSTER), ATTEMPT, python_file="dbfs:/wait.py", parameters=[])
    with pytest.raises(KeyboardInterrupt):
        submission.submit(api, body)
    wait_until(lambda: is_idle(workspace), seconds=5, what="the accepted run has ended")


@pytest.mark.parametrize("fault", ["throttle", "server_error", "unavailable", "drop", "lose_answer"])
def test_trouble_anywhere_else_does_no_harm(driver: Driver, fault: str):
    for path in ("*/jobs/runs/get", "*/chunk-*" if driver.kind == "volume" else "*/dbfs/read"):
        getattr(driver.workspace.faults, fault)(path, times=1)
    for path in ("*/fs/files/*", "*/workspace/*") if driver.kind == "volume" else ("*/dbfs/put",):
        getattr(driver.workspace.faults, fault)(path, times=1)
    outcome = driver.run("nothing")
    assert outcome.success, outcome.messages()
    assert len(outcome.metadata) > 0
    assert runs_of(driver) == 1


def test_permissions(volume: Driver):
    volume.workspace.faults.slow_start(0.5)
    outcome = volume.run(
        "nothing",
        job_permissions=[{"service_principal_name": "app-id", "permission_level": "CAN_VIEW"}],
        cluster_permissions=[{"group_name": "data", "permission_level": "CAN_ATTACH_TO"}],
    )
    assert outcome.success, outcome.messages()
    (submitted,) = volume.workspace.calls.matching("POST", SUBMIT)
    assert submitted.body is not None
    assert submitted.body["access_control_list"][0]["service_principal_name"] == "app-id"
    (granted,) = volume.workspace.calls.matching("PATCH", "/api/2.0/permissions/clusters/*")
    assert granted.body == {"access_control_list": [{"group_name": "data", "permission_level": "CAN_ATTACH_TO"}]}


def test_permissions_that_can_not_be_set_after_the_submit_are_a_warning(volume: Driver):
    """The stock launcher raises here, and its run goes on with nobody watching."""
    outcome = volume.run("nothing", cluster_permissions=[{"group_name": "data", "permission_level": "CAN_FLY"}])
    assert outcome.success, outcome.messages()
    assert outcome.says("could not be set; the run goes on")


def test_job_permissions_that_can_not_be_set_start_nothing(volume: Driver):
    outcome = volume.run("nothing", job_permissions=[{"group_name": "data", "permission_level": "CAN_FLY"}])
    assert "CAN_FLY" in outcome.failure_text
    assert is_idle(volume.workspace)


def test_body():
    spec = LaunchSpec(
        {**CLUSTER, "custom_tags": {"cost_centre": "42"}, "spark_env_vars": {"A": "1", "B": "1"}},
        libraries=[{"pypi": {"package": "dagster==1.0"}}],
        env={"B": "2"},
        secrets={"C": "scope/key"},
        timeout_seconds=60,
    )
    body = submission.submission(spec, ATTEMPT, python_file="/Workspace/x.py", parameters=["/Volumes/a"])
    (task,) = body["tasks"]
    assert task["new_cluster"]["spark_env_vars"] == {"A": "1", "B": "1"}, "env and secrets are in the request"
    assert task["new_cluster"]["custom_tags"] == {
        "cost_centre": "42",
        "dagster_run": ATTEMPT.dagster_run,
        "dagster_job": "main_job",
        "dagster_step": "tuned_model_",
        "asset": "tuned_model",
    }
    assert task["libraries"] == [{"pypi": {"package": "dagster==1.0"}}]
    assert (body["timeout_seconds"], len(body["idempotency_token"])) == (60, 64)
    assert "budget_policy_id" not in body
    assert "custom_tags" not in CLUSTER, "the spec stays as it was"


@pytest.mark.parametrize("staging", ["volume", "dbfs"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_submission_is_the_object_that_the_sdk_knows(name: str, staging: str):
    """Nothing is lost or mistyped on the way through the data classes of databricks-sdk."""
    environ = {"HOST": "https://example.cloud.databricks.com", "STAGING": staging, "BUDGET_POLICY_ID": "b-1"}
    environ |= {"CLUSTERS__LOADER__NODE_TYPE": "i3.xlarge", "PACKAGE_INDEX": "https://pypi.example.com/simple"}
    profile = load_profile(name, {f"MLOPS_DATABRICKS_{field}": value for field, value in environ.items()})
    spec = launch_spec(profile, "loader", env={"A": "1"})
    uploaded = [{"requirements": "/Workspace/Users/a@b.c/requirements-1.txt"}] if spec.requirements else []
    body = submission.submission(spec, ATTEMPT, python_file="/Workspace/x.py", parameters=["x"], libraries=uploaded)

    (task,) = body["tasks"]
    assert jobs.SubmitTask.from_dict(task).as_dict() == task
    check_call(body, jobs.JobsAPI.submit)
    assert body["budget_policy_id"] == "b-1"
    if staging == "volume":
        assert task["libraries"] == uploaded
        assert spec.requirements.splitlines()[1] == "--index-url https://pypi.example.com/simple"
    else:
        assert {library["pypi"]["repo"] for library in task["libraries"]} == {"https://pypi.example.com/simple"}


def test_an_existing_cluster_gets_no_tags():
    spec = LaunchSpec({}, existing_cluster_id="0101-1")
    body = submission.submission(spec, ATTEMPT, python_file="/Workspace/x.py", parameters=[])
    assert "new_cluster" not in body["tasks"][0]
    assert "custom_tags" not in str(body)


@given(
    assets=st.lists(st.text(min_size=1), max_size=40),
    job=st.text(min_size=1),
    step=st.text(min_size=1, max_size=300),
)
def test_tags_are_what_every_cloud_takes(assets: list[str], job: str, step: str):
    tags = Attempt(ATTEMPT.dagster_run, job, step, 0, tuple(assets)).tags
    assert tags["dagster_run"] == ATTEMPT.dagster_run
    assert ("asset" in tags) == bool(assets)
    for name, value in tags.items():
        assert re.fullmatch(r"[a-z][a-z_]*", name)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)


def test_tags_name_all_assets_of_the_step():
    assets = ("test_set", "train_set", "Team/validation_set")
    tags = Attempt("run", "__ASSET_JOB", "splits", 0, assets).tags
    assert tags == {
        "dagster_run": "run",
        "dagster_job": "__asset_job",
        "dagster_step": "splits",
        "asset": "test_set-train_set-team_validation_set",
    }


@given(step=st.text(min_size=1, max_size=300))
def test_the_folder_of_an_attempt_is_a_file_name_of_its_own(step: str):
    one, two = Attempt("run", "job", step, 0).folder, Attempt("run", "job", f"{step}[", 0).folder
    assert re.fullmatch(r"run/[\w.-]{1,109}-0", one)
    assert one != two


@pytest.mark.parametrize(
    "change", [{"dagster_run": "other"}, {"step": "other"}, {"number": 2}], ids=lambda change: next(iter(change))
)
def test_each_attempt_has_a_token_of_its_own(change: Mapping[str, Any]):
    fields = {"dagster_run": "run", "job": "job", "step": "step", "number": 1}
    same, other = Attempt(**fields), Attempt(**{**fields, **change})  # type: ignore[arg-type]
    assert same.token == Attempt(**fields).token  # type: ignore[arg-type]
    assert other.token != same.token


def test_run_name_leads_back_to_the_dagster_run():
    assert Attempt.dagster_run_of(ATTEMPT.run_name) == ATTEMPT.dagster_run
    assert Attempt.dagster_run_of("nightly [dagster is nice]") is None
    assert Attempt.dagster_run_of("Untitled") is None
