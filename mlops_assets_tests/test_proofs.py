"""Each long proof belongs to exactly one part of `make proof`, and what is asked for in vain is one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mlops_assets_tests.proofs import COLLECTED, Part, problems, read_parts

CHECKOUT = Path(__file__).resolve().parent.parent
TABLE = CHECKOUT / ".ci" / "proof-parts"


def test_each_collected_proof_belongs_to_one_part(request: pytest.FixtureRequest):
    """Of the whole suite if that is what is run, else of what is."""
    proofs = request.config.stash[COLLECTED]

    assert problems(read_parts(TABLE), proofs, CHECKOUT) == []


def test_the_workflow_runs_every_part_and_no_other():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))

    assert set(workflow["jobs"]["proof"]["strategy"]["matrix"]["part"]) == set(read_parts(TABLE))


def test_a_proof_in_no_part_or_in_two_a_lost_path_and_a_long_part_are_found(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    parts = {"one": Part(5, (Path("tests"),)), "two": Part(21, (Path("tests/test_b.py"),))}
    proofs = [Path("tests/test_a.py"), Path("tests/test_b.py"), Path("tests_of_others/test_c.py")]

    assert problems(parts, proofs, tmp_path) == [
        "two takes 21 minutes",
        "two names tests/test_b.py, which is not there",
        "tests/test_b.py belongs to one, two",
        "tests_of_others/test_c.py belongs to no part",
    ]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Python only says what it is asked to run."""
    for name in ("Makefile", "scripts/proof.sh", "scripts/preflight.sh", ".ci/proof-parts"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],  # noqa: S607 - the one of the PATH
        cwd=checkout,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_parts_are_listed_with_their_minutes_and_an_unknown_one_is_one_line(checkout: Path):
    listed = make(checkout, "proof", "PART=list")
    refused = make(checkout, "proof", "PART=none-such")

    parts = read_parts(TABLE)
    assert listed.stdout.splitlines() == [f"{name}: {part.minutes} minutes" for name, part in parts.items()]
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[0] == (
        f"proof: there is no part 'none-such'; PART is list or one of: {' '.join(parts)}"
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("parts", "options", "ends", "code"),
    [
        ("tables", [], "exit 0", 0),
        ("all", [], "exit 0", 0),
        ("all", [], '[ -z "$(echo "$@" | grep proof-launch.xml)" ]', 1),
        ("tables", [], "exit 5", 5),
        ("tables", ["-k", "a or b"], "exit 5", 0),
    ],
    ids=["one", "all", "one of all fails", "no test", "no test by choice"],
)
def test_a_part_runs_its_paths_and_a_failure_does_not_keep_the_others_from_running(
    checkout: Path, parts: str, options: list[str], ends: str, code: int
):
    python = checkout / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nprintf "%s|" "$@"; echo\n{ends}\n', "utf-8")
    python.chmod(0o755)

    answer = subprocess.run(
        ["sh", "scripts/proof.sh", parts, *options],  # noqa: S607 - the one of the PATH
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "VENV": "venv", "MLOPS_HOME": "home"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    table = read_parts(TABLE)
    names = list(table) if parts == "all" else [parts]
    ran = [line.split("|")[:-1] for line in answer.stdout.splitlines() if "|" in line]
    assert answer.returncode == code
    assert [call[5:7] for call in ran] == [["proof", f"--junitxml=home/test/proof-{name}.xml"] for name in names]
    beside = ["--dist", "loadfile", "--no-loadscope-reorder"]
    assert [call[7:12] for call in ran] == [["-n", str(table[name].processes), *beside] for name in names]
    assert [call[12:] for call in ran] == [[*map(str, table[name].paths), *options] for name in names]
