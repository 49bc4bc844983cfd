"""dagster-databricks' own tests that talk to a workspace, from its source distribution, against the loopback workspace.

They are skipped by their authors without DATABRICKS_HOST. Here they run in a process of their own, from a folder
outside of the checkout that looks like Dagster's repository. Three things are put in the place of what a developer of
Dagster has: the runtime's name (theirs is out of support), `python -m build` (uv builds the wheel) and the databricks
CLI, which is not on PyPI (a copy to DBFS by the SDK).
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from databricks_loopback import Workspace
from mlops_assets_tests.databricks.judged.conftest import UV

pytestmark = [
    pytest.mark.proof,  # asks the package index, and runs tasks with Spark
    pytest.mark.timeout(1000),
]
TESTS = "dagster_databricks_tests/test_pipes.py"
CLI = """#!{python}
import sys
from databricks.sdk import WorkspaceClient
action, kind, overwrite, source, target = sys.argv[1:]
assert (action, kind, overwrite) == ("fs", "cp", "--overwrite")
with open(source, "rb") as content:
    WorkspaceClient().dbfs.upload(target.removeprefix("dbfs:"), content, overwrite=True)
"""
BUILD = """#!/bin/sh
[ "$1 $2 $3" = "-m build --wheel" ] || exit 2
exec {uv} build --quiet --wheel --no-build-isolation --python {python} --out-dir dist
"""


def source(name: str, folder: Path) -> Path:
    """Download a source distribution in the installed version and return its unpacked folder."""
    version = metadata.version(name)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *flags, f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob(f"{name.replace('-', '_')}-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"{name.replace('-', '_')}-{version}"


def replaced(file: Path, pattern: str, by: str) -> None:
    """Replace the only place where a text has a pattern."""
    text, count = re.subn(pattern, by, file.read_text("utf-8"))
    assert count == 1, f"{file.name} has {pattern!r} {count} times"
    file.write_text(text, "utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Dagster's repository, as far as the tests look."""
    root, downloads = tmp_path / "dagster-oss", tmp_path / "downloads"
    downloads.mkdir()
    modules = root / "python_modules"
    (modules / "libraries").mkdir(parents=True)
    (root / ".git").mkdir()
    library, pipes = modules / "libraries" / "dagster-databricks", modules / "dagster-pipes"
    source("dagster-databricks", downloads).rename(library)
    source("dagster-pipes", downloads).rename(pipes)
    replaced(library / "dagster_databricks_tests" / "test_pipes.py", r"12\.2\.x-scala2\.12", "18.x-scala2.13")
    replaced(pipes / "pyproject.toml", r'\nversion = "[^"]+"', '\nversion = "1!0+dev"')
    programs = root / "bin"
    programs.mkdir()
    for name, text in (("databricks", CLI), ("python", BUILD)):
        (programs / name).write_text(text.format(python=sys.executable, uv=UV), "utf-8")
        (programs / name).chmod(stat.S_IRWXU)
    return root


def test_their_tests_of_pipes_pass(repository: Path, tmp_path: Path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    with Workspace(folder) as workspace:
        where = {
            "DATABRICKS_HOST": workspace.host,
            "DATABRICKS_TOKEN": workspace.token,
            "PATH": f"{repository / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PYTHONPATH": ".",
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS],
            cwd=repository / "python_modules" / "libraries" / "dagster-databricks",
            env=where,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.findall(r"(\d+) passed", done.stdout)[-1] == "10", done.stdout[-500:]
    assert "skipped" not in done.stdout
