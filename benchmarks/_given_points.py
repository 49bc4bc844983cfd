"""A hyperopt algorithm that proposes points given in advance.

What belongs here: that algorithm. What does not: running a search. Stock SparkTrials has no `points_to_evaluate`, but
any `suggest` function can replace TPE, on either side of a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Algorithm = Callable[[list[int], Any, Any, int], list[dict[str, Any]]]


def suggest_given(proposals: Sequence[Mapping[str, float]]) -> Algorithm:
    """Return a `suggest` that proposes these raw values (an index where the space has a choice), in their order.

    Args:
        proposals: One mapping of hyperopt labels to values per trial; as many as the search has trials.
    """

    def suggest(new_ids: list[int], domain: Any, trials: Any, _: int) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        for number in new_ids:
            values = proposals[number]
            misc = {
                "tid": number,
                "cmd": domain.cmd,
                "workdir": domain.workdir,
                "idxs": {label: [number] for label in values},
                "vals": {label: [value] for label, value in values.items()},
            }
            documents += trials.new_trial_docs([number], [None], [domain.new_result()], [misc])
        return documents

    return suggest
