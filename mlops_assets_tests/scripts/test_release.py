"""A release: which tag is accepted, what the bundle may say, in which order it goes on, and the whole of it once."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import mlops_assets
from databricks_loopback.compute_presets import Policies
from mlops_assets.databricks.profile import load_profile
from mlops_assets.databricks.runtimes import RUNTIMES

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ["staging", "prod"]
Resources = dict[str, dict[str, Any]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script by its name, as its neighbours do."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


@pytest.fixture
def bundle(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bundle")


# The tag --------------------------------------------------------------------------------------------------------------


def test_only_a_tag_of_the_version_is_released(script: Callable[[str], ModuleType]):
    release = script("release")
    release.check_tag(f"v{mlops_assets.__version__}")
    for tag in (mlops_assets.__version__, "v9.9.9", f"v{mlops_assets.__version__}-rc1"):
        with pytest.raises(release.ReleaseError, match=r"the tag is .* Fix: delete the tag"):
            release.check_tag(tag)


# The bundle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_deployed_is_what_the_profile_says(bundle: ModuleType, target: str):
    found = bundle.resources(target)
    assert list(bundle.problems(found)) == []
    profile = load_profile(target, {"MLOPS_DATABRICKS_HOST": "https://adb-1.1.azuredatabricks.net"})
    assert bundle.targets() == TARGETS
    assert found["schemas"]["tables"]["name"] == profile.db_schema
    staging = found["volumes"]["staging"]
    parts = [staging[name] for name in ("catalog_name", "schema_name", "name")]
    assert profile.staging_path == f"/Volumes/{'/'.join(parts)}"
    assert {name: job["tasks"][0]["spark_python_task"]["parameters"][0] for name, job in found["jobs"].items()} == {
        "main": "main",
        "loader": "load_data",
        "builder": "build_model",
        "smoke": "load_data",
    }
    for name, job in found["jobs"].items():
        cluster = job["job_clusters"][0]["new_cluster"]
        runtime = RUNTIMES[profile.clusters.loader.runtime]
        assert cluster["spark_version"] == runtime.spark_version
        named = cluster["spark_env_vars"]["MLOPS_DATABRICKS_SCHEMA"]
        assert named == profile.db_schema + ("_smoke" if name == "smoke" else "")
    trials = found["jobs"]["main"]["job_clusters"][0]["new_cluster"]
    assert trials["node_type_id"] == profile.clusters.trials.node_type
    assert trials["num_workers"] == profile.clusters.trials.workers
    assert trials["spark_conf"]["spark.task.cpus"] == str(profile.clusters.trials.task_cpus)


@pytest.mark.parametrize("target", TARGETS)
def test_every_cluster_obeys_the_policy_that_a_release_makes(bundle: ModuleType, target: str):
    policies = Policies()
    definition = json.loads((ROOT / "deploy" / "cluster_policy.json").read_text("utf-8"))
    policy = policies.add("mlops_assets", definition, creator="release")
    clusters = [job["job_clusters"][0]["new_cluster"] for job in bundle.resources(target)["jobs"].values()]
    for cluster in clusters:
        policies.enforce(policy, cluster)
    with pytest.raises(Exception, match="num_workers"):
        policies.enforce(policy, clusters[0] | {"num_workers": 100})


def plant(found: Resources, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place: Any = found
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("jobs.main.max_concurrent_runs", 3, "at most 2 may run at once"),
        ("jobs.main.max_concurent_runs", 1, "is nothing that databricks-sdk knows there"),
        ("jobs.main.permissions", [], "no permissions"),
        ("jobs.main.permissions.0.level", "CAN_FLY", "jobs.main.permissions.permission_level"),
        ("jobs.main.timeout_seconds", 0, "no timeout_seconds"),
        ("jobs.main.tasks.0.job_cluster_key", "none", "names no cluster of the job"),
        ("jobs.main.job_clusters.0.new_cluster.node_typ_id", "x", "new_cluster.node_typ_id"),
        ("schemas.tables.grants.0.privileges", ["READ_MINDS"], "schemas.tables.grants.privileges"),
        ("volumes.staging.volume_type", "BOTTOMLESS", "volumes.staging.volume_type"),
    ],
)
def test_what_the_bundle_may_not_say(bundle: ModuleType, path: str, value: Any, told: str):
    found = json.loads(json.dumps(bundle.resources("staging")))
    plant(found, path, value)
    lines = list(bundle.problems(found))
    assert [line for line in lines if told in line], lines


def test_a_reference_that_leads_nowhere_and_a_target_that_is_not_there(bundle: ModuleType, tmp_path: Path):
    text = (ROOT / "databricks.yml").read_text("utf-8").replace("${var.catalog}", "${var.catalogue}", 1)
    (tmp_path / "databricks.yml").write_text(text, "utf-8")
    with pytest.raises(bundle.BundleError, match=r"\$\{var\.catalogue\} is defined nowhere"):
        bundle.resources("staging", folder=tmp_path)
    with pytest.raises(bundle.BundleError, match="no target moon; there are staging, prod"):
        bundle.resources("moon")


@pytest.mark.proof  # reason: installs the newest databricks-bundles from the package index
@pytest.mark.parametrize("target", TARGETS)
def test_the_clis_own_data_classes_take_the_bundle_whole(bundle: ModuleType, target: str):
    """`databricks-bundles` is generated from the CLI's JSON schema; a field that it does not know is an error there."""
    code = (
        "import json, sys\n"
        "from databricks.bundles import jobs, schemas, volumes\n"
        "kinds = {'jobs': jobs.Job, 'schemas': schemas.Schema, 'volumes': volumes.Volume}\n"
        "found = json.load(sys.stdin)\n"
        "print(json.dumps({k: {n: kinds[k].from_dict(v).as_dict() for n, v in found[k].items()} for k in kinds}))\n"
    )
    uv = [str(Path(sys.executable).with_name("uv")), "run", "--quiet", "--isolated", "--no-project"]

    def through(found: Resources) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*uv, "--python", sys.executable, "--with", "databricks-bundles", "python", "-c", code],
            input=json.dumps(found),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    found = bundle.resources(target)
    done = through(found)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == found
    plant(found, "jobs.main.max_concurent_runs", 1)
    assert "max_concurent_runs" in through(found).stderr


# The workflow ---------------------------------------------------------------------------------------------------------


def test_the_workflow_goes_from_tests_to_staging_to_production():
    document = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    jobs = document["jobs"]
    assert document[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None,
        "staging": "build",
        "production": "staging",
        "publish": "production",
    }
    commands = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert [command for command in commands if not command.startswith("sudo")] == [
        "make check",
        '.venv/bin/python scripts/release.py check-tag "$GITHUB_REF_NAME"',
        "make test",
        "make release-check",
    ]
    assert [jobs[name]["with"] for name in ("staging", "production")] == [
        {"environment": "staging", "target": "staging"},
        {"environment": "production", "target": "prod"},
    ]


# The whole ------------------------------------------------------------------------------------------------------------


@pytest.mark.proof  # reason: two deployments to a loopback workspace, with Spark
@pytest.mark.timeout(900)
def test_a_release_that_fails_is_replaced_by_the_one_before():
    """The check itself plants the failure, and ends with 1 if anything goes otherwise."""
    script = [sys.executable, str(ROOT / "scripts" / "release_check.py")]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=850)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-3_000:]
    assert "9.9.9 failed on staging, which has" in done.stderr
