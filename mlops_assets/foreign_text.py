"""Text of strangers (cells, columns, names of files, words of a cluster), made safe to show.

What belongs here: the ways to show it. What does not: what is shown where, and secrets (`locations.shown`).

Every cell, file name and column name that goes into Markdown passes `in_cell`, everything that goes into a message, a
log or a terminal passes `printable`. So a cell is never a link, a picture or HTML, nor a second row, and a file name
can't steer a terminal.
"""

from __future__ import annotations

import re
import unicodedata

# Control, format (bidirectional marks among them), surrogate, private use, line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
# Line ends, tabs, and the sequences that set a color.
_LAYOUT = re.compile(r"[\r\n\t]|\x1b\[[0-9;]*m")
_LAYOUT_OR_TEXT = re.compile(r"[\r\n\t]|\x1b\[[0-9;]*m|\x1b|[^\r\n\t\x1b]+")
_CELL, _SENTENCE = 80, 1_000
_MARKS = re.compile(r"[<\[`@]|://|www\.", re.IGNORECASE)
# Words and numbers: no mark of Markdown's, and an underscore only within a word.
_WORD = r"[^\W_](?:\w*[^\W_])?"
_PLAIN = re.compile(rf"-?{_WORD}(?:[ .,-]{_WORD})*%?")


def printable(text: object, limit: int | None = None) -> str:
    """Return text in one line, with what can't be seen as escapes of Python.

    Args:
        text: Anything; its `str` is shown.
        limit: Number of characters after which it is cut; None for all.
    """
    whole = str(text)
    if limit is not None and len(whole) > limit:
        whole = f"{whole[: limit - 1]}…"
    if whole.isascii() and whole.isprintable():
        return whole
    shown = "".join(_escaped(char) if unicodedata.category(char) in _UNSEEN else char for char in whole)
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 1]}…"


def for_terminal(text: str) -> str:
    """Return printed text with its lines and colors; what else could steer a terminal is escaped."""
    return "".join(
        piece if keep else "".join(_escaped(char) if unicodedata.category(char) in _UNSEEN else char for char in piece)
        for piece, keep in ((piece, bool(_LAYOUT.fullmatch(piece))) for piece in _LAYOUT_OR_TEXT.findall(text))
    )


def in_cell(text: object, limit: int = _CELL) -> str:
    """Return text as one cell of a Markdown table: plain words as they are, anything else as code.

    Args:
        text: Anything; its `str` is shown.
        limit: Number of characters after which it is cut.
    """
    shown = printable(text, limit)
    return shown if _PLAIN.fullmatch(shown) and "www." not in shown.lower() else as_code(text, limit)


def in_sentence(text: str) -> str:
    """Return a sentence that names what strangers have named, for where it may be read as Markdown.

    As it is if there is no mark in it from which a link, a picture, HTML or code could come; otherwise as code.
    """
    shown = printable(text)
    return as_code(shown, _SENTENCE) if _MARKS.search(shown) else shown


def as_code(text: object, limit: int = _CELL) -> str:
    """Return text as code, in which nothing has a meaning to Markdown or a chat program; empty for empty text.

    A bar and a backtick are replaced: renderers disagree on how to escape them there.

    Args:
        text: Anything; its `str` is shown.
        limit: Number of characters after which it is cut.
    """
    shown = printable(text, limit).replace("|", "¦").replace("`", "'").strip()
    return f"`{shown}`" if shown else ""


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
