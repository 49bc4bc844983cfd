"""`scripts/preflight.sh` on machines that lack something: one line each, before anything else happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.errors import SettingsError
from mlops_assets.resources.java import require_java
from mlops_assets_tests.scripts.fakes import executable, fake_java, fake_python

ROOT = Path(__file__).resolve().parents[2]
Preflight = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def preflight(tmp_path: Path) -> Preflight:
    """Run the script with a PATH that has only what the test puts into `tmp_path`/bin."""
    (tmp_path / "bin").mkdir()

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(tmp_path / "bin"), "VENV": str(tmp_path / "no-venv"), **variables}
        return subprocess.run(
            ["/bin/sh", ROOT / "scripts" / "preflight.sh"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def this_python(path: Path) -> Path:
    return executable(path, f'exec "{sys.executable}" "$@"')


def refused_in_one_line(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode != 0
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    return line


def test_fit_machine_gets_the_path_of_its_python_and_no_word(preflight: Preflight, tmp_path: Path):
    this_python(tmp_path / "bin" / "python3")
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    answer = preflight()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == f"{sys.executable}\n"


def test_no_python(preflight: Preflight, tmp_path: Path):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    line = refused_in_one_line(preflight())
    assert "Python 3.11, 3.12 or 3.13 is needed" in line
    assert "none works" in line
    assert "PYTHON=" in line


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 9, 18), (3, 10, 13), (3, 14, 0)])
def test_python_of_another_version(preflight: Preflight, tmp_path: Path, version: tuple[int, ...]):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    fake_python(tmp_path / "bin" / "python3", f"sys.version_info = {(*version, 'final', 0)}".replace('"', "'"))
    line = refused_in_one_line(preflight())
    assert f"python3 is {'.'.join(map(str, version))}" in line


def test_python_without_a_module_that_a_distribution_leaves_out(preflight: Preflight, tmp_path: Path):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    without = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'ensurepip' else f(n)"
    fake_python(tmp_path / "bin" / "python3", without)
    assert "without its module ensurepip" in refused_in_one_line(preflight())


def test_shim_that_exists_and_fails_is_passed_over(preflight: Preflight, tmp_path: Path):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    for name in ("python3.13", "python3.12"):
        executable(tmp_path / "bin" / name, f"echo 'pyenv: {name}: command not found' >&2; exit 127")
    this_python(tmp_path / "bin" / "python3.11")
    answer = preflight()
    assert (answer.returncode, answer.stderr) == (0, "")


def test_named_python_is_the_only_one_considered(preflight: Preflight, tmp_path: Path):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    this_python(tmp_path / "bin" / "python3")
    named = str(tmp_path / "absent" / "python3")
    assert f"looked for {named}" in refused_in_one_line(preflight(PYTHON=named))


def test_environment_that_was_made_is_taken_before_the_path(preflight: Preflight, tmp_path: Path):
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    executable(tmp_path / "bin" / "python3.13", "echo 'the PATH was searched'; exit 1")
    this_python(tmp_path / "my venv" / "bin" / "python")
    answer = preflight(VENV=str(tmp_path / "my venv"))
    assert (answer.returncode, answer.stdout) == (0, f"{sys.executable}\n")


def test_both_missing_are_named_at_once(preflight: Preflight):
    answer = preflight()
    assert answer.returncode != 0
    assert [line.split()[0] for line in answer.stderr.splitlines()] == ["Python", "Java"]


def test_java_home_that_leads_nowhere_is_not_made_up_for_by_the_path(preflight: Preflight, tmp_path: Path):
    this_python(tmp_path / "bin" / "python3")
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    assert f"JAVA_HOME={tmp_path}/gone" in refused_in_one_line(preflight(JAVA_HOME=f"{tmp_path}/gone"))


def test_no_java(preflight: Preflight, tmp_path: Path):
    this_python(tmp_path / "bin" / "python3")
    line = refused_in_one_line(preflight())
    assert "Java 17 or 21 is needed; in the PATH: none that works" in line


# The script and `require_java` are two pieces of code for one rule: they are given the same Javas.
OPTIONS_LINE = "Picked up JAVA_TOOL_OPTIONS: -Dversion=8"


@pytest.mark.parametrize(
    ("version", "first", "major"),
    [("17.0.15", "", 17), ("21", "", 21), ("22-ea", "", 22), ("17.0.9", OPTIONS_LINE, 17)],
)
def test_java_that_is_new_enough(preflight: Preflight, tmp_path: Path, version: str, first: str, major: int):
    this_python(tmp_path / "bin" / "python3")
    fake_java(tmp_path / "jdk" / "bin" / "java", version, first=first)
    assert preflight(JAVA_HOME=str(tmp_path / "jdk")).returncode == 0
    assert require_java(str(tmp_path / "jdk")) == major


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2", "16.0.2"])
def test_java_that_is_too_old(preflight: Preflight, tmp_path: Path, version: str):
    this_python(tmp_path / "bin" / "python3")
    fake_java(tmp_path / "jdk" / "bin" / "java", version)
    assert f": {version}. " in refused_in_one_line(preflight(JAVA_HOME=str(tmp_path / "jdk")))
    with pytest.raises(SettingsError, match="is " + version.replace(".", r"\.")) as error:
        require_java(str(tmp_path / "jdk"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "script",
    ["echo 'Unable to locate a Java Runtime.' >&2; exit 1", "echo hello", "exit 0"],
    ids=["stub", "word", "mute"],
)
def test_java_that_is_none(preflight: Preflight, tmp_path: Path, script: str):
    this_python(tmp_path / "bin" / "python3")
    executable(tmp_path / "jdk" / "bin" / "java", script)
    assert "none that works" in refused_in_one_line(preflight(JAVA_HOME=str(tmp_path / "jdk")))
    with pytest.raises(SettingsError):
        require_java(str(tmp_path / "jdk"))
