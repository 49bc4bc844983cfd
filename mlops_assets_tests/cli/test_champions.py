"""`mlops champion` and `mlops rollback`, on a real registry and ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.registry.golden import keep_golden
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.tracking.store import Store
from mlops_assets_tests.cli.test_models import MODEL, Mlops, mlops  # noqa: F401 - a fixture
from mlops_assets_tests.registry.test_verified import registered, rows, trained


@pytest.fixture
def store(tracking: Tracking) -> Store:
    """Two versions, of which the second is champion because a person has made it so."""
    made = tracking.connect()
    for number in (1, 2):
        assert registered(made, trained(rounds=number), MODEL).number == number
        keep_golden(made, load_verified(made, MODEL, number), rows())
    made.client.set_registered_model_alias(MODEL, "champion", "2")
    return made


def champion(store: Store) -> int | None:
    found = by_alias(store, MODEL, "champion")
    return None if found is None else found.number


def test_back_to_a_version_and_to_the_champion_before_with_the_history_of_it(mlops: Mlops, store: Store):  # noqa: F811
    code, out, _ = mlops("champion")
    assert (code, "Now version 2 is champion: another client has moved the alias" in out) == (0, True)

    code, out, _ = mlops("rollback", "--to", "1", "--reason", "too many alerts")
    assert code == 0
    assert f"{MODEL}: version 1 is champion again, instead of version 2 (too many alerts)." in out
    assert champion(store) == 1
    code, out, _ = mlops("champion")
    first, second = out.splitlines()
    assert "version 2  moved outside: found as moved by another client" in first
    assert "version 1  rolled back: too many alerts" in second

    assert "knows nothing of 2020-01-01T00:00:00+00:00" in mlops("champion", "--at", "2020-01-01")[1]
    assert mlops("champion", "--at", "2099-01-01T00:00Z")[1].splitlines() == [second]
    assert mlops("rollback")[0] == 0
    assert champion(store) == 2


def test_what_can_t_be_gone_back_to_is_one_line_and_changes_nothing(
    mlops: Mlops,  # noqa: F811
    store: Store,
    capsys: pytest.CaptureFixture[str],
):
    code, out, error = mlops("rollback", "--to", "2")
    assert (code, out) == (2, "")
    assert "version 2 is champion already" in error
    code, _, error = mlops("rollback")
    assert (code, "knows no champion before the present one" in error) == (2, True)
    assert champion(store) == 2
    with pytest.raises(SystemExit) as ended:
        mlops("champion", "--at", "yesterday")
    assert ended.value.code == 2
    assert "moment" in capsys.readouterr().err


def test_where_nothing_is_registered_nothing_is_made(mlops: Mlops, settings: Settings):  # noqa: F811
    assert mlops("champion") == (0, "creditcard_synthetic has no registered version yet.\n", "")
    assert not settings.home.exists()


def imported(*command: str, **given: Any) -> set[str]:
    """Return the modules that a Python process imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *command], check=True, capture_output=True, text=True, cwd="/", **given
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.proof  # two processes of its own
def test_it_starts_no_java_and_imports_little_more_than_its_libraries_do(
    store: Store, settings: Settings, tmp_path: Path
):
    """What is imported is what it takes; seconds would be those of a busy machine, too.

    Nine modules of ten are those that MLflow's client, Dagster and XGBoost import for themselves.
    """
    java = tmp_path / "java"
    java.mkdir()
    (java / "java").write_text("#!/bin/sh\necho started > " + str(java / "started") + "\nexit 1\n")
    (java / "java").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    environment |= {"MLOPS_HOME": str(settings.home), "PATH": f"{java}:{os.environ['PATH']}"}

    stores = "mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store"
    unavoidable = imported("-c", f"import dagster, deltalake, mlflow.tracking, xgboost, {stores}")
    added = imported("-m", "mlops_assets.cli.main", "rollback", "--to", "1", env=environment) - unavoidable

    assert champion(store) == 1
    assert not (java / "started").exists()
    packages = {name.partition(".")[0] for name in added}
    assert packages.isdisjoint({"delta", "dagster_pyspark", "hyperopt", "matplotlib", "pyspark", "scipy", "sklearn"})
    assert len(added) < 500
