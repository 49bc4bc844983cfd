"""Scores of tables: Arrow rows in; score, decision, reasons and findings of each row out.

What belongs here: bringing rows of a table to the contract's features, scoring and judging them, and the function that
Spark's executors run. What does not: rows of requests (`features`), reading and writing tables (`cli`, `lakehouse`).

A row that breaks the contract gets no score; its findings say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_assets.data.contract.conform import conform_column
from mlops_assets.errors import SchemaMismatchError
from mlops_assets.serving.bundle import Bundle, ServedVersion, unpack

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract

SCORE, DECISION, REASONS, FINDINGS = "score", "decision", "reasons", "findings"


@dataclass(frozen=True)
class ScoredRows:
    """What a version says of rows.

    Attributes:
        scores: float64 [rows], each a float32 exactly; null for a row that breaks the contract.
        decisions: `approve`, `review` or `decline` [rows]; null without a score.
        reasons: Names of the features that drove the score, the strongest first [rows]; empty without a score.
        findings: What is wrong, as `<reason>:<column>` [rows]; empty for a good row.
    """

    scores: pa.Array
    decisions: pa.Array
    reasons: pa.Array
    findings: pa.Array


def require_features(columns: Iterable[str], contract: Contract, *, where: str) -> None:
    """Check that a table has the contract's features.

    Raises:
        SchemaMismatchError: It lacks some.
    """
    there = set(columns)
    absent = [name for name in contract.features if name not in there]
    if absent:
        raise SchemaMismatchError(
            f"columns are missing: {', '.join(absent)}", where=where, fix="add the contract's features"
        )


def score_rows(rows: pa.Table, contract: Contract, version: ServedVersion, *, reasons: int = 0) -> ScoredRows:
    """Score the rows of a table that has the contract's features.

    Args:
        rows: The features, and any other columns.
        contract: What a row must be.
        version: The model.
        reasons: How many features to name for each row; exact contributions (TreeSHAP) cost many times a score.
    """
    X = np.full((rows.num_rows, len(contract.features)), np.nan, dtype=np.float32)
    findings: list[list[str]] = [[] for _ in range(rows.num_rows)]
    for at, name in enumerate(contract.features):
        values, masks = conform_column(rows.column(name), contract.column(name), feature=True)
        for reason, mask in masks.items():
            for row in np.flatnonzero(mask.to_numpy()):
                findings[row].append(f"{reason}:{name}")
        X[:, at] = _as_numbers(values, at, version)
    scores = version.scorer.score(X).astype(np.float64)
    good = np.array([not found for found in findings], dtype=bool)
    decisions = [version.policy.decide(score) if fine else None for score, fine in zip(scores, good, strict=True)]
    named: list[list[str]] = [[] for _ in range(rows.num_rows)]
    if reasons and good.any():
        strongest = version.scorer.strongest(X[good], reasons)
        for row, found in zip(np.flatnonzero(good), strongest, strict=True):
            named[row] = [version.scorer.features[at] for at, _ in found]
    texts = pa.list_(pa.string())
    return ScoredRows(
        pa.array(scores, mask=~good),
        pa.array(decisions, pa.string()),
        pa.array(named, texts),
        pa.array(findings, texts),
    )


@dataclass(frozen=True)
class BatchScorer:
    """Scores Arrow batches, where Spark's `mapInArrow` calls it.

    Attributes:
        bundle: The version.
        contract: What a row must be.
        kept: Columns that are handed on; the scored rows have them first, then `score`, `decision`, `reasons` and
            `findings`.
        reasons: As in `score_rows`.
    """

    bundle: Bundle
    contract: Contract
    kept: Sequence[str]
    reasons: int = 0

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the scored rows of each batch.

        Raises:
            TrackingError: The version does not score here as it was trained.
        """
        version = unpack(
            self.bundle,
            self.contract.features,
            where="an executor of Spark",
            fix="give the workers the driver's version of XGBoost",
        )
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            scored = score_rows(rows, self.contract, version, reasons=self.reasons)
            columns = {
                SCORE: scored.scores,
                DECISION: scored.decisions,
                REASONS: scored.reasons,
                FINDINGS: scored.findings,
            }
            yield pa.RecordBatch.from_arrays(
                [*(batch.column(name) for name in self.kept), *columns.values()], [*self.kept, *columns]
            )


def _as_numbers(values: pa.ChunkedArray, at: int, version: ServedVersion) -> Any:
    if at in version.codes:
        known = version.codes[at]
        return [np.nan if value is None else known.get(value, np.nan) for value in values.to_pylist()]
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
