"""What of a user's project travels beside the platform's package."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.dagster_internals import ReconstructableRepository
from mlops_assets.databricks.launch.code import pack
from mlops_assets.databricks.launch.project import Project, module_of, project_of
from mlops_assets.errors import LaunchError

ALWAYS = ("mlops_assets",)


def run_of(module: str) -> dg.DagsterRun:
    """Return a run that a code location has started; nothing of it is imported."""
    origin = ReconstructableRepository.for_module(module, "defs").get_reconstructable_job("main").get_python_origin()
    return dg.DagsterRun(job_name="main", job_code_origin=origin)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with its sources in `src`."""
    package = tmp_path / "src" / "traveller"
    (package / "defs" / "cards").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "defs" / "cards" / "defs.yaml").write_text("type: mlops_assets.FraudModelComponent\n")
    (tmp_path / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "traveller"\n')
    (tmp_path / "secrets.toml").write_text("token = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return tmp_path


def test_package_and_file_of_the_project_travel_and_nothing_else(project: Path):
    found = project_of(run_of("traveller.definitions"), ALWAYS)

    assert found == Project(("traveller",), {"pyproject.toml": project / "pyproject.toml"})
    code = pack(found.packages, beside=found.files)
    assert code.files == ("pyproject.toml", "traveller/__init__.py", "traveller/defs/cards/defs.yaml")
    with zipfile.ZipFile(io.BytesIO(code.data)) as archive:
        assert b"root_module" in archive.read("pyproject.toml")


def test_a_package_that_is_no_project_travels_alone(project: Path):
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert project_of(run_of("traveller.definitions"), ALWAYS) == Project(("traveller",))


def test_the_platforms_own_code_location_needs_nothing_more():
    assert project_of(run_of("mlops_assets.definitions"), ALWAYS) == Project()
    # A name that only begins like it is another package.
    assert module_of(run_of("mlops_assets_own.definitions")) == ("mlops_assets_own.definitions", "defs")
    with pytest.raises(LaunchError, match="mlops_assets_own can't be sent"):
        project_of(run_of("mlops_assets_own.definitions"), ALWAYS)


def test_a_run_that_no_code_location_has_started_needs_nothing_more():
    assert project_of(dg.DagsterRun(job_name="main"), ALWAYS) == Project()


def test_a_code_location_in_no_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "single_file_location.py").write_text("defs = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(LaunchError, match="single_file_location can't be sent to the cluster") as caught:
        project_of(run_of("single_file_location"), ALWAYS)
    assert "packages (folders with __init__.py)" in caught.value.fix


def test_a_credential_in_the_projects_file_is_refused(project: Path):
    found = project_of(run_of("traveller.definitions"), ALWAYS)

    with pytest.raises(LaunchError, match="a credential of the launching side"):
        pack(found.packages, beside=found.files, forbidden=[b"root_module"])
