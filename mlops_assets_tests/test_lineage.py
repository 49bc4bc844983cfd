"""Keys that one part writes and another reads are typed once; a copy typed by hand is noticed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlops_assets
from mlops_assets import lineage

PACKAGE = Path(mlops_assets.__file__).parent
# The same word with another meaning: file, word, and what it is there.
OTHER_MEANINGS: dict[tuple[str, str], str] = {
    ("assets/reporting.py", "pictures"): "a row of an asset's metadata",
    ("databricks/launch/attempt.py", "dagster_run"): "what a Databricks run is named by",
    ("databricks/launch/submission.py", "spec"): "a field of the Jobs API",
    ("databricks/pipes_results.py", "dagster_run"): "a type of Dagster's metadata values, in the Pipes protocol",
    ("databricks/pipes_results.py", "records"): "a field of a table, in the Pipes protocol",
    ("evaluation/explanations.py", "explanation"): "where an error comes from",
    ("registry/gate.py", "promoted"): "a verdict",
    ("registry/ledger.py", "promoted"): "an event",
    ("registry/registration.py", "promoted"): "an event",
    ("training/search/proposals.py", "spec"): "a field of hyperopt's trial documents",
}


def keys() -> set[str]:
    """Return the values of all constants in `lineage`."""
    found: set[str] = set()
    for name, value in vars(lineage).items():
        if name.isupper():
            found |= set(value.values()) if isinstance(value, dict) else {value}
    return found


def texts_of(path: Path) -> Iterator[str]:
    """Yield the string constants of a module, also those inside f-strings, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def typed_by_hand(package: Path) -> list[tuple[str, str]]:
    """Return file and key of each copy: the whole constant, or a namespaced key anywhere in one."""
    words = keys()
    namespaced = [key for key in words if re.search(r"[./]", key.removesuffix("."))]
    inside = re.compile(rf"(?<![\w./])(?:{'|'.join(map(re.escape, namespaced))})(?![\w/])")
    copies = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name == "lineage.py":
            continue
        for text in texts_of(path):
            found = {text} & words | set(inside.findall(text))
            copies += [(name, key) for key in sorted(found) if (name, key) not in OTHER_MEANINGS]
    return copies


def test_no_key_is_typed_by_hand():
    assert typed_by_hand(PACKAGE) == []


@pytest.mark.parametrize(
    "line",
    [
        'found = metadata.get("raw_version")',
        'tags = {"mlops_assets.split_id": 1}',
        "where = f\"tags.`mlops_assets.stage` = '{stage}'\"",
        'row = {"dagster/row_count": 3}',
    ],
)
def test_a_copy_is_noticed(line: str, tmp_path: Path):
    (tmp_path / "reader.py").write_text(f'"""Docstrings may name raw_version."""\n{line}\n')

    assert len(typed_by_hand(tmp_path)) == 1


def test_a_docstring_a_comment_and_a_longer_word_are_no_copies(tmp_path: Path):
    (tmp_path / "reader.py").write_text('"""raw_version"""\n# raw_version\nX = "raw_versions"\nY = "the raw_version"\n')

    assert typed_by_hand(tmp_path) == []


def test_every_key_is_there_once_and_the_exceptions_are_still_needed():
    single = [value for name, value in vars(lineage).items() if name.isupper() and isinstance(value, str)]

    assert len(single) == len(set(single))
    assert len(keys()) > 40
    for name, key in OTHER_MEANINGS:
        assert key in set(texts_of(PACKAGE / name))


def test_the_values_are_those_on_disk():
    """Homes that exist hold these words; a renamed value would make their readers find nothing."""
    assert lineage.RAW_VERSION == "raw_version"
    assert lineage.SPLIT_ID == "split_id"
    assert lineage.ROW_COUNT == "dagster/row_count"
    assert lineage.DATABASE_TAG == "mlops_assets.database"
    assert lineage.RECORD_TAG == "mlops_assets.record"
    assert lineage.DAGSTER_RUN_TAG == "dagster.run_id"
    assert lineage.SCORES_FILE == "evaluation/test_scores.npy"
