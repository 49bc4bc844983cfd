"""The pictures of one model: files for its MLflow run, and thumbnails for a table.

What belongs here: which pictures a model has. What does not: drawing them (`evaluation/plots`, `search/plots`), where
they are stored (`tuning`) or shown (assets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.evaluation.plots import curves, thumbnails
from mlops_assets.training.objective import MAXIMIZED
from mlops_assets.training.search.plots import tuning_history

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_assets.evaluation.threshold import CostChoice, Threshold
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult
    from mlops_assets.training.scored_rows import ScoredRows


@dataclass(frozen=True)
class Pictures:
    """Pictures of a model.

    Attributes:
        files: PNG by file name.
        thumbnails: SVG by name; at most two.
    """

    files: dict[str, bytes]
    thumbnails: dict[str, str]


def pictures_of(
    test: ScoredRows,
    threshold: Threshold,
    choice: CostChoice | None,
    result: SearchResult,
    search: SearchPlan,
    gains: Mapping[str, float],
) -> Pictures:
    """Draw a model's pictures.

    Args:
        test: The test rows, scored.
        threshold: The alert threshold.
        choice: How it was chosen by cost; None for another rule.
        result: The finished search.
        search: What was searched.
        gains: Gain by feature.

    Raises:
        EvaluationError: A curve is not defined on these rows.
    """
    maximized = search.objective in MAXIMIZED
    files = {
        "precision_recall.png": curves.precision_recall(test.y, test.scores, threshold=threshold, dataset="test set"),
        "calibration.png": curves.calibration(test.y, test.scores, dataset="test set"),
        "score_histogram.png": curves.score_histogram(test.y, test.scores, threshold=threshold, dataset="test set"),
        "tuning_history.png": tuning_history(
            result.trials,
            objective=f"validation {search.objective}",
            goal="maximise" if maximized else "minimise",
        ),
        "feature_importance.png": curves.feature_importance(gains),
    }
    if choice is not None:
        files["cost_against_threshold.png"] = curves.cost_against_threshold(choice, dataset="validation set")
    values = np.array([trial.value for trial in result.trials if trial.state == "finished"], dtype=np.float64)
    best = (np.maximum if maximized else np.minimum).accumulate(values)
    caption = f"best {search.objective.replace('_', ' ')} by trial, {best[-1]:.3g}"
    return Pictures(
        files,
        {
            "precision_recall": thumbnails.precision_recall(test.y, test.scores),
            "tuning_history": thumbnails.line(np.arange(len(best), dtype=np.float64), best, caption),
        },
    )
