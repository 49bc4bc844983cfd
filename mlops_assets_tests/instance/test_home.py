"""The embedded instance: its `dagster.yaml`, and the pool of launches that Dagster limits over all runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.databricks.preflight import Finding
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.diagnostics.launch_limit import launch_limit
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.instance.home import _write_config, prepare_instance
from mlops_assets.instance.run_launcher import LocalRunLauncher
from mlops_assets.resources.placement import CLUSTER_KEYS
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import spec_of
from mlops_assets_tests.conftest import CHECKOUT

JOB = "launch_job"


@dg.asset(pool=LAUNCH_POOL)
def launched() -> None:
    """Wait for a second step to begin, for 10 s at most, and leave the times between which this one ran."""
    folder, began = Path(os.environ["LAUNCH_TIMES"]), time.time()
    (folder / f"{os.getpid()}.began").touch()
    while len(list(folder.glob("*.began"))) < 2 and time.time() < began + 10:
        time.sleep(0.1)
    (folder / f"{os.getpid()}.times").write_text(f"{began} {time.time()}", "utf-8")


defs = dg.Definitions(assets=[launched], jobs=[dg.define_asset_job(JOB, [launched])], executor=dg.in_process_executor)


def limit_of(folder: Path) -> int | None:
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}.get(LAUNCH_POOL)


def test_every_asset_that_names_a_cluster_is_in_the_pool():
    assets = [
        found
        for found in build_fraud_model(spec_of(), Settings()).assets or []
        if isinstance(found, dg.AssetsDefinition)
    ]

    assert {asset.op.name: asset.op.pool for asset in assets if CLUSTER_KEYS.keys() & asset.required_resource_keys} == {
        "raw_transactions": LAUNCH_POOL,
        "splits": LAUNCH_POOL,
        "tuned_model": LAUNCH_POOL,
        "registered_model": LAUNCH_POOL,
        "table_upkeep": LAUNCH_POOL,
        "as_of_backtest": LAUNCH_POOL,
    }


def test_the_limit_is_set_and_changed_and_otherwise_left_alone(tmp_path: Path):
    assert limit_of(prepare_instance(tmp_path)) is None
    assert limit_of(prepare_instance(tmp_path, launches=2)) == 2
    assert limit_of(prepare_instance(tmp_path, launches=1)) == 1
    assert limit_of(prepare_instance(tmp_path)) == 1


def test_the_instance_of_the_command_line_has_the_limit_of_the_profile(tmp_path: Path):
    variables = {"MLOPS_TARGET": "databricks", "MLOPS_DATABRICKS_HOST": "https://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli.main", "instance"],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MLOPS_HOME": str(tmp_path), **variables}
        | {"MLOPS_DATABRICKS_MAX_CONCURRENT_LAUNCHES": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert limit_of(Path(done.stdout.strip())) == 5


def test_the_pool_is_counted_in_runs_so_that_a_run_waits_in_the_queue(tmp_path: Path):
    with dg.DagsterInstance.from_config(str(prepare_instance(tmp_path))) as instance:
        pools = instance.get_concurrency_config().pool_config
    assert pools.pool_granularity is not None
    assert pools.pool_granularity.value == "run"


@pytest.mark.proof
@pytest.mark.parametrize(("limit", "overlap"), [(1, False), (2, True)])
def test_no_more_runs_launch_than_the_limit_at_once(tmp_path: Path, limit: int, overlap: bool):
    times, home = tmp_path / "times", prepare_instance(tmp_path / "dagster", launches=limit)
    times.mkdir()
    environ = {**os.environ, "DAGSTER_HOME": str(home), "LAUNCH_TIMES": str(times)}
    location = ["-m", __name__, "-a", "defs"]

    def started(program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", program, *arguments]
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    for run in [started("dagster", "job", "launch", *location, "-j", JOB) for _ in range(2)]:
        _, log = run.communicate(timeout=120)
        assert run.returncode == 0, log[-3_000:]
    daemon = started("dagster._daemon", "run", *location)
    try:
        deadline = time.monotonic() + 120
        while len(list(times.glob("*.times"))) < 2:
            assert time.monotonic() < deadline
            assert daemon.poll() is None
            time.sleep(0.5)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
    (_, first_end), (second_begin, _) = sorted(
        tuple(map(float, path.read_text("utf-8").split())) for path in times.glob("*.times")
    )
    assert (second_begin < first_end) == overlap


def test_the_doctor_compares_the_limit_with_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://127.0.0.1:9")
    here, there = Settings(home=tmp_path), Settings(home=tmp_path, target="databricks")
    found: list[Finding] = []
    for launches in (None, 7, 2):
        with dg.DagsterInstance.from_config(str(prepare_instance(tmp_path, launches=launches))) as instance:
            assert list(launch_limit(here, instance)) == []
            found += launch_limit(there, instance)
    assert [finding.level for finding in found] == ["warning", "warning", "ok"]
    assert found[0].text.startswith("no limit, but the profile sets 2; run dagster instance concurrency set")
    assert found[1].text.startswith("a limit of 7,")


FORMER = """\
# mine: two lines that must stay\t
run_launcher:
  module: mlops_assets.run_launcher  # the embedded one
  class: LocalRunLauncher
run_monitoring: {enabled: true}
python_logs: {managed_python_loggers: [mlops_assets.run_launcher]}
"""


def test_a_run_launcher_that_has_moved_is_renamed_and_nothing_else(tmp_path: Path):
    config = tmp_path / "dagster.yaml"
    config.write_bytes(FORMER.replace("\n", "\r\n").encode())
    config.chmod(0o640)

    prepare_instance(tmp_path)

    renamed = FORMER.replace("module: mlops_assets.run_launcher", "module: mlops_assets.instance.run_launcher")
    assert config.read_bytes() == renamed.replace("\n", "\r\n").encode()
    assert config.stat().st_mode & 0o777 == 0o640
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, LocalRunLauncher)


@pytest.mark.parametrize(
    "launcher",
    ["mlops_assets.instance.run_launcher", "mlops_assets.run_launcher_of_mine", "their.mlops_assets.run_launcher"],
)
def test_a_dagster_yaml_that_needs_no_change_is_not_written(tmp_path: Path, launcher: str):
    config = tmp_path / "dagster.yaml"
    config.write_text(FORMER.replace("mlops_assets.run_launcher  #", f"{launcher}  #"))
    before = config.stat()

    _write_config(config)

    assert (config.stat().st_mtime_ns, config.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
