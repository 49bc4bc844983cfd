"""The shadow: another version scores the same events, off the request path.

What belongs here: its queue, its own deadline, its rows in the log. What does not: the answer, on which it has no
influence.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlops_assets.serving.answers import Refused
from mlops_assets.serving.log.record import LogRow, encode
from mlops_assets.serving.scoring import RowScorer

if TYPE_CHECKING:
    from mlops_assets.serving.bundle import ServedVersion
    from mlops_assets.serving.service import ModelService

_MOST: Final = 1_000
_LATE_SECONDS: Final = 1.0


class Shadow:
    """Scores what the champion has answered, in a thread of its own.

    A full queue drops what comes, and what has waited for longer than a second is dropped as late; both are counted.

    Args:
        service: The model.
        alias: The alias whose version scores.
    """

    def __init__(self, service: ModelService, alias: str) -> None:
        self._service, self._alias = service, alias
        self._queue: queue.Queue[tuple[LogRow, Sequence[Any], float] | None] = queue.Queue(_MOST)
        self._scorer: tuple[ServedVersion, RowScorer] | None = None
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def put(self, row: LogRow, values: Sequence[Any]) -> None:
        """Hand over an event that was answered; never waits."""
        try:
            self._queue.put_nowait((row, values, time.monotonic()))
        except queue.Full:
            self._service.metrics.shadowed(self._service.name, "dropped")

    def close(self) -> None:
        """Score what is left, and end."""
        self._queue.put(None)
        self._thread.join(timeout=2 * _LATE_SECONDS)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            row, values, since = item
            outcome = "late" if time.monotonic() - since > _LATE_SECONDS else self._score(row, values)
            self._service.metrics.shadowed(self._service.name, outcome)

    def _score(self, row: LogRow, values: Sequence[Any]) -> str:
        version = self._service.versions.aliases.get(self._alias)
        if version is None:
            return "absent"
        if self._scorer is None or self._scorer[0] is not version:
            self._scorer = (version, RowScorer(version.scorer.booster, configured=True))
        scorer = self._scorer[1]
        started = time.monotonic_ns()
        self._service.reader.fill(scorer.row, values, version.codes)
        score = scorer.score_row()
        shadow = msgspec.structs.replace(
            row,
            arm="shadow",
            score=score,
            threshold=version.policy.threshold,
            decision=version.policy.decide(score),
            policy=version.policy.version,
            version=version.number,
            alias=self._alias,
            reasons=[],
            latency_us=(time.monotonic_ns() - started) // 1_000,
        )
        try:
            self._service.write([encode(shadow)])
        except Refused:
            return "dropped"
        return "scored"
