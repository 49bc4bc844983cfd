"""Read the Markdown pages: fenced blocks with the comment before them, tables, links.

What belongs here: from text to blocks and rows. What does not: running blocks (`reader`), judging what a page says (the
tests).

A block may have an HTML comment directly before it:

- `<!-- not run here: WHY -->`: it can't run where the tests run;
- `<!-- fails: TEXT -->`: it ends with an error and prints TEXT;
- `<!-- file: NAME -->`: the reader saves it under that name, and nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = CHECKOUT / "docs"
README: Final = CHECKOUT / "README.md"
PAGES: Final = (
    README,
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "benchmarks" / "README.md",
    *sorted(DOCS.rglob("*.md")),
)

RUN: Final = ("shell", "console", "bash", "python")
READ: Final = ("yaml", "text")  # loaded by a test of its own; shown only
NOT_RUN, FAILS, FILE = "not run here", "fails", "file"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands.
        line: Line of its fence, from 1.
        language: What stands after the fence, perhaps nothing.
        text: Its lines.
        kind: What the comment before it says: `not run here`, `fails`, `file`, or nothing.
        what: The rest of that comment.
    """

    page: str
    line: int
    language: str
    text: str
    kind: str = ""
    what: str = ""

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is a command that is run."""
        return self.language in RUN and self.kind in ("", FAILS)

    @property
    def command(self) -> str:
        """What is run: of a `console` block the lines after the prompt."""
        if self.language != "console":
            return self.text
        lines = [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]
        return "\n".join(lines) + "\n"

    @property
    def problem(self) -> str:
        """Why the tests can't tell what to do with it; empty if they can."""
        if self.kind and (self.kind not in (NOT_RUN, FAILS, FILE) or not self.what):
            return f"{self.where}: the comment '{self.kind}: {self.what}' is none that a test knows"
        if self.kind or self.language in (*RUN, *READ):
            return ""
        return f"{self.where}: a block of language '{self.language}' needs `<!-- not run here: WHY -->` before it"


def blocks(text: str, page: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        kind, _, what = (match["note"] or "").partition(":")
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], match["text"], kind.strip(), what.strip()))
    return found


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page of the project."""
    return blocks(page.read_text("utf-8"), name_of(page))


def name_of(page: Path) -> str:
    """Return a page's path in the checkout."""
    return page.relative_to(CHECKOUT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures."""
    return _LINK.findall(text)


def spans(text: str) -> list[str]:
    """Return what stands in backticks."""
    return _SPAN.findall(text)


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, to the next heading of any level."""
    after = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    return re.split(r"^#+ ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables in a text, without heads and rules."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("|") and not re.match(r"\|[ :|-]+\|$", line) and not re.match(r"\|[ :|-]+\|$", after):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
