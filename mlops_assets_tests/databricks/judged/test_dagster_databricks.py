"""dagster-databricks' own tests that talk to a workspace, from its source distribution, against the loopback workspace.

They are skipped by their authors without DATABRICKS_HOST. Here they run in a process of their own, from a folder
outside of the checkout that looks like Dagster's repository. What a developer of Dagster has is replaced: the names of
the runtime and of the serverless environment (theirs are old), `python -m build` (uv builds the wheel), the databricks
CLI, which is not on PyPI (a copy to DBFS by the SDK), and, because nothing is installed on a loopback machine,
`pip install` by a dry run. The notebook and the file that they expect in the workspace are made from their own source.
"""

from __future__ import annotations

import base64
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import textwrap
from importlib import metadata
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ImportFormat, Language

from databricks_loopback import Workspace
from mlops_assets_tests.environments import UV

pytestmark = [
    pytest.mark.proof,  # asks the package index, and runs tasks with Spark
    pytest.mark.timeout(1000),
]
PIPES, SERVERLESS = (f"dagster_databricks_tests/test_{name}.py" for name in ("pipes", "serverless_pipes"))
VOLUME = "workspace.dagster_databricks_testing.tmp"
FOLDER = "/Shared/dagster-pipes-test"
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
    serverless = library / SERVERLESS
    replaced(serverless, r'"environment_version": 2', '"environment_version": "5"')
    replaced(serverless, r'"pip", "install", ', '"python", "-m", "pip", "install", "--dry-run", "--no-index", ')
    replaced(pipes / "pyproject.toml", r'\nversion = "[^"]+"', '\nversion = "1!0+dev"')
    programs = root / "bin"
    programs.mkdir()
    for name, text in (("databricks", CLI), ("python", BUILD)):
        (programs / name).write_text(text.format(python=sys.executable, uv=UV), "utf-8")
        (programs / name).chmod(stat.S_IRWXU)
    return root


def ran(repository: Path, tmp_path: Path, tests: str, **variables: str) -> str:
    """Run tests of theirs and return what they print; fails unless all pass."""
    where = {"PATH": f"{repository / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", tests],
        cwd=repository / "python_modules" / "libraries" / "dagster-databricks",
        env=where | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
    return done.stdout


def test_their_tests_of_pipes_pass(repository: Path, tmp_path: Path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    with Workspace(folder) as workspace:
        login = {"DATABRICKS_HOST": workspace.host, "DATABRICKS_TOKEN": workspace.token}
        printed = ran(repository, tmp_path, PIPES, **login)
    assert re.findall(r"(\d+) passed", printed)[-1] == "10", printed[-500:]


def test_their_tests_of_serverless_pipes_pass(repository: Path, tmp_path: Path):
    library = repository / "python_modules" / "libraries" / "dagster-databricks"
    text = (library / SERVERLESS).read_text("utf-8")
    (script,) = re.findall(r"\ndef script_fn\(\):\n(.*?)\n\n\n", text, re.DOTALL)
    notebook = textwrap.dedent(script)
    # A file has no widgets: Dagster passes the parameters as arguments.
    file = re.sub(r"PipesDatabricksNotebookWidgetsParamsLoader(\(\S+\))?", r"PipesCliArgsParamsLoader\1", notebook)
    file = file.replace("(dbutils.widgets)", "()")
    folder = tmp_path / "workspace"
    folder.mkdir()
    with Workspace(folder) as workspace:
        catalog, schema, _ = VOLUME.split(".")
        workspace.catalog.add_schema(f"{catalog}.{schema}")
        workspace.catalog.add_volume(VOLUME)
        login = {"DATABRICKS_HOST": workspace.host, "DATABRICKS_TOKEN": workspace.token}
        client = WorkspaceClient(host=workspace.host, token=workspace.token)
        client.workspace.mkdirs(FOLDER)
        source = ("# Databricks notebook source\n" + notebook).encode()
        client.workspace.import_(
            f"{FOLDER}/notebook",
            content=base64.b64encode(source).decode(),
            format=ImportFormat.SOURCE,
            language=Language.PYTHON,
        )
        client.workspace.upload(f"{FOLDER}/file.py", io.BytesIO(file.encode()), format=ImportFormat.AUTO)
        paths = {
            "DATABRICKS_NOTEBOOK_PATH": f"{FOLDER}/notebook",
            "DATABRICKS_PYTHON_FILE_PATH": f"/Workspace{FOLDER}/file.py",
        }
        printed = ran(repository, tmp_path, SERVERLESS, **login, **paths)
    assert re.findall(r"(\d+) passed", printed)[-1] == "4", printed[-500:]
