"""The machine of a cluster, without a workspace around it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from databricks_loopback.errors import LoopbackError
from databricks_loopback.sandbox import PYTHON, Machine, editable_projects, require_namespaces


def run(machine: Machine, root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    root.mkdir()
    return subprocess.run(machine.command(root, argv), capture_output=True, text=True, timeout=30, check=False)


def test_machine_has_its_mounts_and_leaves_nothing(tmp_path: Path):
    shared = tmp_path / "it's shared"
    shared.mkdir()
    machine = Machine({"/data": shared}, None)
    code = "import os; open('/data/x', 'w').write('y'); open('/z', 'w'); print(os.listdir('/proc/1/task'))"
    done = run(machine, tmp_path / "root", PYTHON, "-c", code)
    assert (done.returncode, done.stdout) == (0, "['1']\n"), done.stderr
    assert (shared / "x").read_text() == "y"
    assert list((tmp_path / "root").iterdir()) == []
    assert not Path("/z").exists()


def test_exit_code_comes_back(tmp_path: Path):
    machine = Machine({}, None)
    assert run(machine, tmp_path / "a", PYTHON, "-c", "raise SystemExit(7)").returncode == 7
    killed = run(machine, tmp_path / "b", PYTHON, "-c", "import os; os.kill(os.getpid(), 9)")
    assert killed.returncode == 128 + 9


def test_hidden_folder_is_empty_even_in_a_system_folder(tmp_path: Path):
    seen = run(Machine({}, None), tmp_path / "a", "/bin/ls", "/usr/share").stdout
    hidden = run(Machine({}, None, [Path("/usr/share")]), tmp_path / "b", "/bin/ls", "/usr/share")
    assert seen != ""
    assert (hidden.returncode, hidden.stdout) == (0, "")


def test_spark_can_be_imported_and_is_no_distribution(tmp_path: Path):
    code = """
import importlib.metadata as m, importlib.util as u
def found(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
print([found(name) is not None for name in ("pyspark", "delta-spark", "numpy")])
print([u.find_spec(name) is not None for name in ("pyspark", "delta", "numpy")])
"""
    done = run(Machine({}, None), tmp_path / "root", PYTHON, "-c", code)
    assert done.stdout == "[False, False, True]\n[True, True, True]\n", done.stderr


def test_missing_mount_fails_before_anything_runs(tmp_path: Path):
    machine = Machine({"/data": tmp_path / "none"}, None)
    done = run(machine, tmp_path / "root", "/bin/echo", "ran")
    assert done.returncode != 0
    assert "ran" not in done.stdout


def test_user_namespace_serves_those_who_are_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Root may not become another user on every machine, but may take the way of other users.
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    done = run(Machine({}, None), tmp_path / "root", PYTHON, "-c", "import os; print(os.getuid())")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_machine_without_the_tools_is_refused(monkeypatch: pytest.MonkeyPatch):
    require_namespaces()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoopbackError, match=r"needs Linux namespaces and util-linux .* Fix: run it on Linux"):
        require_namespaces()


def test_editable_projects_are_found_outermost_only():
    """The package itself is installed so here; one inside another one is hidden with it."""
    folders = editable_projects()
    package = Path(__file__).resolve().parents[1]
    assert any(package.is_relative_to(folder) for folder in folders)
    assert not [folder for folder in folders for other in folders if folder != other and folder.is_relative_to(other)]
