"""Private names of Dagster: one module has them all, and a version of Dagster that lacks one is told by name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets import dagster_internals
from mlops_assets_tests import dagster_names
from mlops_assets_tests.conftest import CHECKOUT
from mlops_assets_tests.docs.pages import rows, section
from mlops_assets_tests.test_definitions import PACKAGE, PURE, imports_of

INTERNALS = Path(dagster_internals.__file__)
PRIVATE = dagster_names.imported(INTERNALS.read_text("utf-8"))


@pytest.mark.parametrize(("module", "name"), [*PRIVATE, *dagster_names.MEMBERS], ids=lambda value: value)
def test_dagster_has_the_private_name(module: str, name: str):
    lacking = list(dagster_names.missing([(module, name)]))
    assert not lacking, f"Dagster {dg.__version__} has no {lacking}"


def test_what_a_version_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    planted = tmp_path / "internals.py"
    planted.write_text(
        "from dagster._core.events import EngineEventData, NoSuchEvent\nfrom dagster._core.gone import Anything\n"
    )
    monkeypatch.setattr(dagster_names, "INTERNALS", planted)
    monkeypatch.setattr(dagster_names, "MEMBERS", (("dagster", "DefaultRunLauncher._gone"),))

    assert dagster_names.main() == 1

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" has no ")[2] for line in lines] == [
        "dagster._core.events.NoSuchEvent",
        "dagster._core.gone (for Anything)",
        "dagster.DefaultRunLauncher._gone",
    ]


def test_ci_asks_each_minor_version(capsys: pytest.CaptureFixture[str]):
    workflow = (CHECKOUT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    minor = ".".join(dg.__version__.split(".")[:2])

    assert "mlops_assets_tests/dagster_names.py" in workflow
    assert f'dagster: "{minor}"' in workflow
    assert dagster_names.main() == 0
    assert (
        f"dagster {dg.__version__} has all {len(PRIVATE) + len(dagster_names.MEMBERS)} private names"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", dagster_internals.__all__)
def test_a_name_is_private_only_while_dagster_does_not_offer_it(name: str):
    assert name not in vars(dg), f"dagster.{name} is public: use that"


def test_every_import_is_given_out():
    assert sorted(dagster_internals.__all__) == sorted(name for _, name in PRIVATE)


def internals_in(files: list[Path]) -> tuple[int, int]:
    """Return the lines of files, and how many private names they use."""
    texts = [file.read_text("utf-8") for file in files]
    used = {name for text in texts for module, name in dagster_names.imported(text) if module.endswith("_internals")}
    return sum(len(text.splitlines()) for text in texts), len(used)


def test_the_page_says_what_each_launcher_costs_to_keep():
    page = (CHECKOUT / "docs" / "how-to" / "databricks.md").read_text("utf-8")
    costs = section(page, "Choose `launcher: step` or `launcher: pipes`")
    told = {row[0]: [[int(word) for word in re.findall(r"\d+", cell)] for cell in row[1:]] for row in rows(costs)}
    room = PACKAGE / "databricks"
    step = [room / "launch" / f"{name}.py" for name in ("launcher", "placing", "run_steps", "warm")]
    of_step, of_pipes = internals_in(step), internals_in(sorted(room.glob("pipes*.py")))
    script, _ = internals_in([room / "launch" / f"{name}.py" for name in ("cluster_main", "request_loop", "reports")])

    (step_lines, script_lines), (pipes_lines,) = told["lines of code"]
    for number, counted in ((step_lines, of_step[0]), (script_lines, script), (pipes_lines, of_pipes[0])):
        assert abs(number - counted) <= 15, (number, counted)
    of_client = sum(owner == "dagster_databricks" for owner, _ in dagster_names.MEMBERS)
    assert told["private names of Dagster"] == [[of_step[1]], [of_pipes[1], of_client]]


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
    assert users == {"assets", "automation", "cli", "databricks", "instance"}
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
