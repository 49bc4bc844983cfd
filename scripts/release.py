"""Releases a version: checks its tag, builds its wheel once, deploys it, and returns to the release before if it fails.

Usage:
  python scripts/release.py check-tag v0.1.0
  python scripts/release.py build
  python scripts/release.py deploy TARGET [--previous FOLDER]

`build` writes the wheel and the requirements file of a cluster to dist/. `deploy` makes the cluster policy and deploys
the bundle by the Databricks CLI, then runs `mlops doctor` and the smoke test. If one of them fails, the bundle of
FOLDER, a checkout of the release before with its own dist/, is deployed in its place and tested in the same way; the
exit code is 1 all the same. The address, the login and `BUNDLE_VAR_identity` come from the environment.

What belongs here: the order of a release. What does not: what is deployed (`databricks.yml`), when (GitHub's workflow).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import bundle

from mlops_assets.databricks.libraries import requirements_file
from mlops_assets.databricks.runtimes import RUNTIMES

ROOT: Final = Path(__file__).resolve().parents[1]
_POLICY: Final = "mlops_assets"
_RUNTIME: Final = "18"
_LONG: Final = 100


class ReleaseError(Exception):
    """A step of the release failed."""


def version_of(folder: Path = ROOT) -> str:
    """Return the version of a checkout, `mlops_assets.__version__`."""
    text = (folder / "mlops_assets" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ReleaseError(f"{folder}/mlops_assets/__init__.py has no __version__")
    return found[1]


def check_tag(tag: str, folder: Path = ROOT) -> None:
    """Refuse a tag that does not name the version.

    Raises:
        ReleaseError: It names another one.
    """
    version = version_of(folder)
    if tag != f"v{version}":
        raise ReleaseError(
            f"the tag is {tag}, and mlops_assets.__version__ is {version}. Fix: delete the tag (`git push --delete "
            f"origin {tag}`), and tag the commit that has the version, or set the version first."
        )


def build(folder: Path = ROOT) -> Path:
    """Build the wheel and the requirements file of a cluster; return the wheel.

    Raises:
        ReleaseError: It can't be built.
    """
    dist = folder / "dist"
    for old in dist.glob("mlops_assets-*.whl"):
        old.unlink()
    uv = Path(sys.executable).with_name("uv")
    # Without isolation: the build uses the hatchling of the lock.
    building = [str(uv), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    _run([*building, "--out-dir", str(dist)], folder)
    (dist / "requirements.txt").write_text(requirements_file(RUNTIMES[_RUNTIME]), "utf-8")
    return wheel_of(folder)


def wheel_of(folder: Path) -> Path:
    """Return the wheel of a checkout.

    Raises:
        ReleaseError: There is none of its version.
    """
    wheel = folder / "dist" / f"mlops_assets-{version_of(folder)}-py3-none-any.whl"
    if not wheel.is_file():
        raise ReleaseError(f"{wheel} is missing. Fix: `python scripts/release.py build`, or take that of its release.")
    return wheel


def deploy(target: str, previous: Path | None, folder: Path = ROOT) -> None:
    """Deploy a checkout and test it; if that fails, return to the release before.

    Raises:
        ReleaseError: It failed; the text says what runs now.
    """
    try:
        _deploy_and_test(target, folder)
    except ReleaseError as error:
        if previous is None:
            raise ReleaseError(f"{error}\nThere is no release before this one: {target} has what failed.") from error
        version = version_of(previous)
        print(f"{error}\nReturning to {version}.", flush=True)
        try:
            _deploy_and_test(target, previous)
        except ReleaseError as second:
            raise ReleaseError(f"{second}\n{version} does not work either: {target} needs somebody.") from second
        raise ReleaseError(f"{version_of(folder)} failed on {target}, which has {version} again.") from error
    print(f"{version_of(folder)} is on {target}.", flush=True)


def _deploy_and_test(target: str, folder: Path) -> None:
    version = version_of(folder)
    wheel_of(folder)
    given = ["--target", target, "--var", f"release={version}", "--var", f"policy_id={_policy(folder)}"]
    _run(["databricks", "bundle", "deploy", *given], folder)
    profile = {"MLOPS_TARGET": "databricks", "MLOPS_DATABRICKS_PROFILE": target}
    # Where the jobs write, so that the doctor looks at the same place.
    schema = bundle.resources(target, {**bundle.EXAMPLE, **bundle.given_by(os.environ)}, folder)["schemas"]["tables"]
    profile |= {"MLOPS_DATABRICKS_HOST": os.environ["DATABRICKS_HOST"]}
    profile |= {"MLOPS_DATABRICKS_CATALOG": schema["catalog_name"], "MLOPS_DATABRICKS_SCHEMA": schema["name"]}
    _run([str(Path(sys.executable).with_name("mlops")), "doctor"], folder, **profile)
    _run(["databricks", "bundle", "run", "smoke", *given], folder)


def _policy(folder: Path) -> str:
    """Return the id of the cluster policy, which is made or brought up to date."""
    definition = (folder / "deploy" / "cluster_policy.json").read_text("utf-8")
    listed = json.loads(_run(["databricks", "cluster-policies", "list", "--output", "json"], folder) or "[]")
    known = [policy["policy_id"] for policy in listed if policy["name"] == _POLICY]
    body = {"name": _POLICY, "definition": definition, **({"policy_id": known[0]} if known else {})}
    verb = "edit" if known else "create"
    made = _run(["databricks", "cluster-policies", verb, "--json", json.dumps(body), "--output", "json"], folder)
    return str(known[0] if known else json.loads(made)["policy_id"])


def _run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a command, show what it says, and return what it printed.

    Raises:
        ReleaseError: It failed.
    """
    print("$", " ".join(part if len(part) < _LONG else "..." for part in command), flush=True)
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(command[:3])}` ended with exit code {done.returncode}.")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run one step of a release and return the exit code."""
    parser = argparse.ArgumentParser(description="Release a version.")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("check-tag").add_argument("tag")
    steps.add_parser("build")
    deploying = steps.add_parser("deploy")
    deploying.add_argument("target")
    deploying.add_argument("--previous", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.step == "check-tag":
            check_tag(given.tag)
        elif given.step == "build":
            print(build())
        else:
            deploy(given.target, given.previous, Path.cwd())
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
