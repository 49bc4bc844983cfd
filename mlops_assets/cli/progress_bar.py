"""A progress bar of the search for a person at a terminal.

What belongs here: tqdm, fed with the snapshots of `progress`. What does not: counting, the run's log.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from mlops_assets.training.search import progress

if TYPE_CHECKING:
    from mlops_assets.training.search.progress import Snapshot

_PROGRESS_LINE = re.compile(r"trial \d+ of \d+ done ")
# Some terminals (of containers, of editors) say that they have no size; tqdm would draw nothing.
_COLUMNS, _LINES = 120, 24


class SearchBar(logging.Handler):
    """Shows each snapshot that `progress` logs; searches one after another get a bar each.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.DEBUG)
        self._stream = stream
        self._bar: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Draw one snapshot."""
        found: Snapshot | None = getattr(record, "snapshot", None)
        if found is None:
            return
        if self._bar is None or found.done <= self._bar.n:  # the first trial of this search, or of another one
            self.finish()
            columns, lines = os.get_terminal_size(self._stream.fileno())
            self._bar = tqdm(
                total=found.total,
                initial=found.resumed,
                file=self._stream,
                ncols=columns or _COLUMNS,
                nrows=lines or _LINES,
                unit="trial",
            )
        best = "none" if found.best is None else f"{found.best.value:.4f}"
        states = {"best": best, "running": found.running, "pruned": found.pruned, "failed": found.failed}
        self._bar.set_postfix(states, refresh=False)
        self._bar.update(found.done - self._bar.n)
        self._bar.refresh()

    def write(self, text: str) -> None:
        """Print a line of the log above the bar; nothing for one that says what the bar shows."""
        if self._bar is None or not _PROGRESS_LINE.match(text.strip()):
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def finish(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def search_bar(stream: TextIO) -> Iterator[SearchBar | None]:
    """Show a bar on a stream for the length of a block, if the stream is a terminal; None if it is not."""
    if not stream.isatty():
        yield None
        return
    bar, source = SearchBar(stream), progress.logger
    before = source.level, source.propagate
    source.addHandler(bar)
    source.setLevel(logging.DEBUG)
    source.propagate = False
    try:
        yield bar
    finally:
        source.setLevel(before[0])
        source.propagate = before[1]
        source.removeHandler(bar)
        bar.finish()
