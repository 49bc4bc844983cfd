"""Assets through Pipes on the loopback workspace: what arrives is what arrives without it, and no run is left behind.

Annotations are not postponed: Dagster looks at that of `context` when an asset is defined.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._serdes import deserialize_value, serialize_value

from databricks_loopback import Workspace
from databricks_loopback.runs import Run
from databricks_loopback.wire import Reply, Request
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.pipes import PipesRunner
from mlops_assets.databricks.pipes_results import beyond_pipes, external_metadata
from mlops_assets.databricks.preflight import local_versions
from mlops_assets_tests.databricks import pipes_probe as probe

VOLUME = "/Volumes/main/probe/staging"
PACKAGES = ("mlops_assets", "mlops_assets_tests.databricks.pipes_probe")
CLUSTER = {"spark_version": "18.x-scala2.13", "node_type_id": "Standard_F8s_v2", "num_workers": 0}
MakeRunner = Callable[..., PipesRunner]


@pytest.fixture(scope="module", autouse=True)
def volume(shared_workspace: Workspace) -> None:
    shared_workspace.catalog.add_schema("main.probe")
    shared_workspace.catalog.add_volume("main.probe.staging")


@pytest.fixture
def make_runner(workspace: Workspace) -> MakeRunner:
    def make(**fields: Any) -> PipesRunner:
        common: dict[str, Any] = {
            "cluster": CLUSTER,
            "staging_path": VOLUME,
            "packages": PACKAGES,
            "python_on_workers": False,
            "env": {"PROBE_PLACE": "there"},
            "poll_seconds": 0.5,
        }
        api = Api(Credentials(workspace.host, workspace.token), retry_seconds=20.0)
        definitions = "mlops_assets_tests.databricks.pipes_probe:defs"
        return PipesRunner(api, LaunchSpec(**(common | fields)), definitions=definitions)

    return make


class Ran:
    """One run of the probe's assets, and what Dagster keeps of it."""

    def __init__(
        self,
        cluster: PipesRunner | None,
        instance: dg.DagsterInstance,
        behaviour: str = "report",
        assets: tuple[dg.AssetsDefinition, ...] = (probe.measured, probe.after),
        **config: Any,
    ) -> None:
        self.cluster, self.instance = cluster, instance
        ops = {"measured": {"config": {"behaviour": behaviour, **config}}} if probe.measured in assets else {}
        self.result = dg.materialize(
            assets,
            instance=instance,
            resources={"greeting": probe.Greeting(place="there"), "cluster": cluster},
            run_config={"ops": ops, "resources": {"greeting": {"config": {"text": "good day", "place": "there"}}}}
            if ops
            else None,
            raise_on_error=False,
        )

    @property
    def log(self) -> list[str]:
        return [entry.user_message for entry in self.instance.all_logs(self.result.run_id)]

    @property
    def materialized(self) -> dict[str, dg.AssetMaterialization]:
        events = self.result.get_asset_materialization_events()
        return {event.materialization.asset_key.to_user_string(): event.materialization for event in events}

    @property
    def checks(self) -> dict[str, Any]:
        return {found.check_name: found for found in self.result.get_asset_check_evaluations()}

    @property
    def failure(self) -> Any:
        (event,) = self.result.get_step_failure_events()
        return event.step_failure_data.user_failure_data

    def told(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Everything that the two ways to run must agree in."""
        metadata = {
            f"{asset}.{name}": serialize_value(cast("Any", value))
            for asset, found in self.materialized.items()
            for name, value in found.metadata.items()
        }
        checks = {
            name: (found.asset_key, found.passed, found.severity, found.blocking, found.description, found.metadata)
            for name, found in self.checks.items()
        }
        return metadata, checks


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    # On disk, because a test looks into it from another thread.
    with dg.DagsterInstance.local_temp() as made:
        yield made


def runs(workspace: Workspace) -> list[Run]:
    return sorted(workspace.runs, key=lambda run: run.id)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def end_of(run: Run) -> str:
    (task,) = run.tasks
    assert task.finished.wait(20)
    assert task.end is not None
    return task.end.result


@pytest.mark.parametrize(("staging", "path"), [("volume", VOLUME), ("dbfs", "dbfs:/probe")])
def test_metadata_and_checks_are_those_of_a_run_without_pipes(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance, staging: str, path: str
):
    config: dict[str, Any] = {"mood": "CROSS", "inner": {"numbers": [3]}}
    here = Ran(None, instance, **config)
    there = Ran(make_runner(staging=staging, staging_path=path), instance, **config)
    assert here.result.success
    assert there.result.success, there.log
    metadata, checks = there.told()
    expected_metadata, expected_checks = here.told()
    own = "measured.dagster_run_id"
    assert there.result.run_id in metadata.pop(own)
    assert expected_metadata.pop(own)
    assert metadata == expected_metadata
    assert checks == expected_checks
    assert [(ran.materialized["measured"].tags or {})["colour"] for ran in (here, there)] == ["blue", "blue"]
    assert there.materialized["measured"].metadata["greeting"].value == "good day there"
    assert there.materialized["measured"].metadata["mood"].value == "CROSS"
    (warning,) = [entry for entry in instance.all_logs(there.result.run_id) if entry.user_message == "100 % of it"]
    assert (warning.level, warning.step_key) == (30, "measured")


def test_nothing_stays_in_staging(make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance):
    runner = make_runner()
    ran = Ran(runner, instance)
    folder = workspace.storage.in_volumes(VOLUME) / ran.result.run_id
    assert [path.name.split("-")[0] for path in files(folder)] == ["code"], "the next asset of the run needs it"
    runner.close(instance)
    assert not folder.exists()
    assert [path for path in files(workspace.storage.files) if ran.result.run_id in path.name] == []


def test_several_assets_of_one_function(make_runner: MakeRunner, instance: dg.DagsterInstance):
    ran = Ran(make_runner(), instance, assets=(probe.pair,))
    assert ran.result.success, ran.log
    assert {name: found.metadata["name"].value for name, found in ran.materialized.items()} == {
        "left": "left",
        "right": "right",
    }
    assert ran.materialized["left"].tags is not None
    assert ran.materialized["left"].tags["dagster/data_version"] == "left 1"
    assert (ran.checks["even"].asset_key.to_user_string(), ran.checks["even"].passed) == ("right", True)


def test_a_failed_blocking_check_stops_what_follows(make_runner: MakeRunner, instance: dg.DagsterInstance):
    ran = Ran(make_runner(), instance, "too large")
    assert not ran.result.success
    assert set(ran.materialized) == {"measured"}
    assert not ran.checks["small"].passed


def test_a_refusal_arrives_with_its_checks_observations_and_metadata(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    ran = Ran(make_runner(), instance, "refuse")
    assert not ran.result.success
    assert ran.materialized == {}
    check = ran.checks["small"]
    assert (check.passed, check.description, check.metadata["size"].value) == (False, "far too large", 17)
    (seen,) = [event.asset_observation_data.asset_observation for event in ran.result.get_asset_observation_events()]
    assert (seen.asset_key.to_user_string(), seen.partition, seen.description) == ("measured", "p", "seen")
    assert seen.metadata["pool"] == dg.MetadataValue.pool("big")
    assert ran.failure.description.startswith("refused: far too large")
    assert ran.failure.metadata["size"].value == 17
    run = instance.get_run_by_id(ran.result.run_id)
    assert run is not None
    assert run.tags["behaviour"] == "refuse", "what the asset adds to its run comes back even if it fails"
    assert ran.failure.metadata["Databricks run"].value.startswith(workspace.host)
    assert end_of(runs(workspace)[-1]) == "FAILED"


def test_an_exception_arrives_with_traceback_stderr_and_link(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
):
    runner = make_runner()
    ran = Ran(runner, instance, "raise")
    failure = ran.failure
    assert failure.description.startswith("LookupError: no such number: 17")
    assert workspace.host in failure.description
    assert 'raise LookupError("no such number: 17")' in failure.metadata["traceback on the cluster"].value
    assert "the last word on stderr" in failure.metadata["end of stderr"].value
    assert "Workload failed" in failure.metadata["state"].value
    assert failure.metadata["Databricks run"].value.startswith(f"{workspace.host}/?o=")
    printed = capsys.readouterr()
    assert "a word on stdout\n" in printed.out
    assert "the last word on stderr\n" in printed.err
    closed = [
        entry.dagster_event.event_specific_data.error.message  # type: ignore[union-attr]
        for entry in instance.all_logs(ran.result.run_id)
        if "pipes closed with exception" in entry.user_message
    ]
    assert closed == ["LookupError: no such number: 17\n"]
    assert end_of(runs(workspace)[-1]) == "FAILED"
    folder = workspace.storage.in_volumes(VOLUME) / ran.result.run_id
    runner.close(instance)
    assert files(folder), "what a failed asset has staged is kept"


def test_what_a_plain_function_can_not_have_is_one_error_with_the_way_out(
    make_runner: MakeRunner, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    runner = make_runner()
    monkeypatch.setenv("PROBE_GATE", "/somewhere/else")  # where Dagster is, and only there

    asked = Ran(runner, instance, "ask").failure.description
    named = Ran(runner, instance, gate={"env": "PROBE_GATE"}).failure.description

    assert asked.startswith("AttributeError: with `launcher: pipes` the context on a cluster has no `asset_key`. Fix: ")
    assert "the config does not fit: gate: Input should be a valid string" in named
    assert "`env: <variable>`" in named
    assert "PROBE_GATE" not in named


def test_staging_of_a_failure_is_removed_where_it_is_not_wanted(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    runner = make_runner(keep_staging_on_failure=False)
    ran = Ran(runner, instance, "raise")
    runner.close(instance)
    assert not ran.result.success
    assert not (workspace.storage.in_volumes(VOLUME) / ran.result.run_id).exists()


def test_a_driver_that_dies_is_told_as_such(make_runner: MakeRunner, instance: dg.DagsterInstance):
    ran = Ran(make_runner(), instance, "die")
    assert "the driver died" in ran.failure.description
    assert "Could not reach driver" in ran.failure.metadata["state"].value


@pytest.mark.parametrize("name", ["code-*.zip", "context.json"])
def test_what_someone_else_put_into_the_staging_folder_is_not_run(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance, name: str
):
    def replace_file(_request: Request, proceed: Callable[[], Reply]) -> Reply:
        found = workspace.storage.in_volumes(VOLUME).rglob(name)  # also what other tests keep
        staged = max(found, key=lambda path: path.stat().st_mtime_ns)
        content = staged.read_bytes()
        staged.write_bytes(content.replace(b"mlops_assets", b"mlops_4ssets"))
        assert staged.read_bytes() != content
        return proceed()

    workspace.faults.on_call("attack", replace_file, method="POST", path="*/jobs/runs/submit")
    ran = Ran(make_runner(keep_staging_on_failure=False), instance)

    assert not ran.result.success
    assert "Nothing of it was run" in str(ran.failure)


def test_what_pipes_has_no_word_for_is_refused(make_runner: MakeRunner, instance: dg.DagsterInstance):
    ran = Ran(make_runner(), instance, "observe")
    assert "can't carry ObserveResult" in ran.failure.description
    assert "traceback on the cluster" not in ran.failure.metadata


def test_an_asset_that_is_not_in_the_code_on_the_cluster_is_not_launched(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    @dg.asset
    def local(context: dg.AssetExecutionContext, cluster: dg.ResourceParam[Any]) -> Any:
        yield from cluster.run(context)

    ran = Ran(make_runner(), instance, assets=(local,))
    assert "there is no asset local in " in ran.failure.description
    assert workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit") == []


def test_a_workspace_without_the_volume_is_told_which_setting_mends_it(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    ran = Ran(make_runner(staging_path="/Volumes/main/probe/missing"), instance)
    assert "the volume can't be used" in ran.failure.description
    assert "`staging_path`" in ran.failure.description
    assert workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit") == []


def test_versions_are_compared_before_the_asset_is_imported(make_runner: MakeRunner, instance: dg.DagsterInstance):
    versions = asdict(replace(local_versions(), dagster="1.0.0"))
    ran = Ran(make_runner(versions=versions), instance)
    assert "they must be the same" in ran.failure.description or "only by the same version" in ran.failure.description
    assert "traceback on the cluster" not in ran.failure.metadata
    assert "report: begun" not in ran.log


def test_logs_arrive_while_the_asset_runs(make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance):
    gate = workspace.storage.in_volumes(VOLUME) / "gate"
    seen: list[str] = []

    def open_when_told() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            for run in instance.get_runs():
                seen.extend(text for entry in instance.all_logs(run.run_id) if "begun" in (text := entry.user_message))
            time.sleep(0.1)
        gate.touch()

    watcher = threading.Thread(target=open_when_told)
    watcher.start()
    ran = Ran(make_runner(), instance, "wait", gate=f"{VOLUME}/gate")
    watcher.join()
    assert ran.result.success
    assert seen == ["wait: begun"], "the asset waits until this has been read in Dagster's event log"


def test_an_interrupt_cancels_the_run(make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance):
    def interrupt_when_it_runs() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(
                "begun" in entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)
            ):
                break
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_when_it_runs)
    watcher.start()
    ran = Ran(make_runner(), instance, "wait", gate="/nowhere")
    watcher.join()
    assert not ran.result.success
    (step,) = ran.result.get_step_failure_events()
    assert step.step_failure_data.error is not None
    assert step.step_failure_data.error.cls_name == "DagsterExecutionInterruptedError"
    run = runs(workspace)[-1]
    assert end_of(run) == "CANCELED"
    assert any("was cancelled" in text for text in ran.log)


def test_passing_errors_of_the_workspace_do_no_harm(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    before = len(runs(workspace))
    workspace.faults.lose_answer("/api/2.2/jobs/runs/submit")
    workspace.faults.server_error("/api/2.2/jobs/runs/get", times=2)
    workspace.faults.throttle("/api/2.0/fs/files/*", times=2, retry_after_s=0)
    ran = Ran(make_runner(), instance)
    assert ran.result.success, ran.log
    assert len(runs(workspace)) == before + 1


def test_a_watch_that_breaks_off_leaves_no_run(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    with workspace.faults.expired_token("/api/2.2/jobs/runs/get", after=1):
        ran = Ran(make_runner(), instance, "wait", gate="/nowhere")
    assert "rejects the credentials" in ran.failure.description
    run = runs(workspace)[-1]
    assert end_of(run) == "CANCELED"


def test_an_existing_cluster_gets_environment_and_secrets_by_the_context(
    make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance
):
    cluster = workspace.clusters.add({**CLUSTER, "cluster_name": "shared"}, source="API", creator="somebody")
    workspace.secrets.put("probe", "place", "in secret")
    runner = make_runner(
        cluster={},
        existing_cluster_id=cluster.id,
        env={"PROBE_PLACE": "there"},
        secrets={"PROBE_SECRET": "probe/place"},
    )
    ran = Ran(runner, instance, "secret")
    assert ran.result.success, ran.log
    assert ran.materialized["measured"].metadata["secret_length"].value == 9


def test_no_credential_travels(make_runner: MakeRunner, workspace: Workspace, instance: dg.DagsterInstance):
    ran = Ran(make_runner(), instance, "raise")
    kept = files(workspace.storage.in_volumes(VOLUME) / ran.result.run_id)
    kept += [path for path in files(workspace.storage.files) if ran.result.run_id in path.name]
    assert len(kept) >= 4, "code, script, context, messages"
    assert [path for path in kept if workspace.token.encode() in path.read_bytes()] == []
    submitted = workspace.calls.matching("POST", "/api/2.2/jobs/runs/submit")
    assert workspace.token not in str([call.body for call in submitted])
    ran = Ran(make_runner(env={"PROBE_PLACE": workspace.token}), instance)
    assert "a credential of the launching side" in ran.failure.description


def test_types_that_pipes_does_not_have_are_near_for_others_and_exact_for_us():
    references = dg.CodeReferencesMetadataValue(
        code_references=[dg.LocalFileCodeReference(file_path="/a.py", line_number=3)]
    )
    metadata: dict[str, Any] = {
        "pool": dg.MetadataValue.pool("big"),
        "job": dg.MetadataValue.job("main", "here"),
        "code": references,
        "artifact": dg.MetadataValue.python_artifact(Path),
    }
    found = external_metadata(metadata)
    assert {name: deserialize_value(text) for name, text in beyond_pipes({**metadata, "n": 1}).items()} == metadata
    assert found["pool"] == {"type": "text", "raw_value": "big"}
    assert found["job"] == {"type": "text", "raw_value": "main"}
    assert found["artifact"] == {"type": "text", "raw_value": "pathlib.Path"}
    assert found["code"]["type"] == "json"
    assert found["code"]["raw_value"][0]["file_path"] == "/a.py"


@pytest.mark.parametrize("last", ["2026-05-01", "2026-05-03"])
def test_each_day_of_a_backfill_in_one_run_arrives(make_runner: MakeRunner, instance: dg.DagsterInstance, last: str):
    days = [day for day in ("2026-05-01", "2026-05-02", "2026-05-03") if day <= last]
    tags = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": last}

    done = dg.materialize(
        [probe.daily], instance=instance, resources={"cluster": make_runner()}, tags=tags, raise_on_error=False
    )

    assert done.success
    assert instance.get_materialized_partitions(dg.AssetKey("daily")) == set(days)
    (other,) = instance.fetch_materializations(dg.AssetKey("left"), limit=9).records
    assert other.asset_materialization is not None
    assert other.asset_materialization.metadata["days"].value == len(days)
