"""What a launch adds to a step that does nothing: ours against Dagster's `databricks_pyspark_step_launcher`.

Both launch the same empty op on the same loopback workspace, alternating, in one process, from the same small package.
The stock launcher runs with its defaults (it polls every 5 s) and, as its best case, polling every 0.5 s; ours runs
with its defaults on both kinds of staging. A task that starts Python on the cluster, imports Dagster and ends is
measured as well: every launch pays that much, and the rest is the launcher's share. None of them starts Spark.

What it can't show: network latency (each call takes a millisecond here, so the number of calls matters more on a real
workspace) and the start of a real cluster.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from databricks.sdk import WorkspaceClient

from benchmarks._report import report
from databricks_loopback import Workspace
from databricks_loopback.driving import run_code

CLUSTER = {"spark_version": "18.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 0}
PACKAGE = "empty_steps"
_WANTED_SECONDS = 3.0
VOLUME = "main.bench.staging"
DEFINITIONS = '''
import json
import os
from typing import Any

import dagster as dg
from dagster._config.pythonic_config import IAttachDifferentObjectToOpContext
from dagster_databricks import databricks_pyspark_step_launcher


class Ours(dg.ConfigurableResource, IAttachDifferentObjectToOpContext):
    """Launches with the settings in `spec`."""

    host: str
    spec: str

    _launcher: Any = None

    def get_object_to_set_on_execution_context(self):
        if os.environ.get("DATABRICKS_RUNTIME_VERSION"):
            return None
        from mlops_assets.databricks.launch.api import Api, Credentials
        from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher
        from mlops_assets.databricks.launch.spec import LaunchSpec

        if self._launcher is None:
            api = Api(Credentials(self.host, os.environ["BENCH_TOKEN"]))
            self._launcher = DatabricksStepLauncher(api, LaunchSpec(**json.loads(self.spec)))
        return self._launcher

    def teardown_after_execution(self, context):
        if self._launcher is not None:
            self._launcher.close(context.instance)


@dg.op(required_resource_keys={"launcher"}, out={})
def nothing(context):
    pass


def job_of(name, launcher):
    @dg.job(name=name, resource_defs={"launcher": launcher})
    def made():
        nothing()

    return made


defs = dg.Definitions(
    jobs=[
        job_of("stock", databricks_pyspark_step_launcher),
        job_of("ours", Ours.configure_at_launch()),
    ]
)
'''


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = max(5, parser.parse_args().rounds)
    with (
        tempfile.TemporaryDirectory(prefix="launcher-") as storage,
        # The stock launcher's zip is empty when its path has "pytest" in it, so not below pytest's folders.
        tempfile.TemporaryDirectory(prefix="package-") as folder,
        Workspace(Path(storage)) as workspace,
    ):
        workspace.catalog.add_schema("main.bench")
        workspace.catalog.add_volume(VOLUME)
        _write_package(Path(folder))
        ways = _ways(workspace, folder)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        calls: dict[str, list[int]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                workspace.calls.clear()
                started = time.monotonic()
                way()
                elapsed = time.monotonic() - started
                if number:  # the first round pays for the imports
                    seconds[name].append(round(elapsed, 2))
                    calls[name].append(len(workspace.calls))
    _report(seconds, calls)


def _write_package(folder: Path) -> None:
    package = folder / PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "definitions.py").write_text(DEFINITIONS, "utf-8")
    sys.path.insert(1, str(folder))  # Dagster imports without the first entry
    importlib.invalidate_caches()


def _ways(workspace: Workspace, folder: str) -> dict[str, Callable[[], None]]:
    client = WorkspaceClient(host=workspace.host, token=workspace.token)

    def floor() -> None:
        # What the step's process imports, without anything that a launcher adds.
        run_code(client, "import dagster, dagster_databricks\nfrom dagster._core.execution.plan import external_step\n")

    def stock(**settings: Any) -> Callable[[], None]:
        config = {
            "run_config": {
                "run_name": "nothing",
                "cluster": {
                    "new": {
                        "spark_version": CLUSTER["spark_version"],
                        "nodes": {"node_types": {"node_type_id": CLUSTER["node_type_id"]}},
                        "size": {"num_workers": 0},
                    }
                },
            },
            "permissions": {},
            "databricks_host": workspace.host,
            "databricks_token": workspace.token,
            "local_dagster_job_package_path": folder,
            "secrets_to_env_variables": [],
            **settings,
        }
        return lambda: _run("stock", config)

    def ours(**spec: Any) -> Callable[[], None]:
        fields = {"cluster": CLUSTER, "packages": [PACKAGE], "python_on_workers": False, **spec}
        # The cluster has only what is sent of mlops_assets, and an empty step needs none of it.
        document = json.dumps(fields)
        return lambda: _run("ours", {"host": workspace.host, "spec": document})

    os.environ["BENCH_TOKEN"] = workspace.token
    return {
        "floor": floor,
        "stock": stock(),
        "ours_dbfs": ours(staging="dbfs", staging_path="dbfs:/bench"),
        "stock_each_half_second": stock(poll_interval_sec=0.5),
        "ours_volume": ours(staging="volume", staging_path=f"/Volumes/{VOLUME.replace('.', '/')}/launches"),
    }


def _run(job: str, launcher: dict[str, Any]) -> None:
    repository = ReconstructableRepository(ModuleCodePointer(f"{PACKAGE}.definitions", "defs", None))
    config = {"resources": {"launcher": {"config": launcher}}, "execution": {"config": {"in_process": {}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.execute_job(ReconstructableJob(repository, job), instance=instance, run_config=config)
    if not result.success:
        raise SystemExit(f"{job} failed; its events are above")


def _report(seconds: dict[str, list[float]], calls: dict[str, list[int]]) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    floor = medians["floor"]
    for name, values in seconds.items():
        added = (
            "" if name == "floor" else f", adds {medians[name] - floor:5.2f} s, {statistics.median(calls[name])} calls"
        )
        print(f"{name:24} median {medians[name]:5.2f} s ({min(values):.2f} to {max(values):.2f}){added}")
    most = max(medians[name] - floor for name in ("ours_dbfs", "ours_volume"))
    print(f"ours adds at most {_WANTED_SECONDS:g} s: {most <= _WANTED_SECONDS}")

    def times(measured: Mapping[str, Sequence[float]], one: str, other: str) -> list[float]:
        return [a / b for a, b in zip(measured[one], measured[other], strict=True)]

    report(
        "launcher_overhead",
        ratios={
            "time of a step that does nothing: stock with its defaults / ours (DBFS)": times(
                seconds, "stock", "ours_dbfs"
            ),
            "the same: stock with its defaults / ours (volume)": times(seconds, "stock", "ours_volume"),
            "the same: stock that polls every 0.5 s / ours (DBFS)": times(
                seconds, "stock_each_half_second", "ours_dbfs"
            ),
            "API calls of that step: stock with its defaults / ours (DBFS)": times(calls, "stock", "ours_dbfs"),
            "API calls of that step: stock with its defaults / ours (volume)": times(calls, "stock", "ours_volume"),
        },
        details={
            "seconds": seconds,
            "api_calls": calls,
            "seconds_added": {name: round(medians[name] - floor, 2) for name in medians if name != "floor"},
        },
    )


if __name__ == "__main__":
    main()
