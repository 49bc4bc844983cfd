"""The command line itself: help, usage, the model that is asked for, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.cli.location import Location, choose
from mlops_assets.cli.main import main
from mlops_assets.errors import SettingsError
from mlops_assets.settings import Settings

WORKING = ("demo", "doctor", "ui", "models", "retire", "verify", "upkeep", "replay", "revert", "repair", "instance")
COMMANDS = (*WORKING, "erase")  # which needs an entity, too


def mlops(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the console script as a stranger does, from any folder."""
    script = str(Path(sys.executable).with_name("mlops"))
    environment = {"PATH": os.defpath, "HOME": variables.get("MLOPS_HOME", os.devnull), **variables}
    command = [script, *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_every_command_and_every_exit_code():
    answer = mlops("--help")
    assert answer.returncode == 0
    for shown in (*COMMANDS, "exit codes:", "  0    done", "  1    ", "  2    ", "  130  "):
        assert shown in answer.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_the_model_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "examples:\n  " in shown
    assert f"mlops {command}" in shown.partition("examples:")[2]
    assert "--model NAME" in shown
    assert "exit codes:" in shown


def test_help_loads_neither_dagster_nor_anything_heavier():
    code = "import sys, mlops_assets.cli.main; print([m for m in ('dagster', 'pyspark', 'tqdm') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_damaged_table_is_one_line_and_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    log = tmp_path / "lakehouse" / "creditcard_synthetic" / "ingested_batches" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text('{"add": {"path')

    assert main(["revert"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the log of ")
    assert "Fix: restore the file from a backup" in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["erase"],
        ["demos"],
        ["demo", "--trials", "0"],
        ["demo", "--trials", "many"],
        ["ui", "--port", "-1"],
        ["retire"],
    ],
)
def test_a_wrong_command_line_is_usage_and_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: mlops" in capsys.readouterr().err


@pytest.mark.parametrize("command", WORKING)
def test_another_model_is_one_error_that_names_the_one_there_is(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    assert main([command, "--model", "other"]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(
        "there is no model 'other'; the settings define one model, fraud_creditcard_synthetic [--model]"
    )
    assert "Fix: use --model fraud_creditcard_synthetic" in line
    assert captured.out == ""
    assert not (tmp_path / "home").exists()


def test_the_model_is_known_by_its_name_in_the_registry_and_by_its_database(tmp_path: Path):
    settings = Settings(home=tmp_path, database="cards", model_name="cards_fraud")
    for name in (None, "cards", "cards_fraud"):
        assert choose(settings, name, Location()).spec == settings.spec()
    with pytest.raises(SettingsError, match="the settings define one model, cards_fraud"):
        choose(settings, "fraud_cards", Location())


def test_instance_prints_the_folder_and_nothing_else(tmp_path: Path):
    answer = mlops("instance", "--model", "fraud_creditcard_synthetic", MLOPS_HOME=str(tmp_path))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"{tmp_path / 'dagster'}\n", "")
    assert (tmp_path / "dagster" / "dagster.yaml").is_file()


def test_a_setting_that_can_not_be_used_is_one_line_and_2(tmp_path: Path):
    answer = mlops("upkeep", MLOPS_HOME=str(tmp_path), MLOPS_TARGET="elsewhere")
    assert (answer.returncode, answer.stdout) == (2, "")
    (line,) = answer.stderr.splitlines()
    assert line.startswith("MLOPS_TARGET: Input should be 'local' or 'databricks'")
