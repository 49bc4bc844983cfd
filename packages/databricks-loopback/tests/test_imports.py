"""The package stands alone: it imports its declared dependencies and nothing of the project that it lives beside."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE = PACKAGE / "src" / "databricks_loopback"


def imported(path: Path) -> set[str]:
    """Return the top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def foreign_imports(source: Path, allowed: set[str]) -> list[str]:
    """Return the imports that are neither the standard library's nor allowed."""
    return sorted(
        f"{path.relative_to(source)} imports {name}"
        for path in source.rglob("*.py")
        for name in imported(path) - sys.stdlib_module_names - allowed
    )


def requirements() -> list[Requirement]:
    """Return the declared dependencies, with those of all extras."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def declared() -> set[str]:
    """Return the top-level names of the declared dependencies; Spark's are imported by tasks only."""
    assert {requirement.name for requirement in requirements()} == {"databricks-sdk", "packaging", "pyspark"}
    return {"databricks", "packaging"}


def test_what_is_declared_is_installed():
    missing = [str(item) for item in requirements() if not item.specifier.contains(metadata.version(item.name))]
    assert missing == []


def test_package_imports_only_what_it_declares():
    assert foreign_imports(SOURCE, declared() | {"databricks_loopback"}) == []


def test_tests_import_nothing_of_another_project():
    names = set().union(*(imported(path) for path in (PACKAGE / "tests").glob("*.py")))
    assert [name for name in names if name.startswith("mlops_assets")] == []


def test_image_imports_nothing_but_the_standard_library():
    own = {path.stem for path in (SOURCE / "image").glob("*.py")}
    assert foreign_imports(SOURCE / "image", own) == []


def test_planted_import_is_seen(tmp_path: Path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "late.py").write_text("def late():\n    from mlops_assets.errors import PlatformError\n")
    (tmp_path / "early.py").write_text("import json\nimport mlops_assets.settings as settings\n")
    assert foreign_imports(tmp_path, declared()) == [
        "api/late.py imports mlops_assets",
        "early.py imports mlops_assets",
    ]
