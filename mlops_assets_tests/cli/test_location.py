"""Which code location a command works with, and which of its models."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_assets.cli.location import OWN, Location, choose, find_location
from mlops_assets.errors import SettingsError
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets_tests.assets.harness import spec_of
from mlops_assets_tests.conftest import CHECKOUT


@dataclass(frozen=True)
class Two(Location):
    """A project with two models; the database of one has the other's name."""

    module: str = "own.definitions"

    def models(self, settings: Settings) -> tuple[FraudModelSpec, ...]:
        del settings
        return (
            spec_of(name="cards", database="cards_db", registered_model="fraud_cards"),
            spec_of(name="transfers", database="cards", registered_model="fraud_transfers"),
        )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project for `dg` with its sources in `src`."""
    (tmp_path / "src" / "own").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "own"\n')
    return tmp_path


def test_in_a_project_and_below_it_the_project_is_the_code_location(project: Path):
    for folder in (project, project / "src" / "own"):
        assert find_location(folder) == Location("own.definitions", project / "src")


def test_a_project_may_name_the_module_and_lie_beside_its_file(tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "dg.toml").write_text('[project]\nroot_module = "own"\ncode_location_target_module = "own.all"\n')

    assert find_location(tmp_path) == Location("own.all", tmp_path)


def test_elsewhere_and_in_the_checkout_it_is_the_platforms_own(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'no project for dg'\n")

    assert find_location(tmp_path) == Location(OWN)
    assert find_location(CHECKOUT / "docs") == Location(OWN)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[tool.dg")

    with pytest.raises(SettingsError, match="the file can't be read") as caught:
        find_location(tmp_path)
    assert caught.value.where == str(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("cards", "cards"), ("transfers", "transfers"), ("cards_db", "cards"), ("fraud_transfers", "transfers")],
)
def test_a_model_is_known_by_its_name_then_by_its_database_and_in_the_registry(
    name: str, chosen: str, settings: Settings
):
    assert choose(settings, name, Two()).spec.name == chosen


def test_of_several_models_one_must_be_named_and_be_there(settings: Settings):
    with pytest.raises(SettingsError, match=r"^there are 2 models .* one of: cards, transfers$"):
        choose(settings, None, Two())
    with pytest.raises(SettingsError, match=r"no model 'card' in own.definitions .* one of: cards, transfers$"):
        choose(settings, "card", Two())


@pytest.fixture
def imported(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of a project that can be imported; its name is no other test's."""
    name = f"own_{project.name}".replace("-", "_")
    folder = project / "src" / name
    folder.mkdir()
    monkeypatch.syspath_prepend(str(project / "src"))
    return folder / "definitions.py"


def test_what_can_not_be_loaded_is_one_error_that_says_why(imported: Path, settings: Settings):
    there = Location(f"{imported.parent.name}.definitions")
    with pytest.raises(SettingsError, match="No module named"):
        there.load()

    imported.write_text("x = 1\n")
    importlib.invalidate_caches()
    with pytest.raises(SettingsError, match="it has no `defs`"):
        there.load()


def test_a_projects_own_error_comes_out_of_dagsters(imported: Path):
    imported.write_text(
        "from mlops_assets.errors import ContractError\n"
        "try:\n"
        "    raise ContractError('no target', where='cards.yaml', fix='name one')\n"
        "except ContractError as error:\n"
        "    raise RuntimeError('while loading component cards') from error\n"
    )

    with pytest.raises(Exception, match=r"^no target \[cards.yaml\] Fix: name one$"):
        Location(f"{imported.parent.name}.definitions").load()


def test_a_project_without_a_model_says_what_to_do(imported: Path, settings: Settings):
    imported.write_text(
        "import dagster as dg\n\n@dg.definitions\ndef defs() -> dg.Definitions:\n    return dg.Definitions()\n"
    )

    with pytest.raises(SettingsError, match=r"the project has no model .*dg scaffold defs"):
        Location(f"{imported.parent.name}.definitions").models(settings)
