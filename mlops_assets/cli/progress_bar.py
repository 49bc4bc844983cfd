"""A progress bar of the search, for terminals.

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
# Some terminals (in containers, in editors) report no size, and tqdm would draw nothing.
_COLUMNS, _LINES = 120, 24


class SearchBar(logging.Handler):
    """Shows each snapshot that `progress` logs; each search gets a bar of its own.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.DEBUG)
        self._stream = stream
        self._bar: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Draw one snapshot."""
        snapshot: Snapshot | None = getattr(record, "snapshot", None)
        if snapshot is None:
            return
        if self._bar is None or snapshot.done <= self._bar.n:  # the first snapshot of a search
            self.finish()
            columns, lines = os.get_terminal_size(self._stream.fileno())
            self._bar = tqdm(
                total=snapshot.total,
                initial=snapshot.resumed,
                file=self._stream,
                ncols=columns or _COLUMNS,
                nrows=lines or _LINES,
                unit="trial",
            )
        best = "none" if snapshot.best is None else f"{snapshot.best.value:.4f}"
        states = {"best": best, "running": snapshot.running, "pruned": snapshot.pruned, "failed": snapshot.failed}
        self._bar.set_postfix(states, refresh=False)
        self._bar.update(snapshot.done - self._bar.n)
        self._bar.refresh()

    def write(self, text: str) -> None:
        """Print a log line above the bar; skip lines that repeat what the bar shows."""
        if self._bar is None or not _PROGRESS_LINE.match(text.strip()):
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def finish(self) -> None:
        """Close the bar and leave it on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def search_bar(stream: TextIO) -> Iterator[SearchBar | None]:
    """Show a bar on a stream for the length of a block if the stream is a terminal; yield None otherwise."""
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
