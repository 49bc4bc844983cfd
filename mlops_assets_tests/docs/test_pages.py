"""Every page: its size, its links, its place in the index, and that each block is one that a test looks at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlops_assets_tests.docs.pages import CHECKOUT, DOCS, PAGES, README, blocks, blocks_of, links, name_of, prose


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links to files or headings that are not there."""
    broken = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not link.startswith(("http://", "https://")) and (
            not target.exists() or (anchor and anchor not in anchors(target))
        ):
            broken.append(f"{name_of(page)}: {link}")
    return broken


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 8_192


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    assert broken_links(page, page.read_text("utf-8")) == []


@pytest.mark.parametrize("link", ["nowhere.md", "docs/README.md#nothing", "#nothing", "docs/pictures/none.png"])
def test_a_broken_link_is_noticed(link: str):
    assert len(broken_links(README, f"see [this]({link}) and [that](docs/README.md#documentation)")) == 1


def test_the_index_has_every_page_and_each_picture_is_shown():
    indexed = {(DOCS / link).resolve() for link in links((DOCS / "README.md").read_text("utf-8"))}
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page.read_text("utf-8"))}

    assert set(DOCS.rglob("*.md")) - indexed == {DOCS / "README.md"}
    assert set((DOCS / "pictures").iterdir()) - shown == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_is_run_or_loaded_or_says_why_not(page: Path):
    assert [block.problem for block in blocks_of(page) if block.problem] == []


@pytest.mark.parametrize(
    "text",
    [
        "```sql\nSELECT 1\n```",
        "```\nmake demo\n```",
        "<!-- a comment before it: too far away -->\n\n```sql\nSELECT 1\n```",
        "<!-- not run here: -->\n```shell\nmake ui\n```",
        "<!-- not run today: too slow -->\n```shell\nmake ui\n```",
    ],
)
def test_a_block_that_no_test_knows_fails(text: str):
    (block,) = blocks(text, "page.md")

    assert block.problem
    assert block.where in block.problem


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("```shell\nmake demo\n```", True),
        ("<!-- fails: no such file -->\n```shell\nmake demo\n```", True),
        ("<!-- not run here: needs a workspace -->\n```sql\nSELECT 1\n```", False),
        ("<!-- not run here: serves until you stop it -->\n```shell\nmake ui\n```", False),
        ("<!-- file: a.py -->\n```python\nprint(1)\n```", False),
        ("```text\nwhat it prints\n```", False),
    ],
)
def test_a_block_that_a_test_knows_passes(text: str, *, runs: bool):
    (block,) = blocks(text, "page.md")

    assert block.problem == ""
    assert block.runs is runs


def test_the_pages_name_no_machine():
    for page in PAGES:
        text = page.read_text("utf-8")
        assert str(CHECKOUT) not in text
        assert f"{Path.home()}/" not in text
