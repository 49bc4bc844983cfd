"""The architecture page is true: files, functions and rooms that it names are there, and no room is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mlops_assets_tests.docs.pages import CHECKOUT, DOCS, blocks_of, prose, rows, section, spans
from mlops_assets_tests.test_definitions import LAYERS, PURE

PAGE = DOCS / "explanation" / "architecture.md"
TEXT = PAGE.read_text("utf-8")
PACKAGE = CHECKOUT / "mlops_assets"


def defined_in(path: Path) -> set[str]:
    """Return the names of a module's functions and classes, and of the methods of these."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def wrong_deciders(text: str) -> list[str]:
    """Return each file and name of the table that is not there."""
    wrong = []
    for question, where, names in rows(section(text, "Who decides what")):
        (file,) = spans(where)
        path = CHECKOUT / file
        known = defined_in(path) if path.is_file() else set()
        wrong += [f"{question} {file}: {name}" for name in spans(names) if name not in known]
        if not spans(names):
            wrong.append(f"{question} nobody")
    return wrong


def test_what_decides_is_there():
    assert wrong_deciders(TEXT) == []


@pytest.mark.parametrize(
    "what", ["quarantined", "refused whole", "cut again", "pruned", "champion", "trained again", "launched"]
)
def test_the_questions_of_a_newcomer_are_answered(what: str):
    assert any(what in question for question, *_ in rows(section(TEXT, "Who decides what")))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mlops_assets/registry/gate.py", "mlops_assets/registry/door.py"),
        ("`judge_promotion`", "`judge_promotions`"),
        ("StepLauncherResource.get_object", "StepLauncherResource.take_object"),
        ("`judge_promotion`", "a rule"),
    ],
)
def test_a_decider_that_is_gone_is_noticed(before: str, after: str):
    assert before in TEXT
    assert len(wrong_deciders(TEXT.replace(before, after))) >= 1


def test_paths_in_the_text_are_there():
    paths = [span for span in spans(prose(PAGE)) if re.fullmatch(r"[\w./-]+/[\w./-]*|[\w/-]+\.py", span)]

    assert paths
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []


def test_the_rooms_are_those_of_the_package():
    (tree,) = [block.text for block in blocks_of(PAGE) if block.text.startswith("mlops_assets/")]
    described = re.findall(r"^  (\S+)", tree, re.MULTILINE)

    there = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert set(described) == there
    assert len(described) == len(there)


def test_the_order_of_imports_is_the_one_that_is_guarded():
    (order,) = [block.text for block in blocks_of(PAGE) if block.text.startswith("data <")]
    chain = [re.findall(r"\w+", part) for part in order.splitlines()[0].split("<")]

    named = set(re.findall(r"\w+", order))
    assert LAYERS.keys() - named <= {"instance"}
    for position, names in enumerate(chain):
        later = {name for part in chain[position:] for name in part}
        for name in names:
            assert not LAYERS.get(name, set()) & (later - {name}), f"{name} may import what stands beside or after it"
    free = section(TEXT, "Rooms")
    assert set(PURE) <= set(spans(free.split("are Dagster-free")[0].rsplit("\n\n", 1)[1]))
