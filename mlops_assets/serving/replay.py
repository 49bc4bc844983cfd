"""Scores of the log, computed again: does the version that is named give the same bits for the logged features?

What belongs here: choosing rows, scoring them, comparing. What does not: where versions come from (`following`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from mlops_assets.errors import TrackingError
from mlops_assets.serving.features import FeatureReader

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.bundle import ServedVersion

_COLUMNS = ("request_id", "row", "at", "contract", "features", "score", "version")
_MOST_NAMED = 5


@dataclass(frozen=True)
class Replayed:
    """What the comparison found.

    Attributes:
        rows: Rows that were scored again.
        versions: Their versions, rising.
        differing: Request ids of rows with other bits, a few of them.
        other_scores: How many rows that is.
        broken: Versions that can't be loaded any more, with the reason.
        skipped: Rows of the sample that can't be scored again: another version of the contract, or no version noted.
    """

    rows: int
    versions: tuple[int, ...]
    differing: tuple[str, ...]
    other_scores: int
    broken: dict[int, str]
    skipped: int

    @property
    def passed(self) -> bool:
        """Whether every row has its bits again, and every version can be loaded."""
        return not self.other_scores and not self.broken


def replay(table: DeltaTable, contract: Contract, version_of: Callable[[int], ServedVersion], sample: int) -> Replayed:
    """Score a sample of the log's rows again.

    The sample is drawn with a seed that follows from the version of the table.

    Args:
        table: The log.
        contract: The model's contract; rows of another version of it are skipped.
        version_of: Returns a version that is fit to be served.
        sample: Number of rows.

    Raises:
        TrackingError: The registry can't be reached.
    """
    rows = _sample(table, sample)
    usable = pc.and_(pc.equal(rows.column("contract"), contract.versioned_name), pc.greater(rows.column("version"), 0))
    by_version: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.filter(usable).to_pylist():
        by_version[row["version"]].append(row)
    broken: dict[int, str] = {}
    differing: list[str] = []
    compared = 0
    for number, found in sorted(by_version.items()):
        try:
            version = version_of(number)
        except TrackingError as error:
            if error.transient:
                raise
            broken[number] = error.what
            continue
        differing += _differing(found, contract, version)
        compared += len(found)
    skipped = rows.num_rows - sum(map(len, by_version.values()))
    return Replayed(
        compared, tuple(sorted(by_version)), tuple(differing[:_MOST_NAMED]), len(differing), broken, skipped
    )


def _sample(table: DeltaTable, count: int) -> pa.Table:
    rows = table.to_pyarrow_table(columns=list(_COLUMNS))
    rows = rows.filter(pc.and_(pc.is_valid(rows.column("score")), pc.is_valid(rows.column("features"))))
    if rows.num_rows <= count:
        return rows
    chosen = np.random.default_rng(table.version()).choice(rows.num_rows, count, replace=False)
    return rows.take(pa.array(np.sort(chosen)))


def _differing(rows: list[dict[str, Any]], contract: Contract, version: ServedVersion) -> list[str]:
    reader = FeatureReader(contract)
    features = [msgspec.json.decode(row["features"]) for row in rows]
    columns = {name: [values.get(name) for values in features] for name in contract.features}
    checked = reader.check(columns, len(rows), version.levels)
    scores = version.scorer.score(checked.X).astype(np.float32)
    logged = np.array([row["score"] for row in rows], dtype=np.float32)
    wrong = scores.view(np.uint32) != logged.view(np.uint32)
    wrong |= np.isin(np.arange(len(rows)), list(checked.bad))
    return [row["request_id"] for row, differs in zip(rows, wrong, strict=True) if differs]
