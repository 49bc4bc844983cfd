"""Text of strangers is shown, and does nothing: in Markdown, in messages, in chat programs, in a terminal."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlops_assets.assets.reporting import preview, reason_table
from mlops_assets.automation.alerts import FailedRun
from mlops_assets.data.contract.diff import Difference, as_markdown
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.databricks.preflight import Finding
from mlops_assets.errors import SourceError
from mlops_assets.foreign_text import in_cell, in_sentence, printable

HOSTILE = (
    "[click](http://evil.example)",
    "![pixel](http://evil.example/pixel.png)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "http://evil.example",
    "www.evil.example",
    "somebody@evil.example",
    "a | b |\n| c | d |",
    "`code` | `",
    "\\| \\` \\",
    "</td></tr></table>",
    "\u2028\u2029\r\n\x0b\x0c",
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07\x1b[2J",
    "\u202egnp.exe",
    "<!channel> <@U123> <http://evil.example|click>",
    "x" * 10_000,
)
TEXT = st.one_of(st.text(), st.sampled_from(HOSTILE), st.text(alphabet="|`\\<>[]()!*_~#:/.\n\r\t aw"))
MARKDOWN = MarkdownIt("commonmark").enable("table")
ALLOWED = {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "code_inline",
    "text",
    "inline",
}


def rendered(text: str) -> list[tuple[str, str]]:
    """Return what a renderer of GitHub's Markdown makes of a text: kind and content of each piece."""
    found: list[tuple[str, str]] = []
    for block in MARKDOWN.parse(text):
        found.append((block.type.removesuffix("_open").removesuffix("_close"), block.content))
        found += [
            (piece.type.removesuffix("_open").removesuffix("_close"), piece.content) for piece in block.children or []
        ]
    return found


@given(left=TEXT, right=TEXT)
def test_any_text_gives_one_row_and_nothing_but_text(left: str, right: str):
    table = f"| a | b |\n|---|---|\n| {in_cell(left)} | {in_cell(right)} |\n| after | it |"

    pieces = rendered(table)

    assert {kind for kind, _ in pieces} <= ALLOWED
    assert sum(kind == "tr" for kind, _ in pieces) == 6  # opened and closed: head, the row, the one after
    assert [content for kind, content in pieces if kind == "inline"][-2:] == ["after", "it"]


@given(text=TEXT)
def test_any_text_is_at_most_eighty_characters_in_one_line(text: str):
    shown = in_cell(text).strip("`")

    assert len(shown) <= 80
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in shown)


def test_what_is_harmless_is_shown_as_it_is():
    for plain in ("amount", "merchant_id", "-5.0", "12.5%", "2024-10-06", "day 1", "Müller 12.50"):
        assert in_cell(plain) == plain
    assert in_cell("Müller & Söhne, 12.50 €") == "`Müller & Söhne, 12.50 €`"
    assert in_cell("") == in_cell(" \n"[:1]) == ""
    assert printable("C:\\data\\März.csv") == "C:\\data\\März.csv"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_preview_and_a_table_of_reasons_are_tables_only(text: str):
    table = pa.table({text: [text], "b": [1.5]})
    for shown in (preview(table), reason_table({text: 3})):
        assert shown is not None
        assert {kind for kind, _ in rendered(str(shown.value))} <= ALLOWED


@pytest.mark.parametrize("text", HOSTILE)
def test_columns_of_a_file_are_named_without_effect(text: str):
    diff = as_markdown([Difference(text, "unknown", "", text)], wanted="contract", found="file")

    assert {kind for kind, _ in rendered(diff)} <= ALLOWED


def test_a_file_name_does_not_steer_a_terminal(tmp_path: Path):
    (tmp_path / "\x1b[2J\x1b]0;owned\x07\n.csv").write_text("a\n")

    with pytest.raises(SourceError) as raised:
        list(FilesSource(str(tmp_path)).batches())

    assert "\\x1b[2J" in str(raised.value)
    assert str(raised.value).isprintable()


@given(text=TEXT)
def test_a_sentence_about_any_text_is_a_sentence_only(text: str):
    pieces = rendered(f"It says: {in_sentence(text)}")

    assert {kind for kind, _ in pieces} <= {*ALLOWED, "paragraph", "em", "strong", "text_special"}
    assert in_sentence("3 of 9 rows: amount (-5.0) is below 0") == "3 of 9 rows: amount (-5.0) is below 0"


@given(text=TEXT)
def test_a_message_is_one_printable_line(text: str):
    message = str(SourceError(text, where=text, fix=text))

    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", message)


@given(text=TEXT)
def test_an_alert_mentions_nobody_and_links_nowhere_but_to_the_run(text: str):
    link = "http://127.0.0.1:3000/runs/1"
    shown = FailedRun("job", "1", (), (), text, link).text

    assert shown.endswith(f" {link}")
    said = shown.removesuffix(link)
    assert not re.search(r"[<>]", said)
    assert len(said) < 600
    assert said.count("`") in (0, 2), "what a stranger wrote is code, in which chat programs look for nothing"


def test_a_finding_is_one_line_that_steers_no_terminal():
    finding = Finding("error", "model\x1b[2J", "file a\nb.csv\x1b]0;owned\x07 differs")

    assert str(finding) == "error   model\\x1b[2J: file a\\nb.csv\\x1b]0;owned\\x07 differs"
