"""`mlops models` and `mlops retire`, for the model of the settings and in a project of components."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.cli.main import main
from mlops_assets.instance.home import prepare_for
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets_tests.conftest import CHECKOUT
from mlops_assets_tests.registry.test_pins import registered, searched

MODEL = "fraud_creditcard_synthetic"
Mlops = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mlops(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mlops:
    """Run a command in this process, outside of any project."""
    monkeypatch.setenv("MLOPS_HOME", str(settings.home))
    monkeypatch.chdir("/")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def cells(out: str) -> list[list[str]]:
    """Return the cells of each line below the head."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in out.splitlines()[1:]]


def test_an_empty_home_has_one_model_and_looking_at_it_makes_nothing(mlops: Mlops, settings: Settings):
    code, out, _ = mlops("models")

    assert code == 0
    assert cells(out) == [["creditcard_synthetic", MODEL, "-", "-", "never", "-", "-"]]
    assert not settings.home.exists()


def test_champion_and_last_load_are_shown_and_a_retired_model_says_so(
    mlops: Mlops, settings: Settings, tracking: Tracking
):
    store = tracking.connect()
    registered(store, searched(store, 0, 0, "creditcard_synthetic"), MODEL)
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    with dg.DagsterInstance.from_config(str(prepare_for(settings))) as instance:
        made = dg.AssetMaterialization(
            "raw_transactions", metadata={"dagster/row_count": 12_000, "table": "/lakehouse/raw_transactions"}
        )
        instance.report_runless_asset_event(made)

    code, out, _ = mlops("models")
    assert code == 0
    ((name, model, champion, age, loaded, rows, table),) = cells(out)
    assert (name, model, champion) == ("creditcard_synthetic", MODEL, "version 1")
    assert age.endswith(("seconds", "minute", "minutes"))
    assert loaded[:2] == "20"
    assert (rows, table) == ("12,000", "/lakehouse/raw_transactions")

    for _ in range(2):  # again is harmless
        code, out, _ = mlops("retire", "--model", MODEL)
        assert code == 0
        assert "Aliases removed: champion version 1." in out
        assert "To bring it back: mlops retire --undo --model creditcard_synthetic" in out
        assert by_alias(store, MODEL, "champion") is None
    assert "retired 20" in mlops("models")[1]

    code, out, _ = mlops("retire", "--undo", "--model", "creditcard_synthetic")
    assert (code, "its aliases: champion version 1" in out) == (0, True)
    assert "version 1" in mlops("models")[1]
    assert mlops("retire", "--undo", "--model", MODEL)[:2] == (0, "creditcard_synthetic is not retired.\n")


def test_a_model_that_is_not_there_is_not_retired_and_nothing_is_made(mlops: Mlops, settings: Settings):
    code, out, error = mlops("retire", "--model", "fraud_creditcard")

    assert (code, out) == (2, "")
    assert "there is no model 'fraud_creditcard'" in error
    assert not settings.home.exists()


def test_a_model_must_be_named_to_be_retired(mlops: Mlops, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        mlops("retire")

    assert ended.value.code == 2
    assert "--model" in capsys.readouterr().err


def test_a_registry_that_is_away_is_one_error_and_2(mlops: Mlops, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:9")

    code, out, error = mlops("retire", "--model", MODEL)

    assert (code, out) == (2, "")
    assert error.startswith("the MLflow server does not answer")


@pytest.fixture
def in_project(tmp_path: Path, empty_mlflow: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `mlops` as a user does in the example project, which is not installed, with a home of its own."""
    store = tmp_path / "home" / "mlflow" / "mlflow.db"
    store.parent.mkdir(parents=True)
    shutil.copy(empty_mlflow, store)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("mlops")), *arguments],
            cwd=CHECKOUT / "examples" / "own_project",
            env={"PATH": os.defpath, "HOME": str(tmp_path), "MLOPS_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.mark.proof  # four commands in a project
def test_in_a_project_the_models_are_the_projects_and_one_is_retired(
    in_project: Callable[..., subprocess.CompletedProcess[str]],
):
    retired = in_project("retire", "--model", "cards")
    assert retired.returncode == 0, retired.stderr
    assert retired.stdout.startswith("cards is retired since 20")

    listed = in_project("models")

    assert listed.returncode == 0, listed.stderr
    cards, transfers = (line[:3] for line in cells(listed.stdout))
    assert (cards[:2], cards[2][:10]) == (["cards", "fraud_cards_synthetic"], "retired 20")
    assert transfers == ["transfers", "fraud_transfers_files", "-"]
