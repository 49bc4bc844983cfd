"""Releases to a loopback workspace: what of a release one machine can show, with a release that fails on purpose.

Usage: python scripts/release_check.py   the exit code is 0 if all of it went as it must.

What belongs here: a workspace, two releases of which the second is broken, and what must be there afterwards. What does
not: the steps (`release`), the stand-in for the Databricks CLI (`databricks_on_loopback`). A deployment by the CLI,
grants, and approval by a person are for GitHub and a workspace.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import release

from databricks_loopback import Workspace
from databricks_loopback.wire import Reply
from mlops_assets.resources.delta_jars import ensure_delta_jars

# The catalog of open-source Spark; on Databricks it is one of Unity Catalog.
_CATALOG = "spark_catalog"
_TARGET = "staging"


class UnexpectedError(Exception):
    """Something did not go as it must."""


def main() -> int:
    """Run the check and return the exit code."""
    home = Path(os.environ.get("MLOPS_HOME", ".mlops"))
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        folder = Path(name)
        try:
            good = _checkout(folder / "good", release.build(release.ROOT))
            broken = _broken(folder / "broken", good)
            jars = ensure_delta_jars(home / "jars")
            with Workspace(folder / "workspace", delta_jars=jars, metastore=True) as workspace:
                # The doctor asks MLflow whether it answers; the smoke test does not use it.
                workspace.faults.on_call("mlflow", lambda *_: Reply.of({}), path="/api/2.0/mlflow/*", times=None)
                workspace.catalog.add_schema(f"{_CATALOG}.mlops_assets_staging")
                workspace.clusters.node_types |= {"Standard_F8s_v2"}
                _check(workspace, _environment(folder, workspace), good, broken)
        except (UnexpectedError, release.ReleaseError) as error:
            print(f"release-check: {error}", file=sys.stderr)
            return 1
    print("release-check: deployed and tested; a release that fails was replaced by the one before")
    return 0


def _check(workspace: Workspace, environment: Mapping[str, str], good: Path, broken: Path) -> None:
    version, failing = release.version_of(good), release.version_of(broken)
    _expect(_release(good, environment, "check-tag", f"v{version}") == 0, "the tag of the version is refused")
    _expect(_release(good, environment, "check-tag", f"v{failing}") == 1, "another tag is not refused")
    _expect(_release(good, environment, "deploy", _TARGET) == 0, f"{version} can't be deployed")
    _expect(_deployed(workspace) == {version}, f"{version} is not what was deployed")
    again = _release(broken, environment, "deploy", _TARGET, "--previous", str(good))
    _expect(again == 1, "a broken release passes")
    _expect(_deployed(workspace) == {version}, f"{failing} was not replaced by {version}")
    ends = [run.end.result for run in workspace.runs if run.end is not None]
    _expect(ends == ["SUCCESS", "FAILED", "SUCCESS"], f"the smoke tests ended as {ends}")
    _expect(not any(run.is_active for run in workspace.runs), "a run was left")


def _release(folder: Path, environment: Mapping[str, str], *arguments: str) -> int:
    """Run a step of a release in a checkout, as the workflow does."""
    command = [sys.executable, str(release.ROOT / "scripts" / "release.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _checkout(folder: Path, wheel: Path) -> Path:
    """Copy what a release reads of a checkout, with its wheel."""
    shutil.copytree(release.ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mlops_assets").mkdir()
    (folder / "dist").mkdir()
    for file in (release.ROOT / "databricks.yml", wheel, wheel.parent / "requirements.txt"):
        shutil.copy(file, folder / file.relative_to(release.ROOT))
    shutil.copy(release.ROOT / "mlops_assets" / "__init__.py", folder / "mlops_assets")
    return folder


def _broken(folder: Path, good: Path) -> Path:
    """Make a release whose code location can't be loaded: the newer version that a test would have let through."""
    shutil.copytree(good, folder)
    version = "9.9.9"
    (folder / "mlops_assets" / "__init__.py").write_text(f'__version__ = "{version}"\n', "utf-8")
    (wheel,) = folder.glob("dist/*.whl")
    with (
        zipfile.ZipFile(wheel) as old,
        zipfile.ZipFile(wheel.parent / f"mlops_assets-{version}-py3-none-any.whl", "w") as new,
    ):
        for name in old.namelist():
            broken = b"raise RuntimeError('planted')\n" if name == "mlops_assets/definitions.py" else old.read(name)
            new.writestr(name, broken)
    wheel.unlink()
    return folder


def _environment(folder: Path, workspace: Workspace) -> dict[str, str]:
    """Return the environment of a step, in which the stand-in is called `databricks`."""
    programs = folder / "bin"
    programs.mkdir()
    command = shlex.join([sys.executable, str(release.ROOT / "scripts" / "databricks_on_loopback.py")])
    (programs / "databricks").write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
    (programs / "databricks").chmod(0o755)
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_DATABRICKS", "DATABRICKS"))
    }
    return ours | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MLOPS_HOME": str(folder / "home"),
        "DATABRICKS_HOST": workspace.host,
        "DATABRICKS_TOKEN": workspace.token,
        "BUNDLE_VAR_catalog": _CATALOG,
        "BUNDLE_VAR_identity": "00000000-0000-0000-0000-000000000000",
        # The loopback's machines all have four cores.
        "MLOPS_DATABRICKS_CLUSTERS__TRIALS__TASK_CPUS": "4",
    }


def _deployed(workspace: Workspace) -> set[str]:
    """Return the releases of the wheels that the deployed jobs install."""
    (state,) = workspace.storage.files.rglob("jobs.json")
    wheels = {part for part in state.read_text("utf-8").split('"') if part.endswith(".whl")}
    return {wheel.rpartition("/")[2].split("-")[1] for wheel in wheels}


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise UnexpectedError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
