"""`mlops replay` and `mlops upkeep`, as a user runs them on tables that a load has left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from mlops_assets_tests.assets.harness import replaced, transactions, write_csv
from mlops_assets_tests.conftest import CHECKOUT

BAD_ROWS = 7
STRICT = "  - {name: v3, type: double, max: 100,"


def run(*command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=CHECKOUT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.proof
def test_rows_come_out_of_quarantine_and_the_tables_are_kept_up(tmp_path: Path, shared_home: Path):
    home, contract = tmp_path / "home", tmp_path / "cards.yaml"
    home.mkdir()
    (home / "jars").symlink_to(shared_home / "jars")
    shipped = (resources.files("mlops_assets.data.contract") / "shipped" / "creditcard.yaml").read_text("utf-8")
    strict = shipped.replace("  - {name: v3, type: double,", STRICT) + "max_bad_share: 0.5\n"
    contract.write_text(strict, "utf-8")
    write_csv(replaced(transactions(rows=600), "v3", ["1000.0"] * BAD_ROWS), tmp_path / "t.csv")
    variables = {"MLOPS_HOME": str(home), "MLOPS_SOURCE": str(tmp_path / "t.csv"), "MLOPS_CONTRACT": str(contract)}
    variables["DAGSTER_HOME"] = run("mlops_assets.cli.main", "instance", variables=variables).stdout.strip()

    nothing = run("mlops_assets.cli.main", "replay", variables=variables)
    assert nothing.returncode == 1
    assert "The job failed:\n  raw_transactions: " in nothing.stdout
    assert "Traceback" not in nothing.stdout + nothing.stderr

    load = ("dagster", "job", "execute", "-m", "mlops_assets.definitions", "-a", "defs", "-j", "load_data")
    assert run(*load, variables=variables).returncode == 0
    contract.write_text(strict.replace(" max: 100,", ""), "utf-8")

    replayed = run("mlops_assets.cli.main", "replay", variables=variables)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert f"{BAD_ROWS} rows left the quarantine, 0 remain in it." in replayed.stdout
    assert "raw_transactions has 600 rows, version 1." in replayed.stdout
    assert re.search(r"^  raw_transactions done in [\d.]+ s$", replayed.stdout, re.MULTILINE)

    kept = run("mlops_assets.cli.main", "upkeep", variables=variables)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert re.search(r"^raw_transactions +files 2 -> 1, \d+ old files deleted", kept.stdout, re.MULTILINE)
    assert "Traceback" not in kept.stdout + kept.stderr
