"""The first look at a workspace, and the question what runs have cost, from the command line to a loopback cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.driving import SUCCESS, output, python_task, states, submit, wait_for_end
from databricks_loopback.wire import ApiError
from mlops_assets.cli.doctor import report
from mlops_assets.cli.main import main
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.diagnostics import errand_on_cluster
from mlops_assets.diagnostics.cost import cost
from mlops_assets.diagnostics.first_run import CHECKS, first_run
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets_tests.databricks.conftest import profile_of

SCHEMA = "spark_catalog.look"
# What a task bills: one launch of one asset, and a price.
BILL = f"""
    spark.sql('''
        CREATE TABLE {SCHEMA}.usage AS SELECT 'JOBS' AS sku_name, 'AWS' AS cloud, 'DBU' AS usage_unit,
          current_timestamp() AS usage_start_time, current_timestamp() AS usage_end_time,
          current_date() AS usage_date, 2.5 AS usage_quantity,
          map('asset', 'tuned_model', 'dagster_run', 'r-1') AS custom_tags
    ''')
    spark.sql('''
        CREATE TABLE {SCHEMA}.prices AS SELECT 'JOBS' AS sku_name, 'AWS' AS cloud, 'DBU' AS usage_unit,
          'USD' AS currency_code, TIMESTAMP'2020-01-01' AS price_start_time,
          CAST(NULL AS TIMESTAMP) AS price_end_time,
          named_struct('effective_list', named_struct('default', 0.4)) AS pricing
    ''')
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[Workspace]:
    jars = ensure_delta_jars(shared_home / "jars")
    with Workspace(tmp_path_factory.mktemp("workspace"), delta_jars=jars, metastore=True) as made:
        made.clusters.node_types.add("Standard_D4ds_v5")
        made.catalog.add_schema(SCHEMA)
        made.catalog.add_volume(f"{SCHEMA}.staging")
        yield made


@pytest.fixture
def profile(workspace: Workspace) -> DatabricksProfile:
    catalog, schema = SCHEMA.split(".")
    return profile_of(workspace, CATALOG=catalog, SCHEMA=schema)


def asked(profile: DatabricksProfile, workspace: Workspace) -> dict[str, tuple[str, str]]:
    found = first_run(profile, {"token": workspace.token})
    return {finding.subject: (finding.level, finding.text) for finding in found}


@pytest.mark.proof  # a task with Spark
def test_every_line_of_the_report(workspace: Workspace, profile: DatabricksProfile):
    found = asked(profile, workspace)
    assert list(found) == ["first run", *CHECKS, "delay of staging"]
    assert {subject for subject, (level, _) in found.items() if level == "error"} == set()
    assert "runtime 18.2" in found["runtime"][1]
    assert found["runtime"][1].endswith("distributions: none")
    for what in ("rename", "appending"):
        assert f"{what} is refused (Operation not supported)" in found["staging"][1]
    assert found["notes"][1].endswith("it can be tagged")
    assert "2 rows at version 1, 2 in its feed" in found["table"][1]
    assert "VACUUM LITE RETAIN 200 HOURS DRY RUN works" in found["table"][1]
    assert found["registry"][1].startswith("a second registration is answered with ALREADY_EXISTS")
    assert found["billing"][0] == "warning", "the loopback workspace bills nothing"
    left = [path.name for path in (workspace.storage.volumes / SCHEMA.replace(".", "/") / "staging").rglob("*")]
    assert left == []
    assert not any(workspace.models._models), "the model is removed"


@pytest.mark.proof  # a task with Spark
def test_so_it_is_on_serverless_compute(workspace: Workspace):
    catalog, schema = SCHEMA.split(".")
    elsewhere = profile_of(workspace, CATALOG=catalog, SCHEMA=schema, CLUSTERS__LOADER="{compute: serverless}")
    found = asked(elsewhere, workspace)
    assert list(found) == ["first run", *(check for check in CHECKS if check != "workers"), "delay of staging"]
    assert {subject: text for subject, (level, text) in found.items() if level == "error"} == {}
    assert "runtime client.5.0" in found["runtime"][1]
    assert found["notes"][1] == "a new table takes the writer's note; it can be tagged"


@pytest.mark.proof  # two tasks with Spark
def test_what_goes_wrong_is_a_line(workspace: Workspace, profile: DatabricksProfile):
    def denied(_request: Any, _proceed: Any) -> Any:
        raise ApiError(403, "PERMISSION_DENIED", "User does not have CREATE MODEL on Schema 'x'.")

    fault = workspace.faults.on_call("denied", denied, path="*/registered-models/create", times=None)
    found = asked(profile.model_copy(update={"db_schema": "nowhere"}), workspace)
    fault.remove()
    assert found["table"][0] == "error"
    assert "SCHEMA_NOT_FOUND" in found["table"][1]
    assert found["registry"][0] == "error"
    assert "CREATE MODEL" in found["registry"][1]
    assert found["workers"][0] == "ok", "the others go on"


def test_a_workspace_that_refuses_is_one_line(workspace: Workspace, profile: DatabricksProfile):
    elsewhere = profile.model_copy(update={"staging_path": "/Volumes/none/of/this"})
    text, code = report(first_run(elsewhere, {"token": workspace.token}))
    assert code == 1
    assert text.startswith("error   first run: the volume can't be used")
    assert len(text.splitlines()) == 1


@pytest.mark.proof  # three tasks with Spark
def test_cost_of_the_loopback_table(workspace: Workspace, profile: DatabricksProfile):
    missing, code = report(cost(profile, {"token": workspace.token}, usage=f"{SCHEMA}.usage"))
    assert code == 1
    assert f"grant SELECT on {SCHEMA}.usage" in missing
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    run = wait_for_end(client, submit(client, python_task(BILL, client)), seconds=120)
    assert states(run) == SUCCESS, output(client, run).error
    lines, code = report(cost(profile, {"token": workspace.token}, usage=f"{SCHEMA}.usage", prices=f"{SCHEMA}.prices"))
    assert code == 0
    assert lines.splitlines() == [
        "ok      tuned_model in run r-1: 1.00 USD, 2.50 DBU",
        "ok      tuned_model in 1 runs: 1.00 USD, 2.50 DBU",
        "ok      all in 30 days: 1.00 USD, 2.50 DBU",
    ]


def test_both_need_a_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    assert main(["doctor", "--first-run", "--cost"]) == 1
    said = capsys.readouterr().out
    assert "error   first run: it asks a workspace; set MLOPS_TARGET=databricks" in said
    assert "error   cost: it asks a workspace" in said


def test_a_request_that_was_changed_on_its_way_is_not_run(tmp_path: Path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"checks": [], "folder": str(tmp_path)}), "utf-8")
    with pytest.raises(ValueError, match="is not the request that was sent"):
        errand_on_cluster.main(str(request), "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]


def test_packages_that_differ_are_named():
    here = errand_on_cluster.packages({"packages": {"pytest": "1.0", "no-such-package": "2.0"}})
    assert here["level"] == "warning"
    assert "no-such-package missing instead of 2.0" in here["text"]
    found = str(here["found"]["pytest"])
    assert errand_on_cluster.packages({"packages": {"pytest": found}})["level"] == "ok"
