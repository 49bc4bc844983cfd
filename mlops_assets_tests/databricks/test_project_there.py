"""A project of components on the loopback workspace: its code travels, and the assets of its models are found there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets_tests.databricks.main_job import CHECKOUT
from mlops_assets_tests.databricks.main_job_ways import Way

pytestmark = pytest.mark.timeout(900)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example project outside of the checkout, and not installed."""
    return Path(
        shutil.copytree(
            CHECKOUT / "examples" / "own_project",
            tmp_path / "elsewhere" / "own_project",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    )


def load(project: Path, home: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Load generated rows into the table of cards; only the launching side has the project's sources on its path."""
    (home / "dagster").mkdir(parents=True)
    (home / "config.yaml").write_text("ops: {cards__raw_transactions: {config: {source: {rows: 2000, days: 3}}}}")
    paths = {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), "PYTHONPATH": str(project / "src")}
    command = ["-m", "dagster", "job", "execute", "-m", "own_project.definitions", "-j", "cards__load_data"]
    return subprocess.run(
        [sys.executable, *command, "-c", str(home / "config.yaml")],
        cwd=project,
        env={**os.environ, **paths, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )


@pytest.mark.parametrize("launcher", ["step", "pipes"])
def test_the_tables_of_a_component_are_loaded_on_the_cluster(
    tmp_path: Path, project: Path, shared_home: Path, launcher: str
):
    way, home = Way(launcher, ""), tmp_path / "launching"
    with way.workspace(tmp_path / "workspace", shared_home, NOBODY) as workspace:
        done = load(project, home, way.variables(workspace, NOBODY))
        assert done.returncode == 0, done.stderr[-8_000:]
        table = workspace.storage.in_dbfs(f"{way.table_root}/cards_synthetic/raw_transactions")
        assert (table / "_delta_log").is_dir(), "made there, from the project's own contract"
        assert [run.end.is_success for run in workspace.runs if run.end is not None] == [True]

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["cards", "raw_transactions"]))
        (run,) = instance.get_runs()
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["dagster/row_count"].value == 2_000
    tags = {name: tag for name, tag in run.tags.items() if name.startswith("mlops_assets/")}
    tags.pop("mlops_assets/process", None)  # set where no code server has started the run
    assert tags == {"mlops_assets/model": "cards", "mlops_assets/raw_version": "0"}
