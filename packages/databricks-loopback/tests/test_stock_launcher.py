"""Dagster's own step launcher, unchanged, from end to end.

It is launchable only from a job that the other side can rebuild, so the test writes a package, which is uploaded from
its folder and is nowhere else on the cluster. That folder's path must not contain "pytest": the launcher's zip would be
empty, because it skips such paths.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from databricks_loopback import Workspace

PACKAGE = "launched_package"
DEFINITIONS = """
import os
import sys

import dagster as dg
from dagster_databricks import databricks_pyspark_step_launcher


@dg.op(required_resource_keys={"launcher"}, config_schema={"fail": bool}, out=dg.Out(io_manager_key="nowhere"))
def where(context):
    print("from the cluster")
    context.log_event(
        dg.AssetMaterialization(
            "seen",
            metadata={
                "runtime": os.environ.get("DATABRICKS_RUNTIME_VERSION", "none"),
                "executable": sys.executable,
                "variable": os.environ.get("FROM_LAUNCHER", "none"),
                "secret": os.environ.get("FROM_SECRET", "none"),
                "module": __file__,
            },
        )
    )
    if context.op_config["fail"]:
        raise ValueError("as asked")


@dg.io_manager
def nowhere(_context):
    class Nowhere(dg.IOManager):
        def handle_output(self, context, obj):
            pass

        def load_input(self, context):
            return None

    return Nowhere()


@dg.job(resource_defs={"launcher": databricks_pyspark_step_launcher, "nowhere": nowhere})
def launched_job():
    where()


defs = dg.Definitions(jobs=[launched_job])
"""


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a package with one job, importable here."""
    with tempfile.TemporaryDirectory(prefix="launched-") as folder:
        root = Path(folder) / PACKAGE
        root.mkdir()
        (root / "__init__.py").write_text("")
        (root / "definitions.py").write_text(DEFINITIONS)
        monkeypatch.syspath_prepend(folder)
        yield root
        for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
            del sys.modules[name]


def launcher_config(workspace: Workspace, package: Path) -> dict[str, object]:
    return {
        "run_config": {
            "run_name": "launched",
            "cluster": {
                "new": {
                    "spark_version": "18.x-scala2.13",
                    "nodes": {"node_types": {"node_type_id": "i3.xlarge"}},
                    "size": {"num_workers": 0},
                }
            },
            "libraries": [],
        },
        "databricks_host": workspace.host,
        "databricks_token": workspace.token,
        "permissions": {"job_permissions": {"CAN_VIEW": [{"group_name": "viewers"}]}},
        "local_dagster_job_package_path": str(package.parent),
        "secrets_to_env_variables": [{"name": "FROM_SECRET", "scope": "launcher", "key": "k"}],
        "env_variables": {"FROM_LAUNCHER": "yes"},
        "poll_interval_sec": 0.1,
    }


def launch(workspace: Workspace, package: Path, *, fail: bool) -> tuple[bool, list[dg.DagsterEvent]]:
    """Run the job in this process, its step on the workspace; return whether it succeeded, and its events."""
    workspace.secrets.put("launcher", "k", "resolved")
    repository = ReconstructableRepository(ModuleCodePointer(f"{PACKAGE}.definitions", "defs", str(package.parent)))
    run_config = {
        "resources": {"launcher": {"config": launcher_config(workspace, package)}},
        "ops": {"where": {"config": {"fail": fail}}},
        "execution": {"config": {"in_process": {}}},
    }
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.execute_job(
            ReconstructableJob(repository, "launched_job"),
            instance=instance,
            run_config=run_config,
            raise_on_error=False,
        )
        return result.success, list(result.all_events)


@pytest.mark.proof  # a step with Dagster of its own
def test_step_runs_on_the_cluster_from_the_uploaded_code(workspace: Workspace, package: Path):
    succeeded, events = launch(workspace, package, fail=False)
    assert succeeded
    (seen,) = [event.materialization.metadata for event in events if event.is_step_materialization]
    values = {name: value.value for name, value in seen.items()}
    assert values["runtime"] == "18.2"
    assert values["executable"] == "/databricks/python3/bin/python3"
    assert (values["variable"], values["secret"]) == ("yes", "resolved")
    assert not str(values["module"]).startswith(str(package)), "the zip was imported, not the folder of this machine"
    assert len(workspace.calls.matching("POST", "/api/2.0/dbfs/*")) == 12
    (submitted,) = workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit")
    assert submitted.body is not None
    assert submitted.body["tasks"][0]["task_key"] == "dagster-task"
    assert len(workspace.calls.matching("PATCH", "/api/2.0/permissions/jobs/*")) == 1
    stdout = next((workspace.storage.dbfs / "dagster_staging").rglob("stdout")).read_text()
    assert "from the cluster" in stdout


@pytest.mark.proof  # a step with Dagster of its own
def test_exception_of_a_step_comes_back(workspace: Workspace, package: Path):
    succeeded, events = launch(workspace, package, fail=True)
    assert not succeeded
    # The stock launcher may add a failure of its own: it looks at the run once more after the step's events came.
    failure, *_ = [event for event in events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert failure.step_failure_data.error is not None
    assert "as asked" in failure.step_failure_data.error.to_string()
