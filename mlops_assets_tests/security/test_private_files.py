"""What a run writes is its user's alone, from the first byte."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.csv as pa_csv
import pytest
from pyspark.sql import SparkSession

from mlops_assets.cli import demo_databricks, main
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.resources import prepare_spark
from mlops_assets.settings import Settings
from mlops_assets_tests.conftest import CHECKOUT


def open_to_others(folder: Path) -> list[str]:
    """Return the files and folders that another user could read, write or enter if all above let him."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):  # the JVM of a run that has ended removes its temporary files
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o077:
                found.append(f"{stat.S_IMODE(mode):o} {path.relative_to(folder)}")
    return found


@pytest.mark.parametrize(
    "program",
    [lambda: main.main(["--help"]), demo_databricks.main, lambda: prepare_spark._main([])],
    ids=["mlops", "demo", "set-up"],
)
def test_each_program_begins_with_it(program: Callable[[], object], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    before = os.umask(0o022)
    try:
        with suppress(SystemExit):
            program()
        chosen = os.umask(0o022)
    finally:
        os.umask(before)

    assert chosen == 0o077


def test_a_code_server_that_dagster_starts_begins_with_it():
    code = "import os; os.umask(0o022); import mlops_assets.definitions; print(oct(os.umask(0)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)

    assert done.stdout.split()[-1] == "0o77"


def test_spark_writes_nothing_that_others_can_read(spark: SparkSession, tmp_path: Path):
    """By itself Hadoop gives each file 0644, whatever the process's umask is."""
    before = os.umask(0o022)
    try:
        spark.range(3).coalesce(1).write.format("delta").save(str(tmp_path / "table"))
    finally:
        os.umask(before)

    assert list((tmp_path / "table").glob("*.parquet"))
    assert open_to_others(tmp_path / "table") == []


def test_the_home_of_a_step_on_a_cluster_is_its_own(monkeypatch: pytest.MonkeyPatch):
    """It was /tmp/mlops_assets, which any other user of the cluster could make before, with links in it."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.2")
    monkeypatch.delenv("MLOPS_HOME", raising=False)

    home = Settings.from_environment().home

    assert home == Settings.from_environment().home, "one for all of the process"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.proof  # a whole demo
def test_a_demo_leaves_nothing_that_others_can_read(tmp_path: Path, shared_home: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "jars").symlink_to(shared_home / "jars")
    pa_csv.write_csv(generate(rows=4_000, days=6, fraud_rate=0.03, seed=3), tmp_path / "small.csv")
    environment = {**os.environ, "MLOPS_HOME": str(home), "MLOPS_SOURCE": str(tmp_path / "small.csv")}
    demo = [sys.executable, "-m", "mlops_assets.cli.main", "demo", "--trials", "2"]

    subprocess.run(demo, env=environment, cwd=CHECKOUT, check=True, timeout=800, umask=0o022)

    assert (home / "lakehouse").is_dir()
    assert open_to_others(home) == []
