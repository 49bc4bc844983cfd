"""Whether two models give the same reasons for their scores.

What belongs here: the share of top reasons that two models have in common. What does not: the contributions themselves
(`explanations`), which rows are asked about (`registry/comparison`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlops_assets.errors import EvaluationError

if TYPE_CHECKING:
    from mlops_assets.evaluation.explanations import Contributions

TOP: Final = 3


def median_overlap(first: Contributions, second: Contributions) -> float:
    """Return the median over rows of the share of top reasons that two models have in common, from 0 to 1.

    Reasons are the `TOP` features that moved a row's score most, towards fraud or away from it, by exact TreeSHAP.

    Args:
        first: One model's contributions to the scores of some rows.
        second: The other's, to the same rows.

    Raises:
        EvaluationError: They are not of the same rows.
    """
    if len(first.values) != len(second.values) or not len(first.values):
        raise EvaluationError(
            f"contributions to {len(first.values)} and {len(second.values)} rows",
            where="overlap of reasons",
            fix="ask both models about the same rows",
        )
    pairs = zip(_top(first), _top(second), strict=True)
    return float(np.median([len(mine & theirs) / max(1, len(mine), len(theirs)) for mine, theirs in pairs]))


def _top(shap: Contributions) -> list[set[str]]:
    order = np.argsort(-np.abs(shap.values), axis=1, kind="stable")[:, :TOP]
    return [
        {shap.features[at] for at in places if values[at] != 0}
        for places, values in zip(order.tolist(), shap.values, strict=True)
    ]
