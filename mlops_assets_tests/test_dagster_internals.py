"""Private names of Dagster: one module has them all, and a version of Dagster that lacks one is told by name."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets import dagster_internals
from mlops_assets_tests.test_definitions import PACKAGE, PURE, imports_of

INTERNALS = Path(dagster_internals.__file__)
PRIVATE = sorted(
    (node.module or "", alias.name)
    for node in ast.parse(INTERNALS.read_text("utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
)
# Private methods and attributes of public classes that are overridden or read.
MEMBERS = [
    ("dagster", "DefaultRunLauncher", "_instance"),
    ("dagster_databricks", "PipesDatabricksClient", "_poll_til_success"),
    ("dagster_databricks", "PipesDatabricksClient", "_extract_dagster_metadata"),
]


@pytest.mark.parametrize(("module", "name"), PRIVATE, ids=lambda value: value)
def test_dagster_has_the_private_name(module: str, name: str):
    assert hasattr(importlib.import_module(module), name), f"{module} of Dagster {dg.__version__} has no {name}"


@pytest.mark.parametrize(("module", "owner", "name"), MEMBERS, ids=lambda value: value)
def test_dagster_has_the_private_member(module: str, owner: str, name: str):
    assert hasattr(getattr(importlib.import_module(module), owner), name)


@pytest.mark.parametrize("name", dagster_internals.__all__)
def test_a_name_is_private_only_while_dagster_does_not_offer_it(name: str):
    assert name not in vars(dg), f"dagster.{name} is public: use that"


def test_every_import_is_given_out():
    assert sorted(dagster_internals.__all__) == sorted(name for _, name in PRIVATE)


def private_uses(package: Path, allowed: Path | None = None) -> list[str]:
    """Return each place in a package that reaches into Dagster, but for the allowed module."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        if path == allowed:
            continue
        uses = [name for name in imports_of(path) if _is_private(name)]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id.replace('dg', 'dagster')}.{node.attr}"
                uses += [name] if _is_private(name) else []
        wrong += [f"{path.relative_to(package)}: {name}" for name in sorted(uses)]
    return wrong


def _is_private(name: str) -> bool:
    root, *parts = name.split(".")
    if root == "dagster_shared":  # all of it is Dagster's own library
        return True
    is_dagster = root == "dagster" or root.startswith("dagster_")
    return is_dagster and any(part.startswith("_") and not part.startswith("__") for part in parts)


def test_no_other_module_reaches_into_dagster():
    assert private_uses(PACKAGE, INTERNALS) == []


def test_the_guard_sees_every_way_to_reach_into_dagster(tmp_path: Path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "bad.py").write_text(
        "import dagster as dg\n"
        "import dagster._core.events\n"
        "from dagster_databricks._version import x\n"
        "from dagster_shared.record import copy\n"
        "def late():\n    from dagster import _check\n    return dg._core, dg.__version__\n"
    )
    assert private_uses(tmp_path) == [
        "room/bad.py: dagster._check",
        "room/bad.py: dagster._core",
        "room/bad.py: dagster._core.events",
        "room/bad.py: dagster_databricks._version.x",
        "room/bad.py: dagster_shared.record.copy",
    ]


def test_dagster_free_rooms_do_not_take_this_way_round():
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.startswith("mlops_assets.dagster_internals") for name in imports_of(path))
    }
    assert users == {"automation", "cli", "databricks", "instance"}
    assert not users & set(PURE)


def test_it_loads_nothing_that_dagster_has_not_loaded():
    code = (
        "import sys, dagster\n"
        "before = set(sys.modules)\n"
        "import mlops_assets.dagster_internals\n"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "['dagster', 'mlops_assets']"
