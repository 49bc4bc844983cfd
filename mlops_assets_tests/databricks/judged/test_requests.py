"""What we send, judged by the newest databricks-sdk: its data classes, and the calls that its own methods make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from databricks_loopback import Workspace
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.staging import staging_of
from mlops_assets.databricks.profile import SHIPPED, load_profile
from mlops_assets.resources.launcher import launch_spec
from mlops_assets_tests.databricks.judged.conftest import NEWEST_SDK
from mlops_assets_tests.databricks.launch.driving import PATHS, VOLUME, Driver
from mlops_assets_tests.environments import MakeEnvironment

SUBMIT = "/api/2.2/jobs/runs/submit"
HOSTS = (
    "https://dbc-a1b2c3d4-e5f6.cloud.databricks.com",
    "https://adb-1234567890123456.7.azuredatabricks.net",
    "https://1234567890123456.7.gcp.databricks.com",
)
WHO = {
    "job": [{"level": "CAN_VIEW", "group": "users"}, {"level": "CAN_MANAGE_RUN", "service_principal": "app"}],
    "cluster": [{"level": "CAN_RESTART", "user": "a@b.c"}],
}
COMPANY = {
    "BUDGET_POLICY_ID": "b-1",
    "PACKAGE_INDEX": "https://pypi.example.com/simple",
    "CLUSTERS__LOADER__POLICY_ID": "p-1",
    "CLUSTERS__LOADER__APPLY_POLICY_DEFAULT_VALUES": "true",
    "CLUSTERS__LOADER__RUNTIME_ENGINE": "PHOTON",
    "CLUSTERS__LOADER__INIT_SCRIPTS": '["/Volumes/main/ml/files/a.sh", "/Shared/b.sh"]',
    "CLUSTERS__LOADER__LOG_DESTINATION": "/Volumes/main/ml/logs",
    "CLUSTERS__LOADER__PERMISSIONS": json.dumps(WHO),
    "CLUSTERS__LOADER__SPARK_ENV_VARS": "{MODE: '{{secrets/team/mode}}'}",
}
ATTEMPT = Attempt("0b1f2c3d-0000-4000-8000-000000000000", "main_job", "tuned[model]", 1, ("tuned_model",))
pytestmark = pytest.mark.proof  # asks the package index, and launches steps


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with Workspace(tmp_path_factory.mktemp("workspace")) as made:
        made.catalog.add_schema("main.ml")
        made.catalog.add_volume(VOLUME)
        yield made


def judged(environment: MakeEnvironment, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the verdict of the newest SDK on calls."""
    python = environment(NEWEST_SDK)
    script = Path(__file__).with_name("replay.py")
    done = subprocess.run(
        [python, script], input=json.dumps(calls), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def recorded(workspace: Workspace) -> list[dict[str, Any]]:
    """Return each different call that the workspace got."""
    calls = [
        {"method": call.method, "path": call.path, "query": dict(call.query), "body": call.body}
        for call in workspace.calls
        if call.path.startswith("/api/")
    ]
    return list({json.dumps(call, sort_keys=True): call for call in calls}.values())


def submissions(
    host: str, names: Sequence[str] = SHIPPED, kinds: Sequence[str] = ("volume", "dbfs"), **changes: str
) -> Iterator[dict[str, Any]]:
    """Yield the submission of each profile, cost class and kind of staging."""
    for name in names:
        for staging in kinds:
            fields = {"HOST": host, "STAGING": staging, **changes}
            profile = load_profile(name, {f"MLOPS_DATABRICKS_{field}": value for field, value in fields.items()})
            for cost_class in ("loader", "trials"):
                spec = launch_spec(profile, cost_class, env={"A": "1"})
                files = [{"requirements": "/Workspace/Users/a/r.txt"}] if spec.requirements else []
                body = submission.submission(
                    spec, ATTEMPT, python_file="/Workspace/x.py", parameters=["x"], libraries=files
                )
                yield {"method": "POST", "path": SUBMIT, "query": {}, "body": body}


def on_other_cloud(call: dict[str, Any], host: str) -> dict[str, Any]:
    """Return a submission of `dev` with the clusters of another cloud, which is all that differs."""
    (task,) = call["body"]["tasks"]
    profile = load_profile("dev", {"MLOPS_DATABRICKS_HOST": host})
    cost_class = task["new_cluster"]["custom_tags"]["cost_class"]
    cluster = profile.cluster(cost_class).new_cluster(tags=task["new_cluster"]["custom_tags"])
    return {**call, "body": {**call["body"], "tasks": [{**task, "new_cluster": cluster}]}}


def test_submissions_of_all_profiles_go_through_unchanged(environment: MakeEnvironment):
    calls = list(submissions(HOSTS[0]))
    calls += [on_other_cloud(call, host) for host in HOSTS[1:] for call in calls[:2]]
    calls += list(submissions(HOSTS[0], ("dev",), **COMPANY))
    calls += list(submissions(HOSTS[0], kinds=("volume",), CLUSTERS__LOADER="{compute: serverless}"))
    report = judged(environment, calls)
    assert report["different"] == [], report["sdk"]
    assert report["methods"] == ["submit"]
    assert len(calls) == 12 + 4 + 4 + 6
    clusters = [call["body"]["tasks"][0].get("new_cluster", {}) for call in calls]
    assert sum(not cluster for cluster in clusters) == 3, "each profile's loader on serverless compute"
    clouds = {name for cluster in clusters for name in cluster if name.endswith("_attributes")}
    assert clouds == {"aws_attributes", "azure_attributes", "gcp_attributes"}


@pytest.mark.parametrize("kind", ["volume", "dbfs"])
def test_whatever_a_launch_sends_is_what_the_sdk_sends(
    environment: MakeEnvironment, workspace: Workspace, kind: str, monkeypatch: pytest.MonkeyPatch
):
    workspace.calls.clear()
    workspace.faults.slow_start(0.5)  # permissions are granted while it starts
    outcome = Driver(workspace, kind, monkeypatch).run(
        "nothing",
        job_permissions=[{"service_principal_name": "app", "permission_level": "CAN_VIEW"}],
        cluster_permissions=[{"group_name": "data", "permission_level": "CAN_ATTACH_TO"}],
    )
    assert outcome.success, outcome.messages()
    api = Api(Credentials(workspace.host, workspace.token))
    (run,) = {int(call.query["run_id"]) for call in workspace.calls.matching("GET", "*/jobs/runs/get")}
    view = submission.look(api, run)
    submission.output(api, view)
    submission.termination_code(api, view)
    submission.cancel(api, run)
    assert list(submission.active_runs(api)) == []
    staging = staging_of(api, "volume" if kind == "volume" else "dbfs", PATHS[kind])
    staging.put("large", b"x" * 1_500_000)
    assert staging.names("") == ["large"]
    staging.remove("large" if kind == "dbfs" else "")
    report = judged(environment, recorded(workspace))
    assert report["different"] == [], report["sdk"]
    ours = {"submit", "cancel_run", "get_run", "get_run_output", "list_runs", "get", "update"}
    files = {"volume": {"upload", "download", "get_metadata", "list_directory_contents", "import_", "me"}}
    dbfs = {"put", "create", "add_block", "close", "get_status", "read", "list", "delete"}
    assert ours | files.get(kind, dbfs) <= set(report["methods"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster_log_config": {}}, "cluster_log_config"),
        ({"num_workers": "2"}, "'2' is no int"),
        ({"data_security_mode": "ALONE"}, "'ALONE' is no DataSecurityMode"),
    ],
)
def test_the_judge_does_look(environment: MakeEnvironment, change: dict[str, Any], said: str):
    call = next(submissions(HOSTS[0], ("dev",)))
    (task,) = call["body"]["tasks"]
    task["new_cluster"] |= change
    assert said in str(judged(environment, [call])["different"])
    typo = {**call, "body": {**call["body"], "run_nam": "x"}}
    assert "unknown to the SDK: run_nam" in str(judged(environment, [typo])["different"])
