"""Packaging, lock and Makefile: what a newcomer meets before the first line of the platform runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlops_assets_tests.scripts.fakes import executable, fake_java

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text("utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and its scripts elsewhere, so that `clean` can be told to do harm."""
    folder = tmp_path / "work" / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a fresh shell: without the variables of the make that may have started these tests."""
    program = shutil.which("make")
    assert program is not None
    environment = {"PATH": os.defpath, "HOME": str(folder.parent), **variables}
    command = [program, "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


# --- the lock ---------------------------------------------------------------------------------------------------------


def pinned(lock: str) -> dict[str, Requirement]:
    requirements = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if re.match(r"[a-z0-9]", line)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_lock_satisfies_every_requirement_of_pyproject(pyproject: dict[str, Any], lock: str):
    project = pyproject["project"]
    wanted = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    wanted += [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    pins = pinned(lock)
    stale = []
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None or not all(requirement.specifier.contains(version.version) for version in pin.specifier):
            stale.append(f"{requirement}: locked is {pin or 'none'}")
    assert stale == [], "run `make lock`"


def test_lock_has_one_version_of_each_package_with_hashes(lock: str):
    entries = re.findall(r"^[a-z0-9].*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+$", lock, re.MULTILINE)
    assert len(entries) == len(pinned(lock)) == len(re.findall(r"^[^ #\n]", lock, re.MULTILINE))


def test_lock_is_the_same_for_all_supported_pythons(pyproject: dict[str, Any], lock: str):
    markers = [str(requirement.marker) for requirement in pinned(lock).values() if requirement.marker]
    assert [marker for marker in markers if "python_version" in marker or "python_full_version" in marker] == []
    supported = SpecifierSet(pyproject["project"]["requires-python"])
    assert [minor for minor in range(8, 20) if supported.contains(f"3.{minor}.1")] == [11, 12, 13]


def test_lock_has_no_address_and_no_path(lock: str):
    assert re.findall(r"://|@ |file:|--index|--find-links|/[a-z]+/", lock) == []


def test_make_lock_pins_what_is_pinned(lock: str):
    """The command in the header is all that a reader needs to know to make it anew."""
    assert lock.splitlines()[1].split() == ["#", "make", "lock"]


# --- the package ------------------------------------------------------------------------------------------------------


def test_wheel_has_the_data_files_and_not_the_tests(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "mlops_assets/resources/jars.lock" in names
    assert "mlops_assets/data/contract/shipped/creditcard.yaml" in names
    assert "mlops_assets/instance/workspace.yaml" in names
    version = wheel.name.split("-")[1]
    assert {name.split("/")[0] for name in names} == {"mlops_assets", f"mlops_assets-{version}.dist-info"}


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_the_command_line_works_where_only_the_wheel_is_installed(tmp_path: Path, lock: str):
    """Nothing of the checkout is there, no extra, and the folder that it is run in is empty."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    uv, python = str(Path(sys.executable).with_name("uv")), str(tmp_path / "env" / "bin" / "python")
    setuptools = re.search(r"^setuptools==(?:.*\\\n)*.*$", lock, re.MULTILINE)
    assert setuptools is not None
    (tmp_path / "build").write_text(f"{setuptools[0]}\n", "utf-8")  # as in the set-up, so what that has built is taken
    constraints = ["--constraints", str(ROOT / "requirements.lock"), "--build-constraints", str(tmp_path / "build")]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")], check=True, timeout=120)
    install = [uv, "pip", "install", "--quiet", "--python", python, *constraints, str(wheel)]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=600)
    empty = tmp_path / "empty"
    empty.mkdir()
    kept = {name: os.environ[name] for name in ("HOME", "JAVA_HOME") if name in os.environ}

    def mlops(*arguments: str) -> str:
        answer = subprocess.run(
            [str(tmp_path / "env" / "bin" / "mlops"), *arguments],
            cwd=empty,
            env={"PATH": f"{tmp_path / 'env' / 'bin'}:{os.environ['PATH']}", **kept},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stdout + answer.stderr
        return answer.stdout

    assert "examples:" in mlops("--help")
    findings = mlops("doctor").splitlines()
    assert [line.split()[:2] for line in findings] == [
        ["ok", f"{subject}:"] for subject in ("java", "python", "packages", "home", "settings")
    ]
    assert "trial 2 of 2 done" in mlops("demo", "--trials", "2")
    assert (empty / ".mlops" / "demo.json").is_file()
    assert [path.name for path in empty.iterdir()] == [".mlops"]
    refused = subprocess.run(
        [str(tmp_path / "env" / "bin" / "mlops"), "ui"], cwd=empty, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "Fix: install the `ui` extra" in refused.stderr


# --- the Makefile -----------------------------------------------------------------------------------------------------


def test_help_lists_the_targets():
    listed = re.findall(r"^  make (\S+) +\S", make(ROOT).stdout, re.MULTILINE)
    assert {"demo", "test", "ui", "check", "bench", "clean"} <= set(listed)


@pytest.mark.parametrize("target", ["demo", "test", "ui", "check", "lock"])
def test_old_java_stops_a_target_before_anything_else(checkout: Path, target: str):
    fake_java(checkout / "bin" / "java", "11.0.2")
    executable(checkout / "bin" / "python3.13", f'exec "{sys.executable}" "$@"')
    answer = make(checkout, target, PATH=f"{checkout / 'bin'}:{os.defpath}")
    assert answer.returncode != 0
    assert answer.stdout == ""
    first, make_says = answer.stderr.splitlines()
    assert first.startswith("Java 17 or 21 is needed; in the PATH: 11.0.2.")
    assert make_says.startswith("make: ***")
    assert not (checkout / ".venv").exists()
    assert not (checkout / ".mlops").exists()


def test_bench_lists_what_there_is_and_refuses_what_there_is_not(checkout: Path):
    (checkout / "benchmarks").mkdir()
    for name in ("folds", "search", "_report"):
        (checkout / "benchmarks" / f"{name}.py").touch()
    assert make(checkout, "bench").stdout.strip() == "make bench NAME=x, where x is one of: folds search"
    assert "one of: folds search" in make(checkout, "bench", NAME="host-7").stdout  # set by some shells
    answer = make(checkout, "bench", "NAME=_report")
    assert answer.returncode != 0
    assert "there is no benchmarks/_report.py; NAME is one of: folds search" in answer.stderr


@pytest.mark.parametrize("target", ["databrics", "target", "local databricks-local"])
def test_a_demo_on_a_target_that_there_is_not_is_refused_in_one_line(checkout: Path, target: str):
    answer = make(checkout, "demo", f"TARGET={target}")
    assert answer.returncode != 0
    assert answer.stdout == ""
    first, make_says = answer.stderr.splitlines()
    assert first == f"demo: there is no target '{target}'; TARGET is one of: local databricks-local"
    assert make_says.startswith("make: ***")
    assert not (checkout / ".mlops").exists()


def test_a_demo_goes_where_make_is_told_and_not_where_the_shell_points(checkout: Path):
    for variables in ({}, {"TARGET": "x86_64"}, {"MLOPS_TARGET": "databricks"}):  # a demo must not cost money unasked
        assert "MLOPS_TARGET=local" in make(checkout, "--dry-run", "demo", **variables).stdout
    there = make(checkout, "--dry-run", "demo", "TARGET=databricks-local", "TRIALS=3", "SOURCE=a.csv").stdout
    assert "cli.demo_databricks --trials" in there
    assert "MLOPS_SOURCE=" in there


@pytest.mark.parametrize("target", ["demo", "ui"])
def test_without_data_of_ones_own_it_is_about_cards_and_a_former_home_goes_on(checkout: Path, target: str):
    def said(*words: str, **variables: str) -> str:
        return make(checkout, "--dry-run", target, *words, **variables).stdout

    assert "MLOPS_SOURCE=cards MLOPS_CONTRACT=cards" in said()
    for own in ({"MLOPS_SOURCE": "a.csv"}, {"MLOPS_CONTRACT": "payments.yaml"}):
        assert "MLOPS_SOURCE" not in said(**own), "the environment says it"
    assert 'MLOPS_SOURCE="$SOURCE"' in said("SOURCE=a.csv")
    assert 'MLOPS_CONTRACT="$CONTRACT"' in said("CONTRACT=payments.yaml")
    for words in (["SOURCE=a.csv"], ["PROJECT=mine"], ["MODEL=cards"]):
        assert "cards MLOPS_CONTRACT" not in said(*words)
    (checkout / ".mlops" / "lakehouse" / "creditcard_synthetic").mkdir(parents=True)
    assert "MLOPS_SOURCE" not in said()


def test_a_demo_of_a_model_goes_into_a_project_with_several(checkout: Path):
    assert "--model" not in make(checkout, "--dry-run", "demo", MODEL="cards").stdout, "a shell's own variable"
    said = make(checkout, "--dry-run", "demo", "MODEL=cards").stdout
    assert 'cd "${PROJECT:-examples/own_project}" &&' in said
    assert 'demo --model "$MODEL"' in said


@pytest.mark.parametrize(
    ("setting", "meant"),
    [("", "{checkout}/.mlops"), ("runs", "{checkout}/runs"), ("~/my runs", "{home}/my runs"), ("/srv/x", "/srv/x")],
)
def test_one_setting_moves_everything(checkout: Path, setting: str, meant: str):
    (checkout / "show.mk").write_text('include Makefile\nshow:\n\t@echo "$$MLOPS_HOME|$$RUFF_CACHE_DIR"\n', "utf-8")
    expected = meant.format(checkout=checkout, home=checkout.parent)
    for answer in (
        make(checkout, "-f", "show.mk", "show", f"MLOPS_HOME={setting}"),
        make(checkout, "-f", "show.mk", "show", MLOPS_HOME=setting),
    ):
        assert answer.stdout == f"{expected}|{expected}/cache/ruff\n", answer.stderr


def test_clean_removes_the_folder_of_the_runs_and_keeps_the_environment(checkout: Path):
    for folder in (".mlops", "runs", ".venv", "mlops_assets/__pycache__"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "runs" / ".gitignore").write_text("# made by mlops_assets\n*\n", "utf-8")
    assert make(checkout, "clean", "MLOPS_HOME=runs").returncode == 0
    assert not (checkout / "runs").exists()
    assert not (checkout / "mlops_assets" / "__pycache__").exists()
    assert (checkout / ".mlops").exists()
    assert (checkout / ".venv").exists()
    assert make(checkout, "clean").returncode == 0
    assert not (checkout / ".mlops").exists()
    assert make(checkout, "clean").returncode == 0, "nothing to do is no failure"


@pytest.mark.parametrize("folder", ["/", ".", "..", "~/", "photos"])
def test_clean_refuses_a_folder_that_holds_anything_else(checkout: Path, folder: str):
    (checkout / "photos").mkdir()
    for place in (checkout, checkout.parent):  # even a mark does not make these ours
        (place / ".gitignore").write_text("# made by mlops_assets\n*\n", "utf-8")
    # If the guard were broken, this is what would run: it removes nothing.
    executable(checkout / "bin" / "rm", 'echo "$@" >> removed')
    answer = make(checkout, "clean", f"MLOPS_HOME={folder}", PATH=f"{checkout / 'bin'}:{os.defpath}")
    assert answer.returncode != 0
    assert "is not removed" in answer.stderr
    assert not (checkout / "removed").exists()
