"""The page about the test kit shows the example's own files, and its table is that of the plugin's fixtures."""

from __future__ import annotations

from typing import Any

import mlops_assets.testing
from mlops_assets_tests.docs.pages import CHECKOUT, DOCS, NOT_RUN, blocks_of, rows, section, spans

PAGE = DOCS / "how-to" / "test-your-assets.md"
EXAMPLE = CHECKOUT / "examples" / "own_project"


def test_the_files_on_the_page_are_those_of_the_example():
    shown = {block.what.split()[0]: block.text for block in blocks_of(PAGE) if block.kind == NOT_RUN}

    assert shown == {f"tests/{path.name}": path.read_text("utf-8") for path in (EXAMPLE / "tests").glob("*.py")}
    assert any("examples/own_project" in block.command for block in blocks_of(PAGE) if block.runs)


def test_the_fixtures_are_those_of_the_plugin():
    described = {spans(row[0])[0]: row[1] for row in rows(section(PAGE.read_text("utf-8"), "Fixtures"))}

    def scope(name: str) -> str:
        fixture: Any = getattr(mlops_assets.testing, name)
        return {"function": "test", "session": "test run"}[fixture._fixture_function_marker.scope]

    assert described == {name: scope(name) for name in mlops_assets.testing.__all__}
