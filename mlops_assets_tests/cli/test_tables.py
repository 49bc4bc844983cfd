"""`mlops replay` and `mlops upkeep`, as a user runs them on tables that a load has left."""

from __future__ import annotations

import os
import re
import shutil
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
        timeout=850,
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


@pytest.mark.proof  # loads and runs of the command line
def test_a_load_is_taken_back_what_is_lost_is_repaired_and_damage_is_found(tmp_path: Path, shared_home: Path):
    home, landing = tmp_path / "home", tmp_path / "landing"
    home.mkdir()
    landing.mkdir()
    (home / "jars").symlink_to(shared_home / "jars")
    write_csv(transactions(rows=600), landing / "good.csv")
    variables = {"MLOPS_HOME": str(home), "MLOPS_SOURCE": str(landing), "MLOPS_DATABASE": "cards"}
    variables["DAGSTER_HOME"] = run("mlops_assets.cli.main", "instance", variables=variables).stdout.strip()

    def mlops(*arguments: str, code: int = 0) -> str:
        answer = run("mlops_assets.cli.main", *arguments, variables=variables)
        assert answer.returncode == code, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stdout + answer.stderr
        return answer.stdout

    assert mlops("revert") == "No batch is loaded.\n"
    assert mlops("verify") == "Nothing was written yet.\n"
    load = ("dagster", "job", "execute", "-m", "mlops_assets.definitions", "-a", "defs", "-j", "load_data")
    assert run(*load, variables=variables).returncode == 0
    write_csv(transactions(rows=300, seed=6), landing / "wrong.csv")
    assert run(*load, variables=variables).returncode == 0

    listed = [line for line in mlops("revert").splitlines() if line.endswith("wrong.csv")]
    (batch,) = [line.split()[0] for line in listed]
    reverted = mlops("revert", "--batch", batch)
    assert "300 rows are gone, 0 are as they were before." in reverted
    assert "raw_transactions has 600 rows, version 2." in reverted
    assert "No model was trained on them." in reverted
    assert "no batch" in mlops("revert", "--batch", batch, code=1)

    assert "are whole and fit together" in mlops("verify")
    table = home / "lakehouse" / "cards" / "raw_transactions"
    (table / "_delta_log" / f"{2:020d}.json").rename(tmp_path / "lost")
    (table / "_delta_log" / f".{2:020d}.json.crc").unlink()
    assert "not on record, or were reverted" in mlops("verify", code=1)
    (tmp_path / "lost").rename(table / "_delta_log" / f"{2:020d}.json")

    (landing / "wrong.csv").unlink()
    shutil.rmtree(table)
    assert "batches on record are not in the table" in mlops("verify", code=1)
    assert "mlops repair" in run(*load, variables=variables).stderr
    assert "1 lost batches are in the tables again." in mlops("repair")
    assert "are whole and fit together" in mlops("verify")


PAYMENTS = """
name: payments
version: 1
event_time: at
target: fraud
key: id
entity: card
features: [amount]
columns:
  - {name: id, type: long}
  - {name: at, type: timestamp}
  - {name: card, type: string}
  - {name: amount, type: double}
  - {name: fraud, type: long}
"""


@pytest.mark.proof  # a load and two runs of the command line
def test_a_card_is_shown_first_and_erased_when_that_is_confirmed(tmp_path: Path, shared_home: Path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "jars").symlink_to(shared_home / "jars")
    (tmp_path / "payments.yaml").write_text(PAYMENTS, "utf-8")
    lines = [f"{n},2026-11-{1 + n % 28:02d}T12:00:00Z,card-{n % 5:06d},{n}.5,{n % 2}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,card,amount,fraud", *lines]) + "\n", "utf-8")
    variables = {"MLOPS_HOME": str(home), "MLOPS_SOURCE": str(tmp_path / "t.csv")}
    variables["MLOPS_CONTRACT"] = str(tmp_path / "payments.yaml")
    variables["DAGSTER_HOME"] = run("mlops_assets.cli.main", "instance", variables=variables).stdout.strip()
    load = ("dagster", "job", "execute", "-m", "mlops_assets.definitions", "-a", "defs", "-j", "load_data")
    assert run(*load, variables=variables).returncode == 0

    def erase(*more: str) -> str:
        answer = run("mlops_assets.cli.main", "erase", "--entity", "card-000003", *more, variables=variables)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stdout + answer.stderr
        return answer.stdout

    shown = erase()
    assert re.search(r"raw_transactions +12 rows, +\d+ files", shown)
    assert "t.csv. Inputs are not touched" in shown
    assert "Nothing was changed." in shown
    assert "Erased: no file of the tables or of the log holds it any more" in erase("--yes")
    tables = [path.read_bytes() for path in (home / "lakehouse").rglob("*") if path.is_file()]
    assert not any(b"card-000003" in content for content in tables)
    assert any(b"card-000004" in content for content in tables)
    assert "no table holds it" in erase()
