"""What watches over the repository itself: workflows, hooks, the scan for secrets. Each is fed something bad.

What belongs here: CI, hooks and the checks of `make check` that are not the type checker and the linter. What does not:
packaging, the lock and the other targets of the Makefile (`test_setup`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_assets_tests.proofs import read_parts

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
BIN = Path(sys.executable).parent
PLANTED = "dapi" + "0f1e2d3c" * 4
BAD_WORKFLOW = """\
name: bad
on: pull_request_target
permissions: write-all
jobs:
  greet:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - run: echo "${{ github.event.pull_request.title }}"
"""


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": str(BIN.parent), "PRE_COMMIT_HOME": str(folder / ".pre-commit-home")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- workflows --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    return document


def test_workflow_covers_the_supported_versions_with_least_rights(workflow: dict[str, Any]):
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in jobs.items()} == {name: {"contents": "read"} for name in jobs}
    matrix = jobs["test"]["strategy"]["matrix"]
    assert tuple(matrix["python"]) == PYTHONS
    assert {*matrix["java"], *(entry["java"] for entry in matrix["include"])} == {"17", "21"}
    commands = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    assert commands[:2] == ["make check", 'make test ${COVERAGE:+ARGS="$COVERAGE"}']
    assert "scripts/check_skips.py" in commands[2]
    assert [step["run"] for step in jobs["proof"]["steps"] if "run" in step][-1] == 'make proof PART="$PART"'


def test_each_part_of_the_proofs_is_a_job(workflow: dict[str, Any]):
    assert workflow["jobs"]["proof"]["strategy"]["matrix"]["part"] == list(read_parts(ROOT / ".ci" / "proof-parts"))


def test_actions_are_pinned_by_commit_with_the_version_beside_it():
    lines = [line for file in ROOT.glob(".github/**/*.yml") for line in file.read_text("utf-8").splitlines()]
    used = [line.split("uses:")[1].strip() for line in lines if "uses:" in line]
    at_a_commit = re.compile(r"(actions|databricks|github|ossf)/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    pinned = [use for use in used if at_a_commit.fullmatch(use)]
    assert len(pinned) >= 6
    # These are this repository's own, at the same commit.
    assert {*used} - {*pinned} == {"$/.github/actions/set-up", "$/.github/workflows/deploy.yml"}


def test_zizmor_passes_our_workflows_and_refuses_a_bad_one(tmp_path: Path):
    zizmor = (BIN / "zizmor", "--offline", "--quiet")
    good = run(*zizmor, ".github")
    assert good.returncode == 0, good.stdout
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / ".github" / "workflows" / "bad.yml").write_text(BAD_WORKFLOW, "utf-8")
    bad = run(*zizmor, ".github", folder=tmp_path)
    assert bad.returncode != 0
    for audit in ("dangerous-triggers", "template-injection", "unpinned-uses", "artipacked"):
        assert f"[{audit}]" in bad.stdout


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with our hooks and nothing else."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".pre-commit-config.yaml", folder)
    shutil.copy(ROOT / ".gitignore", folder)
    run("git", "init", "--quiet", folder=folder)
    return folder


def test_the_scan_passes_what_only_looks_like_a_secret():
    """`make check` scans the whole tree, which takes some seconds; these have the words that the scan looks for."""
    answer = run("sh", "scripts/scan_secrets.sh", "mlops_assets/settings.py", "scripts/databricks_tokens.py", __file__)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (f"DATABRICKS_TOKEN={PLANTED}", "Databricks Token"),
        ('aws = "AKIA' + 'Q6Z3PLANTED7KEYX"', "AWS Access Key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----\n" + 3 * ("MIIEow" * 8 + "\n"), "Private Key"),
        ("pass" + "word = 'q8Zt-99-x'", "Secret Keyword"),
        ("uri = 'postgresql://" + "ml:q8Zt99x@db.example/mlflow'", "Basic Auth Credentials"),
    ],
    ids=["databricks", "aws", "private-key", "password", "address"],
)
def test_the_scan_refuses_a_planted_secret_and_does_not_repeat_it(repository: Path, line: str, kind: str):
    planted = repository / "notes.py"
    planted.write_text("x = 1\n", "utf-8")
    assert run("sh", "scripts/scan_secrets.sh", folder=repository).returncode == 0
    planted.write_text(f"x = 1\n{line}\n", "utf-8")
    answer = run("sh", "scripts/scan_secrets.sh", folder=repository)
    assert answer.returncode != 0
    assert f"Secret Type: {kind}\nLocation:    notes.py:" in answer.stdout
    assert "Fix: " in answer.stderr
    assert line not in answer.stdout + answer.stderr


def test_the_scan_refuses_a_folder_whose_files_git_does_not_know(repository: Path):
    shutil.rmtree(repository / ".git")
    ceiling = f"GIT_CEILING_DIRECTORIES={repository.parent}"
    assert run("env", ceiling, "sh", "scripts/scan_secrets.sh", folder=repository).returncode != 0


# --- pre-commit -------------------------------------------------------------------------------------------------------


def test_hooks_are_local_and_their_tools_are_those_of_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    assert set(hooks) == {"ruff-check", "ruff-format", "mypy", "zizmor", "secrets"}
    tools = [hook["entry"].split()[0] for hook in hooks.values()]
    assert [tool for tool in tools if tool != "sh" and not (BIN / Path(tool).name).exists()] == []


def test_the_hook_refuses_a_commit_with_a_secret_and_lets_a_good_one_pass(repository: Path):
    hook = (BIN / "pre-commit", "run", "secrets")
    (repository / "notes.py").write_text("x = 1\n", "utf-8")
    run("git", "add", "notes.py", folder=repository)
    good = run(*hook, folder=repository)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Passed" in good.stdout
    (repository / "notes.py").write_text(f"x = '{PLANTED}'\n", "utf-8")
    run("git", "add", "notes.py", folder=repository)
    bad = run(*hook, folder=repository)
    assert bad.returncode != 0
    assert "Databricks Token" in bad.stdout
