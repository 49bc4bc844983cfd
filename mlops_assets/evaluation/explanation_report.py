"""The stored explanation of one model: files and pictures for its MLflow run, a table for the asset's page.

What belongs here: putting the parts of an explanation together and writing them as JSON and PNG; nothing is pickled.
What does not: SHAP values (`explanations`), drawing (`curves`), MLflow, Dagster.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.evaluation.explanations import (
    SAMPLE_ROWS,
    Explanation,
    Reason,
    RowReasons,
    explain_sample,
    reasons,
    stratified_sample,
)
from mlops_assets.evaluation.plots import explanations as explain_plots
from mlops_assets.foreign_text import in_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import xgboost as xgb

_HIGHEST_ROWS = 100
_TABLE_ROWS = 10


@dataclass(frozen=True)
class ExplanationReport:
    """The parts of an explanation that are stored.

    Attributes:
        explanation: The sample and its contributions.
        highest: Reasons of the rows with the highest scores, highest first; `row` is the position in the explained set.
        files: JSON by file name: `global_importance.json`, `highest_scores.json`.
        pictures: PNG by file name: `shap_importance.png`, `shap_summary.png`.
    """

    explanation: Explanation
    highest: tuple[RowReasons, ...]
    files: dict[str, bytes]
    pictures: dict[str, bytes]

    def table_markdown(self) -> str:
        """Return the features that matter most as a table."""
        shown = list(self.explanation.importance.items())[:_TABLE_ROWS]
        lines = ["| feature | mean size of its contribution (log-odds) |", "|:--|--:|"]
        lines += [f"| {in_cell(name)} | {value:.3g} |" for name, value in shown]
        sample = f"SHAP values of {len(self.explanation.rows):,} of {self.explanation.drawn_from:,} rows"
        return "\n".join([*lines, "", f"{sample}, {self.explanation.frauds:,} frauds among them."]) + "\n"


def report(
    booster: xgb.Booster,
    features: Sequence[str],
    y: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    rows_at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
    *,
    seed: int,
    levels: Mapping[str, Sequence[str]] | None = None,
) -> ExplanationReport:
    """Explain a model on rows that it has scored: on average over a sample, and row by row for the highest scores.

    Args:
        booster: The model.
        features: Its features, in its order.
        y: Labels of the rows, uint8 [rows].
        scores: Its scores of the rows, float32 [rows].
        rows_at: Returns feature values, float32 [asked, features], of the rows at positions [asked].
        seed: Seed of the sample.
        levels: What the codes of categories mean, by feature.

    Raises:
        EvaluationError: There are no rows, or they do not fit the model.
    """
    sample = stratified_sample(y, SAMPLE_ROWS, seed)
    explanation = explain_sample(booster, rows_at(sample), sample, y, features)
    highest = np.argsort(-scores, kind="stable")[:_HIGHEST_ROWS]
    highest_rows = tuple(
        RowReasons(int(highest[item.row]), item.score, item.margin, _named(item.reasons, levels or {}))
        for item in reasons(booster, rows_at(highest), features)
    )
    return ExplanationReport(
        explanation=explanation,
        highest=highest_rows,
        files={
            "global_importance.json": _json(explanation.to_json_dict()),
            "highest_scores.json": _json([asdict(item) for item in highest_rows]),
        },
        pictures={
            "shap_importance.png": explain_plots.importance(explanation),
            "shap_summary.png": explain_plots.summary(explanation),
        },
    )


def _named(reasons: Sequence[Reason], levels: Mapping[str, Sequence[str]]) -> tuple[Reason, ...]:
    """Return reasons with the levels of categories in place of their codes."""
    return tuple(
        replace(reason, value=levels[reason.feature][int(reason.value)])
        if reason.feature in levels and reason.value is not None
        else reason
        for reason in reasons
    )


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode()
