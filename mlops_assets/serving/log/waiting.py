"""Rows of the log of predictions that are about an entity and still wait in segments.

What belongs here: counting them. What does not: erasing them from the table (`lakehouse/erased_predictions`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from mlops_assets.serving.log.record import decode
from mlops_assets.serving.log.segments import WRITER_PREFIX, records


def rows_waiting(log: Path, hashes: Collection[str]) -> int:
    """Return how many rows about entities are in segments.

    Args:
        log: Folder of the segments.
        hashes: What stands for the entities.
    """
    waiting = 0
    for path in log.glob(f"{WRITER_PREFIX}*/*.seg"):
        for payload, _ in records(path):
            try:
                waiting += decode(payload).entity in hashes
            except msgspec.DecodeError:
                continue  # the carrier counts it as damaged
    return waiting
