"""A step that is launched, from end to end: where it runs, what travels, what is left."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from databricks_loopback.wire import Reply, Request
from mlops_assets.databricks.preflight import local_versions
from mlops_assets_tests.databricks.launch.driving import CHECKOUT, CLUSTER, IN_PROCESS, Driver, staged, trees

AWKWARD = 'it\'s "$HOME"\nand `more` \\ of it'


def code_uploads(driver: Driver) -> int:
    calls = [*driver.workspace.calls.matching("PUT", "*/code-*.zip"), *driver.workspace.calls.matching("POST", "*/put")]
    return sum("code-" in call.path or "code-" in str((call.body or {}).get("path")) for call in calls)


def test_step_runs_on_the_cluster_from_the_uploaded_package(driver: Driver):
    outcome = driver.run("nothing")
    assert outcome.success, outcome.messages()
    assert outcome.metadata["runtime"] == "18.2"
    assert not str(outcome.metadata["module"]).startswith(str(CHECKOUT)), "the zip, not the checkout"
    assert len(outcome.events(dg.DagsterEventType.STEP_SUCCESS)) == 1
    assert len(outcome.events(dg.DagsterEventType.STEP_START)) == 1
    (run,) = list(driver.workspace.runs)[-1:]
    assert run.end is not None
    assert run.end.is_success


@pytest.mark.parametrize("name", ["code-*.zip", "request.json"])
def test_what_someone_else_put_into_the_staging_folder_is_not_run(driver: Driver, name: str):
    """Whoever may write to the folder replaces a file once the run is submitted."""

    def replace(_request: Request, proceed: Callable[[], Reply]) -> Reply:
        found = (path for tree in trees(driver.workspace) for path in tree.rglob(name))
        staged_file = max(found, key=lambda path: path.stat().st_mtime_ns)
        content = staged_file.read_bytes()
        staged_file.write_bytes(content.replace(b"mlops_assets", b"mlops_4ssets"))
        assert staged_file.read_bytes() != content
        return proceed()

    driver.workspace.faults.on_call("attack", replace, method="POST", path="*/jobs/runs/submit")
    outcome = driver.run("nothing")

    assert "Nothing of it was run" in outcome.failure_text
    assert "who else writes to the staging folder" in outcome.failure_text
    assert outcome.events(dg.DagsterEventType.ASSET_MATERIALIZATION) == []


def test_few_calls(driver: Driver):
    """Benchmark `launcher_overhead` has the numbers beside the stock launcher's; this keeps them from growing.

    How often a launch looks at a run depends on how long the run takes, so looks are counted apart.
    """
    assert driver.run("nothing").success
    calls = [f"{call.method} {call.path} {call.status}" for call in driver.workspace.calls]
    looks = [call for call in calls if call.endswith("/runs/get 200")]
    # What the step reports next is not there yet.
    early = [call for call in calls if call.endswith(" 404") and ("/chunk-" in call or "/dbfs/read" in call)]
    assert len(calls) - len(looks) - len(early) <= 20, calls
    assert len(early) <= 3 * len(looks), calls


def test_code_is_uploaded_once_per_run_and_nothing_is_left(driver: Driver):
    outcome = driver.run("pair")
    assert outcome.success, outcome.messages()
    assert len(driver.workspace.calls.matching("POST", "*/jobs/runs/submit")) == 2
    assert code_uploads(driver) == 1
    assert staged(driver.workspace) == []


def test_steps_in_processes_of_their_own_share_the_upload_and_the_last_one_tidies_up(driver: Driver):
    with dg.DagsterInstance.local_temp() as instance:
        config = {"execution": {"config": {"multiprocess": {"max_concurrent": 1}}}}
        outcome = driver.run("pair", instance=instance, run_config=config)
        assert outcome.success, outcome.messages()
    assert len(driver.workspace.calls.matching("POST", "*/jobs/runs/submit")) == 2
    assert code_uploads(driver) == 1
    assert staged(driver.workspace) == []


@pytest.mark.parametrize("at_once", [1, 2])
def test_steps_that_do_not_need_each_other_are_launched_together_up_to_the_limit(volume: Driver, at_once: int):
    with dg.DagsterInstance.local_temp() as instance:
        config = {"execution": {"config": {"multiprocess": {"max_concurrent": at_once}}}}
        outcome = volume.run("siblings", instance=instance, run_config=config)
        assert outcome.success, outcome.messages()
    first, second = sorted(list(volume.workspace.runs)[-2:], key=lambda run: run.started_at)
    assert (second.started_at < first.ended_at) == (at_once == 2)
    assert staged(volume.workspace) == []


@pytest.mark.parametrize("keep", [True, False])
def test_staging_of_a_failed_step_is_kept_by_setting(driver: Driver, keep: bool):
    outcome = driver.run("broken", keep_staging_on_failure=keep)
    assert not outcome.success
    left = [name.rpartition("/")[2] for name in staged(driver.workspace)]
    if keep:
        assert {"request.json", "chunk-000001"} <= set(left)
        assert any(name.startswith("code-") for name in left)
        assert outcome.says("Staged files are kept: ")
    else:
        assert left == []


def test_environment_and_secrets_reach_the_step(driver: Driver):
    driver.workspace.secrets.put("scope", "key", "resolved")
    outcome = driver.run("nothing", env={"PLAIN": AWKWARD}, secrets={"HIDDEN": "scope/key"})
    assert outcome.success, outcome.failure_text
    assert (outcome.metadata["plain"], outcome.metadata["secret"]) == (AWKWARD, "resolved")
    (submitted,) = driver.workspace.calls.matching("POST", "*/jobs/runs/submit")
    assert submitted.body is not None
    assert "spark_env_vars" not in submitted.body["tasks"][0]["new_cluster"]


def test_a_step_runs_on_serverless_compute(volume: Driver):
    volume.workspace.secrets.put("prod", "key", "s3cret")
    before = len(volume.workspace.clusters.all())
    outcome = volume.run(
        "nothing",
        cluster={},
        environment_version="5",
        requirements="dagster\n",
        env={"PLAIN": AWKWARD},
        secrets={"HIDDEN": "prod/key"},
    )
    assert outcome.success, outcome.failure_text
    told = [outcome.metadata[name] for name in ("runtime", "plain", "secret")]
    assert told == ["client.5.0", AWKWARD, "s3cret"]
    (submitted,) = volume.workspace.calls.matching("POST", "*/jobs/runs/submit")
    assert submitted.body is not None
    (task,) = submitted.body["tasks"]
    assert set(task) == {"task_key", "spark_python_task", "environment_key"}
    (environment,) = submitted.body["environments"]
    (line,) = environment["spec"]["dependencies"]
    assert line.startswith("-r /Workspace/Users/")
    assert len(volume.workspace.clusters.all()) == before
    assert staged(volume.workspace) == []


def test_requirements_are_one_file_that_only_the_launching_identity_writes(volume: Driver):
    """It is installed before anything of ours can verify it, so it is not in the volume."""
    pinned = f"dagster=={metadata.version('dagster')} \\\n    --hash=sha256:{'0' * 64}\n"
    outcome = volume.run("nothing", requirements=pinned)
    assert outcome.success, outcome.failure_text
    (submitted,) = volume.workspace.calls.matching("POST", "*/jobs/runs/submit")
    assert submitted.body is not None
    (library,) = submitted.body["tasks"][0]["libraries"]
    assert library["requirements"].startswith("/Workspace/Users/engineer@example.com/")
    assert library["requirements"].endswith(".txt")
    assert staged(volume.workspace) == []
    half = volume.run("nothing", requirements=f"{pinned}tqdm=={metadata.version('tqdm')}\n")
    assert "--require-hashes" in half.failure_text


def test_they_reach_a_step_on_an_existing_cluster(volume: Driver):
    volume.workspace.secrets.put("scope", "key", "resolved")
    cluster = volume.workspace.clusters.add(CLUSTER, source="API", creator="engineer@example.com")
    outcome = volume.run(
        "nothing", cluster={}, existing_cluster_id=cluster.id, env={"PLAIN": "yes"}, secrets={"HIDDEN": "scope/key"}
    )
    assert outcome.success, outcome.messages()
    assert (outcome.metadata["plain"], outcome.metadata["secret"]) == ("yes", "resolved")


def test_tags_that_the_step_adds_to_its_run_come_back_even_if_it_fails(volume: Driver):
    with dg.DagsterInstance.local_temp() as instance:
        outcome = volume.run("tagging", instance=instance, tags={"kept": "as it was", "mine": "too"})
        (run,) = instance.get_runs()

    assert not outcome.success
    assert {name: run.tags[name] for name in ("colour", "kept", "mine")} == {
        "colour": "blue",
        "kept": "changed",
        "mine": "too",
    }


def test_no_token_in_any_byte_that_is_sent(driver: Driver):
    sent: list[bytes] = []

    def record(request: Request, proceed: object) -> Reply:
        sent.append(request.path.encode() + json.dumps(dict(request.query)).encode() + request.body)
        if "json" in request.headers.get("content-type", ""):
            texts = [value for value in request.document().values() if isinstance(value, str)]
            sent.extend(base64.b64decode(text + "===") for text in texts if len(text) > 200)
        return proceed()  # type: ignore[operator]

    driver.workspace.faults.on_call("record", record, times=None)
    driver.workspace.secrets.put("scope", "key", "the-secret-value")
    outcome = driver.run("nothing", secrets={"HIDDEN": "scope/key"}, tags={"who": "tester"})
    assert outcome.success
    assert outcome.metadata["token"] == "none"  # noqa: S105 - the word for no token
    unzipped = []
    for content in sent:
        start = content.find(b"PK\x03\x04")
        if start >= 0:
            with zipfile.ZipFile(io.BytesIO(content[start:])) as archive:
                unzipped += [archive.read(name) for name in archive.namelist()]
    assert unzipped, "the code was among what was sent"
    assert any(b"step_key" in content for content in sent), "and so was the request"
    everything = [*sent, *unzipped]
    assert not any(driver.workspace.token.encode() in content for content in everything)
    assert not any(b"the-secret-value" in content for content in everything)


def test_token_in_the_tags_of_a_run_is_refused_before_the_submit(driver: Driver):
    outcome = driver.run("nothing", tags={"oops": driver.workspace.token})
    assert "the content to be sent contains a credential of the launching side" in outcome.failure_text
    assert driver.workspace.token not in outcome.failure_text
    assert driver.workspace.calls.matching("POST", "*/jobs/runs/submit") == []
    assert not any(driver.workspace.token in path for path in staged(driver.workspace))


def test_no_pickle_travels(driver: Driver):
    """Who can write to the staging folder must not be able to run code with it on the launching side."""
    driver.run("broken", keep_staging_on_failure=True)
    trees = (driver.workspace.storage.volumes, driver.workspace.storage.dbfs)
    files = [
        path for tree in trees for path in tree.rglob("*") if path.is_file() and path.suffix not in (".zip", ".py")
    ]
    assert files
    for path in files:
        assert json.loads(
            path.read_bytes().split(b"\n", 1)[-1] if path.name.startswith("chunk-") else path.read_bytes()
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dagster": "1.0.0"}, "dagster: "),
        ({"pydantic": "1.10.0"}, "pydantic: "),
        ({"packages": {"no-such-package": "1.0"}}, "no-such-package: not installed on the cluster"),
    ],
)
def test_versions_that_do_not_go_together_are_one_clear_error(volume: Driver, change: dict[str, object], says: str):
    outcome = volume.run("nothing", versions=asdict(local_versions()) | change)
    assert says in outcome.failure_text
    assert "Fix: choose another `runtime`" in outcome.failure_text
    assert "traceback on the cluster" not in outcome.failure_text
    assert outcome.events(dg.DagsterEventType.STEP_START) == [], "nothing of the step was read"


def test_another_minor_of_python_is_a_warning(volume: Driver):
    outcome = volume.run("nothing", versions=asdict(local_versions()) | {"python": "3.14.1"})
    assert outcome.success
    assert outcome.says("Cluster and launching side differ: python: ")


def test_package_is_importable_on_the_workers(volume: Driver):
    """The driver's `sys.path` is not that of Python on the workers."""
    outcome = volume.run("counting", python_on_workers=True)
    assert outcome.success, outcome.messages()
    assert "code-" in str(outcome.metadata["file"]), "from the zip"


def test_op_with_a_retry_policy_has_a_run_for_each_attempt(driver: Driver):
    outcome = driver.run("second_time_lucky")
    assert outcome.success, outcome.messages()
    assert len(outcome.events(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    first, second = list(driver.workspace.runs)[-2:]
    assert (first.end is not None and first.end.is_success, second.end is not None and second.end.is_success) == (
        False,
        True,
    )


def test_paths_of_this_machine_stay_here(volume: Driver, checkout: Path):
    volume.run("broken", keep_staging_on_failure=True)
    (request,) = volume.workspace.storage.volumes.rglob("request.json")
    assert str(checkout) not in request.read_text("utf-8")


def test_code_location_that_is_a_file_is_refused(volume: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    location = tmp_path / "elsewhere.py"
    location.write_text("from mlops_assets_tests.databricks.launch.code_location import defs\n", "utf-8")
    monkeypatch.setenv("LAUNCH_SPEC", json.dumps(volume.fields()))
    monkeypatch.setenv("LAUNCH_TOKEN", volume.workspace.token)
    job = ReconstructableJob(ReconstructableRepository.for_file(str(location), "defs"), "nothing_job")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.execute_job(job, instance=instance, run_config=IN_PROCESS)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "not underneath" in str(failure.step_failure_data.error) or "load it as a module" in str(
        failure.step_failure_data
    )
    assert volume.workspace.calls.matching("POST", "*/jobs/runs/submit") == []
