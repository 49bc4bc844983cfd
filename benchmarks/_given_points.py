"""A hyperopt algorithm that proposes points given in advance.

What belongs here: that algorithm. What does not: running a search. Stock SparkTrials has no `points_to_evaluate`, but
any `suggest` function can replace TPE, on either side of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_assets.training.search.proposals import Algorithm, given


def suggest_given(proposals: Sequence[Mapping[str, float]]) -> Algorithm:
    """Return a `suggest` that proposes these raw values (an index where the space has a choice), in their order.

    Args:
        proposals: One mapping of hyperopt labels to values per trial; as many as the search has trials.
    """

    def suggest(new_ids: list[int], domain: Any, trials: Any, _: int) -> list[dict[str, Any]]:
        return [document for number in new_ids for document in given(number, proposals[number], domain, trials)]

    return suggest
