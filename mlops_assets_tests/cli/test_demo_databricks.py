"""`make demo TARGET=databricks-local` as a stranger runs it, to its end and interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from databricks_loopback import Workspace
from databricks_loopback.driving import processes
from mlops_assets.cli.demo_databricks import folder_of_its_own, upload
from mlops_assets.cli.loopback_installation import FOLDER, TABLES, installation
from mlops_assets.errors import PlatformError, StorageError
from mlops_assets_tests.assets.harness import transactions, write_csv

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = ["raw_transactions", "splits", "tuned_model", "registered_model"]
# Another workspace, which must not be called.
ELSEWHERE = {
    "DATABRICKS_HOST": "https://elsewhere.example.com",
    "DATABRICKS_TOKEN": "not-a-token",
    "MLOPS_DATABRICKS_HOST": "https://elsewhere.example.com",
    "MLOPS_TARGET": "databricks",
}


@pytest.fixture
def home(tmp_path: Path, shared_home: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    (made / "jars").symlink_to(shared_home / "jars")
    return made


@pytest.fixture
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with Workspace(tmp_path_factory.mktemp("workspace")) as made:
        yield made


def start(home: Path, source: Path, trials: int, log: Path) -> subprocess.Popen[bytes]:
    write_csv(transactions(rows=4_000, days=6, fraud_rate=0.04), source)
    command = [sys.executable, "-m", "mlops_assets.cli.demo_databricks", "--trials", str(trials)]
    variables = {**os.environ, **ELSEWHERE, "MLOPS_HOME": str(home), "MLOPS_SOURCE": str(source)}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def still_running(home: Path) -> list[str]:
    """Return what is left: the MLflow server and the clusters' machines name the folder."""
    return processes(str(home))


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_the_demo_runs_through_step_launchers_and_says_what_was_launched(home: Path, tmp_path: Path):
    log = tmp_path / "log"
    ended = start(home, tmp_path / "t.csv", 3, log).wait(400)

    said = log.read_text()
    assert ended == 0, said
    summary = json.loads((home / "databricks-local" / "demo.json").read_text())
    assert summary["rows"] == 4_000
    assert summary["tables"].startswith(f"/dbfs/{TABLES}/")
    assert [launch["step"] for launch in summary["launches"]] == STEPS
    for launch in summary["launches"]:
        assert launch["result"] == "SUCCESS"
        assert 0 < launch["seconds"] <= summary["seconds"][launch["step"]] + 5
        assert 0 < launch["api_calls"] < 400
        assert f"Launched as Databricks run {launch['run']}. {launch['page']}" in said
        assert f"cluster {launch['cluster']}" in said
    assert "trial 3 of 3 done" in said
    assert "4 launches on Databricks:" in said
    assert "4 runs, all finished" in said
    assert "Traceback" not in said
    assert not re.search(r"dapi[0-9a-f]{8}", said)
    assert "dapi" not in (home / "databricks-local" / "profile.yaml").read_text()
    assert still_running(home) == []


@pytest.mark.proof
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_all_that_it_started(home: Path, tmp_path: Path, number: signal.Signals):
    log = tmp_path / "log"
    demo = start(home, tmp_path / "t.csv", 3, log)
    try:
        deadline = time.monotonic() + 120
        while "Launched as" not in log.read_text() and time.monotonic() < deadline and demo.poll() is None:
            time.sleep(0.1)
        assert still_running(home) != [], log.read_text()
        demo.send_signal(number)
        ended = demo.wait(60)
    finally:
        demo.kill()

    said = log.read_text()
    assert ended == 130, said
    assert "Interrupted" in said
    assert "1 runs" in said
    assert "were stopped" in said
    assert "Traceback" not in said
    assert still_running(home) == []


def test_without_the_loopback_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "databricks_loopback", None)  # as Python answers for what is not installed
    match = r"databricks-loopback is not installed \[.*\] Fix: run `make setup`"
    with pytest.raises(PlatformError, match=match), installation(tmp_path, delta_jars=()):
        pass


def test_a_machine_that_can_not_imitate_a_cluster_is_named_in_the_platforms_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    match = r"needs Linux namespaces and util-linux .* Fix: run it on Linux"
    with pytest.raises(PlatformError, match=match), installation(tmp_path, delta_jars=()):
        pass


def test_two_demos_do_not_share_a_folder(home: Path):
    with folder_of_its_own(home) as folder:
        (folder / "precious").touch()
        with pytest.raises(StorageError, match="another demo is running"), folder_of_its_own(home):
            pass
        assert (folder / "precious").exists()
    with folder_of_its_own(home) as folder:
        assert list(folder.iterdir()) == [], "what the last demo left is gone"


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("{0}/a.csv", {"0/a.csv"}),
        ("file://{0}/a.csv", {"0/a.csv"}),
        ("{0}", {"0/a.csv", "0/b.csv"}),
        ("{0}/*.csv,{0}/b.csv", {"0/a.csv", "0/b.csv", "1/b.csv"}),
    ],
)
def test_files_of_this_machine_go_into_the_volume(workspace: Workspace, tmp_path: Path, source: str, files: set[str]):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    inbox = f"{FOLDER}/inbox"

    found = upload(source.format(tmp_path), workspace)

    folder = workspace.storage.in_volumes(inbox)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")} == files
    assert found.split(",") == [f"{inbox}/{number}" for number in range(source.count("{"))]


@pytest.mark.parametrize(
    "source", ["synthetic", "cards", "openml", "openml:1597", "s3://bucket/a.csv", "/nowhere/a.csv"]
)
def test_what_is_not_here_is_left_to_the_cluster(workspace: Workspace, source: str):
    assert upload(source, workspace) == source
    assert not workspace.storage.in_volumes(f"{FOLDER}/inbox").exists()
