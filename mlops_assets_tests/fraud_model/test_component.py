"""A model from a folder: what `defs.yaml` may say, what `dg` makes of it, and the example project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

import mlops_assets
from mlops_assets.errors import SettingsError
from mlops_assets.fraud_model.component import FraudModelComponent, shared_definitions, spec_in
from mlops_assets_tests.conftest import CHECKOUT

EXAMPLE = CHECKOUT / "examples" / "own_project"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example project."""
    target = tmp_path / "own_project"
    shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def dg_in(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `dg` as a user would, with this environment's packages."""
    scripts = Path(sys.executable).parent
    path = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{project / 'src'}:{CHECKOUT}"}
    environ = {**os.environ, **path, "VIRTUAL_ENV": str(scripts.parent), "MLOPS_HOME": str(project / ".mlops")}
    return subprocess.run(
        [str(scripts / "dg"), *arguments], cwd=project, env=environ, capture_output=True, text=True, check=False
    )


def test_a_day_is_the_same_to_dagster_and_to_an_asset_beside_the_model(tmp_path: Path):
    attributes = "contract: creditcard\nsource: /landing\nfirst_day: 2026-02-03\n"
    (tmp_path / "defs.yaml").write_text("attributes:\n" + "".join(f"  {line}\n" for line in attributes.splitlines()))

    by_dagster = FraudModelComponent.resolve_from_yaml(attributes).spec(tmp_path)

    assert by_dagster.first_day == spec_in(tmp_path).first_day == date(2026, 2, 3)


def test_the_folder_names_the_model_and_holds_its_contract():
    spec = spec_in(EXAMPLE / "src" / "own_project" / "defs" / "transfers")

    assert (spec.name, spec.contract.name, spec.database) == ("transfers", "transfers", "transfers_files")
    assert (spec.owners, spec.retrain_rows) == (("team:transfer-fraud",), 5_000)
    assert (spec.split, spec.gate) == ({"gap_days": 7}, {"min_lift": 3})


def test_attributes_of_the_component_are_those_of_the_spec():
    from mlops_assets.spec import FraudModelSpec  # noqa: PLC0415 - used here alone

    assert list(FraudModelComponent.model_fields) == list(FraudModelSpec.model_fields)


def test_a_bad_attribute_names_the_folder(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"^retrain_rows: ") as caught:
        FraudModelComponent(contract="creditcard", retrain_rows=0).spec(tmp_path / "cards")
    assert caught.value.where == str(tmp_path / "cards")


def test_dg_finds_the_component_and_importing_the_package_stays_light():
    assert "FraudModelComponent" in dir(mlops_assets)
    code = "import sys, mlops_assets; print('dagster' in sys.modules); print(mlops_assets.FraudModelComponent.__name__)"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)

    assert found.stdout.split() == ["False", "FraudModelComponent"]


def test_all_components_share_the_resources_of_their_environment(monkeypatch: pytest.MonkeyPatch):
    def lakehouse() -> object:
        return (shared_definitions().resources or {})["lakehouse"]

    first = lakehouse()

    assert lakehouse() is first
    monkeypatch.setenv("MLOPS_DRIVER_MEMORY", "3g")
    assert lakehouse() is not first


@pytest.mark.proof  # several commands of `dg`
def test_a_scaffolded_model_loads_beside_the_others_and_a_bad_one_is_refused(project: Path):
    scaffolded = dg_in(project, "scaffold", "defs", "mlops_assets.FraudModelComponent", "onboarding")
    assert scaffolded.returncode == 0, scaffolded.stderr
    folder = project / "src" / "own_project" / "defs" / "onboarding"
    assert sorted(path.name for path in folder.iterdir()) == ["contract.yaml", "defs.yaml"]

    checked = dg_in(project, "check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = dg_in(project, "list", "defs", "--json")
    for key in ("cards/raw_transactions", "transfers/registered_model", "onboarding/tuned_model", "fraud_by_hour"):
        assert f'"{key}"' in listed.stdout

    (folder / "defs.yaml").write_text("type: mlops_assets.FraudModelComponent\nattributes: {gate: {min_lft: 3}}\n")
    refused = dg_in(project, "check", "defs")
    assert refused.returncode != 0
    assert "no such option: min_lft [gate of model onboarding]" in refused.stdout + refused.stderr
