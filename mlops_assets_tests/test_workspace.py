"""`dagster definitions validate -w workspace.yaml` and `dg check defs`, as a user types them in the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "definitions validate": ("dagster", "definitions", "validate", "-w", "workspace.yaml"),
    "dg check defs": ("dg", "check", "defs"),
}
SUCCESS = {
    "definitions validate": "Validation successful for code location mlops_assets",
    "dg check defs": "All definitions loaded successfully",
}
# Dagster warns of its own commands and components; nothing in this checkout could fix that.
DAGSTERS_OWN = ("Function `definitions_validate_command` is superseded", "Class `SparkDeclarativePipelineScaffolder`")


def run(command: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout with nothing set but what is given."""
    program, *arguments = COMMANDS[command]
    prefixes = ("MLOPS_", "DAGSTER_", "PYTHONWARNINGS")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(prefixes)}
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", "utf-8")
    environment |= {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **variables}
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def complaints(said: str) -> list[str]:
    """Return the lines that warn of something, but for Dagster's own."""
    warning = [line for line in said.splitlines() if "warning" in line.lower() or "error" in line.lower()]
    return [line for line in warning if not any(own in line for own in DAGSTERS_OWN)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_code_location_loads_with_nothing_to_complain_of(tmp_path: Path, command: str):
    answer = run(command, tmp_path)

    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    assert SUCCESS[command] in said
    assert complaints(said) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_setting_is_refused_with_its_name_and_the_way_out(tmp_path: Path, command: str):
    answer = run(command, tmp_path, MLOPS_CONTRACT="creditcrad")

    said = " ".join((answer.stdout + answer.stderr).split())  # whatever the width of the terminal
    assert answer.returncode != 0
    assert "no such contract [creditcrad]" in said
    assert "creditcard, handbook" in said
    assert complaints(answer.stdout + answer.stderr) != []
