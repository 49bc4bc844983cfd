"""The doctor: each line in its good and its bad case, against a workspace that really answers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from databricks_loopback import Workspace
from databricks_loopback.wire import ApiError, Reply
from mlops_assets.cli.doctor import report
from mlops_assets.databricks.preflight import Finding
from mlops_assets.databricks.profile import DatabricksProfile, load_profile
from mlops_assets.diagnostics.checkup import diagnose
from mlops_assets.errors import SettingsError
from mlops_assets_tests.databricks.conftest import MakeProfile

NOBODYS = "dapi0000"


@pytest.fixture
def ready(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace in which everything that `dev` needs is there; its MLflow answers by hand."""
    workspace.catalog.add_schema("main.mlops_assets_dev")
    if not workspace.catalog.volumes("main.mlops_assets_dev"):
        workspace.catalog.add_volume("main.mlops_assets_dev.staging")
    mlflow = workspace.faults.on_call("mlflow", lambda _r, _p: Reply.of({}), path="/api/2.0/mlflow/*", times=None)
    yield workspace
    mlflow.remove()


def look(profile: DatabricksProfile, home: Path, **credentials: str) -> dict[str, Finding]:
    findings = diagnose(home=home, java_home=None, profile=profile, credentials=credentials)
    return {finding.subject: finding for finding in findings}


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.text for subject, finding in found.items() if finding.level == "error"}


# This machine --------------------------------------------------------------------------------------------------------


def test_this_machine_is_well(empty_home: Path):
    findings = diagnose(home=empty_home, java_home=None)
    assert [(finding.level, finding.subject) for finding in findings] == [
        ("ok", subject) for subject in ("java", "python", "packages", "home", "settings")
    ]
    text, code = report(findings)
    assert code == 0
    assert text.splitlines()[1] == f"ok      python: Python {sys.version_info[0]}.{sys.version_info[1]}"
    assert list(empty_home.iterdir()) == []


def test_no_java_no_settings_no_place_to_write(tmp_path: Path):
    (tmp_path / "file").write_text("", "utf-8")
    problem = SettingsError("MLOPS_HOST: no such setting", where="environment", fix="unset it")
    found = diagnose(home=tmp_path / "file" / "home", java_home=str(tmp_path), settings_problem=problem)
    text, code = report(found)
    assert code == 1
    assert [finding.subject for finding in found if finding.level == "error"] == ["java", "home", "settings"]
    assert "install Java 17 or 21" in text
    assert "set MLOPS_HOME to a writable folder" in text
    assert "no such setting [environment] Fix: unset it" in text


# The workspace -------------------------------------------------------------------------------------------------------


def test_all_is_well_and_nothing_was_started_or_left(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    before = (len(ready.clusters.all()), len(list(ready.runs)))
    found = look(profile_there("dev"), empty_home, token=ready.token)
    assert wrong(found) == {}
    assert {"host", "credentials", "staging", "schema", "clusters.trials.node_type", "mlflow"} <= set(found)
    assert found["credentials"].text == "accepted, as engineer@example.com (pat)"
    assert (len(ready.clusters.all()), len(list(ready.runs))) == before
    assert not ready.calls.matching(path="/api/*/jobs/*")
    assert not ready.calls.matching("POST", "/api/*/clusters/*")
    assert list(ready.storage.in_volumes("/Volumes/main/mlops_assets_dev/staging").iterdir()) == []


def test_a_service_principal_logs_in(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    secret = ready.tokens.register("app-id")
    found = look(profile_there("dev"), empty_home, client_id="app-id", client_secret=secret)
    assert found["credentials"].text == "accepted, as app-id (oauth-m2m)"
    refused = look(profile_there("dev"), empty_home, client_id="app-id", client_secret=NOBODYS)
    assert "invalid_client" in wrong(refused)["credentials"]


def test_a_wrong_token(workspace: Workspace, profile_there: MakeProfile, empty_home: Path):
    found = look(profile_there("dev"), empty_home, token=NOBODYS)
    assert found["host"].level == "ok"
    assert wrong(found)["credentials"].startswith("rejected: Invalid access token; set DATABRICKS_TOKEN")
    assert list(found)[-1] == "credentials"  # what can't be looked at is not guessed about
    assert workspace.calls.matching(path="/api/2.0/preview/scim/v2/Me")


def test_no_credentials_at_all(profile_there: MakeProfile, empty_home: Path, monkeypatch: pytest.MonkeyPatch):
    # Where the SDK would look for some by itself.
    for name in ("DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(empty_home))
    assert "cannot configure default credentials" in wrong(look(profile_there("dev"), empty_home))["credentials"]


def test_a_dead_host(empty_home: Path):
    with socket.socket() as held:  # bound and not listening: nobody else gets the port, and nobody answers
        held.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{held.getsockname()[1]}"
        found = look(load_profile("dev", {"MLOPS_DATABRICKS_HOST": host}), empty_home, token=NOBODYS)
    assert wrong(found) == {
        "host": f"{host} can't be reached: Connection refused; check the address (MLOPS_DATABRICKS_HOST), VPN and proxy"
    }


def test_no_volume_and_no_schema(workspace: Workspace, profile_there: MakeProfile, empty_home: Path):
    found = wrong(look(profile_there("dev", SCHEMA="nowhere"), empty_home, token=workspace.token))
    assert "CREATE VOLUME main.nowhere.staging" in found["staging"]
    assert "WRITE VOLUME" in found["staging"]
    assert "CREATE SCHEMA main.nowhere" in found["schema"]


def test_no_right_to_write(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    def deny(_request: Any, _proceed: Any) -> Reply:
        return ApiError(403, "PERMISSION_DENIED", "User does not have WRITE VOLUME on Volume 'x'.").reply()

    with ready.faults.on_call("deny", deny, method="PUT", path="/api/2.0/fs/files/*"):
        found = wrong(look(profile_there("dev"), empty_home, token=ready.token))
    assert list(found) == ["staging"]
    assert "User does not have WRITE VOLUME" in found["staging"]


def test_dbfs(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    profile = profile_there("dev", STAGING="dbfs")
    assert wrong(look(profile, empty_home, token=ready.token)) == {}
    assert list(ready.storage.in_dbfs("/mlops_assets").iterdir()) == []
    with ready.faults.no_dbfs():
        found = wrong(look(profile, empty_home, token=ready.token))
    assert list(found) == ["staging"]
    assert "set `staging: volume` (MLOPS_DATABRICKS_STAGING=volume)" in found["staging"]


def test_tables_in_folders_need_no_schema(workspace: Workspace, profile_there: MakeProfile, empty_home: Path):
    profile = profile_there("dev", SCHEMA="nowhere", TABLES="path", TABLE_ROOT="dbfs:/lake")
    assert "schema" not in look(profile, empty_home, token=workspace.token)


def test_the_warehouse_of_the_ledger(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    there = ready.warehouses.add()
    found = look(profile_there("dev", WAREHOUSE_ID=there), empty_home, token=ready.token)
    assert found["warehouse"].level == "ok"
    assert "exists, stopped" in found["warehouse"].text, "a look starts nothing"
    missing = wrong(look(profile_there("dev", WAREHOUSE_ID="0123456789abcdef"), empty_home, token=ready.token))
    assert "0123456789abcdef does not exist" in missing["warehouse"]
    assert "request CAN USE" in missing["warehouse"]


def test_a_runtime_that_is_named_otherwise_there(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    assert wrong(look(profile_there("dev"), empty_home, token=ready.token)) == {}
    other = profile_there("dev", CLUSTERS__LOADER__SPARK_VERSION="18.1.x-scala2.13")
    found = wrong(look(other, empty_home, token=ready.token))
    assert found["clusters.loader.runtime"].endswith("set spark_version to 18.x-scala2.13 or 18.x-photon-scala2.13")


def test_machine_types(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    profile = profile_there("dev", CLUSTERS__LOADER__NODE_TYPE="Standard_Nowhere", CLUSTERS__TRIALS__TASK_CPUS="8")
    found = wrong(look(profile, empty_home, token=ready.token))
    assert "does not offer Standard_Nowhere; choose one that it offers, such as" in found["clusters.loader.node_type"]
    assert "has 4 cores and task_cpus is 8; set it to 4" in found["clusters.trials.node_type"]
    assert len(found) == 2


def test_policies_and_pools(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    policy = ready.policies.add("team", {}, creator="admin@example.com")
    pool = ready.pools.add("warm", "i3.xlarge")
    pools = {"CLUSTERS__LOADER__NODE_TYPE": "null", "CLUSTERS__LOADER__DRIVER_INSTANCE_POOL_ID": pool}

    def see(policy_id: str, pool_id: str) -> dict[str, Finding]:
        there = {"CLUSTERS__LOADER__POLICY_ID": policy_id, "CLUSTERS__LOADER__INSTANCE_POOL_ID": pool_id}
        return look(profile_there("dev", **pools, **there), empty_home, token=ready.token)

    good = see(policy, pool)
    assert wrong(good) == {}
    assert good["clusters.loader.policy_id"].text == f"{policy} exists"
    found = wrong(see("GONE", "gone"))
    assert list(found) == ["clusters.loader.instance_pool_id", "clusters.loader.policy_id"]
    assert "Can't find a cluster policy with id: GONE" in found["clusters.loader.policy_id"]


def test_an_existing_cluster(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    spec = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0}
    forever = ready.clusters.add(spec, source="API", creator="a").id
    ending = ready.clusters.add(spec | {"autotermination_minutes": 20}, source="API", creator="a").id

    def see(cluster_id: str) -> dict[str, str]:
        there = f"{{runtime: '18', existing_cluster_id: {cluster_id}, autotermination_minutes: 30}}"
        profile = profile_there("dev", CLUSTERS__LOADER=there, CLUSTERS__TRIALS__SPARK_VERSION="18.x-scala2.13")
        return wrong(look(profile, empty_home, token=ready.token))

    assert see(ending) == {}
    text = see(forever)["clusters.loader.existing_cluster_id"]
    assert "never terminates on its own; set its auto-termination to 30" in text
    assert "does not exist" in see("0000-none")["clusters.loader.existing_cluster_id"]
    ready.clusters.forget(forever)
    ready.clusters.forget(ending)


def test_secret_scopes(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    ready.secrets.put("kafka", "user", "u")
    wanted = {
        "SECRETS": "{KAFKA_USER: kafka/user}",
        "CLUSTERS__LOADER__SPARK_ENV_VARS": "{API_TOKEN: '{{secrets/kafka/password}}'}",
    }
    profile = profile_there("dev", **wanted)
    found = wrong(look(profile, empty_home, token=ready.token))
    assert found == {"secret scope kafka": "has no password; databricks secrets put-secret kafka password"}
    ready.secrets.put("kafka", "password", "p")
    assert look(profile, empty_home, token=ready.token)["secret scope kafka"].text == "has password, user"
    ready.secrets.drop_scope("kafka")
    found = wrong(look(profile, empty_home, token=ready.token))
    assert "databricks secrets create-scope kafka" in found["secret scope kafka"]


def test_the_workspaces_mlflow(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    profile = profile_there("dev")
    assert look(profile, empty_home, token=ready.token)["mlflow"].level == "ok"
    ready.faults.clear()
    deny = ApiError(403, "PERMISSION_DENIED", "no workspace access").reply()
    with ready.faults.on_call("deny", lambda _r, _p: deny, path="/api/2.0/mlflow/*"):
        found = wrong(look(profile, empty_home, token=ready.token))
    assert found["mlflow"].startswith("no workspace access; request workspace access")


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def test_an_mlflow_server_of_ones_own(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    uri = f"http://127.0.0.1:{server.server_port}"
    try:
        found = look(profile_there("dev", TRACKING_URI=uri), empty_home, token=ready.token)
        assert found["mlflow"].text == f"{uri} responds"
        found = look(profile_there("dev", TRACKING_URI=f"{uri}/x"), empty_home, token=ready.token)
        assert "returned 404; is it an MLflow server?" in wrong(found)["mlflow"]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    found = look(profile_there("dev", TRACKING_URI=uri), empty_home, token=ready.token)
    assert "Connection refused" in wrong(found)["mlflow"]
    found = look(profile_there("dev", TRACKING_URI="sqlite:////tmp/x.db"), empty_home, token=ready.token)
    assert found["mlflow"].level == "warning"
    ready.faults.clear()


def test_versions_are_compared_before_anything_starts(ready: Workspace, profile_there: MakeProfile, empty_home: Path):
    profile = profile_there(
        "dev",
        CLUSTERS__LOADER__RUNTIME="17.3-lts",
    )
    findings = diagnose(home=empty_home, java_home=None, profile=profile, credentials={"token": ready.token})
    lines = [finding for finding in findings if finding.subject == "versions of loader"]
    assert any("spark 4.0.0 on the cluster" in line.text for line in lines)
    assert {line.level for line in lines} == {"warning"}
