"""`mlops demo` as a stranger runs it: progress, summary, JSON, and a refusal that can be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import dagster as dg
import psutil
import pytest

from mlops_assets.automation.jobs import MAIN
from mlops_assets.cli.run_job import FinishedRun, report_failure
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import Databases, replaced, transactions, write_csv
from mlops_assets_tests.processes.control import ANSWER_SECONDS, LISTENING, eventually, started

CHECKOUT = Path(__file__).resolve().parents[2]
KEYS = {"data_set", "rows", "raw_version", "run_id", "registered_version", "best_point", "seconds", "metrics"}


@pytest.fixture
def home(tmp_path: Path, shared_home: Path) -> Path:
    """A home of its own that shares the cached jars."""
    made = tmp_path / "home"
    made.mkdir()
    (made / "jars").symlink_to(shared_home / "jars")
    return made


def demo(home: Path, source: Path, trials: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli.main", "demo", "--trials", str(trials)],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, "MLOPS_HOME": str(home), "MLOPS_SOURCE": str(source)},
        timeout=850,
    )


@pytest.mark.proof  # the whole flow in a process of its own
def test_the_demo_ends_with_a_summary_and_the_same_as_json(home: Path, tmp_path: Path):
    write_csv(transactions(rows=2_000, days=6, fraud_rate=0.06), tmp_path / "t.csv")

    done = demo(home, tmp_path / "t.csv")

    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((home / "demo.json").read_text())
    assert set(summary) >= KEYS
    assert summary["rows"] == 2_000
    assert set(summary["seconds"]) == {"raw_transactions", "splits", "tuned_model", "registered_model"}
    for metric in summary["metrics"].values():
        assert metric["low"] <= metric["estimate"] <= metric["high"]
    look = f"make ui SOURCE={tmp_path / 't.csv'})"
    kept = f"demos/{summary['dagster_run_id']}.json"
    for said in ("trial 2 of 2 done", summary["run_id"], "average_precision", look, kept):
        assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_why_a_run_failed_is_said_in_one_line(
    lakehouse: Lakehouse,
    settings: Settings,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """What the demo prints at the end of a run that was refused, without the process around it."""
    write_csv(replaced(transactions(), "v3", ["oops"] * 7), tmp_path / "bad.csv")
    job = build_defs(
        settings.model_copy(update={"source": str(tmp_path / "bad.csv")}), lakehouse=Databases(lakehouse)
    ).resolve_job_def(MAIN)
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    code = report_failure(FinishedRun(cast("dg.JobExecutionResult", result), {}, []))  # the two differ in how they end

    assert code == 1
    said = capsys.readouterr().out
    assert said.startswith("\nThe job failed:\n  raw_transactions: ")
    assert "v3 (7 rows), such as 'oops'" in said
    assert "Traceback" not in said


@pytest.mark.proof
def test_a_demo_on_bad_data_says_why_in_one_line(home: Path, tmp_path: Path):
    write_csv(replaced(transactions(), "v3", ["oops"] * 7), tmp_path / "bad.csv")

    done = demo(home, tmp_path / "bad.csv")

    assert done.returncode == 1
    assert "v3 (7 rows), such as 'oops'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (home / "demo.json").exists()


@pytest.mark.proof  # a process of its own, interrupted in its search
def test_ctrl_c_leaves_no_traceback(home: Path, tmp_path: Path):
    """In a terminal it reaches the whole group: the demo and all that it has started there."""
    write_csv(transactions(rows=2_000, days=6, fraud_rate=0.06), tmp_path / "t.csv")
    log = tmp_path / "log"
    command = [sys.executable, "-c", LISTENING, "demo", "--trials", "50"]
    variables = {"MLOPS_HOME": str(home), "MLOPS_SOURCE": str(tmp_path / "t.csv")}
    with started(command, log, variables=variables) as running:
        eventually(lambda: "searching 50 points" in log.read_text(), 2 * ANSWER_SECONDS, "the search has begun")
        children = psutil.Process(running.pid).children()
        helpers = [child.pid for child in children if "watch_orphans" in str(child.cmdline())]
        os.killpg(running.pid, signal.SIGINT)
        ended = running.wait(ANSWER_SECONDS)

    said = log.read_text()
    assert ended == 130, said
    assert said.endswith("\nInterrupted.\n")
    assert "Traceback" not in said
    assert helpers, "Dagster starts its log helpers otherwise"
    assert not any(psutil.pid_exists(pid) for pid in helpers)
