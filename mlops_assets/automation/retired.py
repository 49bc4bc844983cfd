"""Nothing of a retired model starts by itself.

What belongs here: the question as sensors, schedules and conditions ask it, right before they would start a run. What
does not: the mark (`registry/retirement`), and how it is reached (`fraud_model/retired`).
"""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

# Returns why nothing of the model may start; empty if it may.
Retired = Callable[[], str]


def active() -> str:
    """Answer for a model that is not retired."""
    return ""


class IsActive(dg.AutomationCondition[dg.AssetKey]):
    """The model is not retired; asked only when everything else holds, because it is a call of the registry."""

    def __init__(self, retired: Retired) -> None:
        self._retired = retired

    @property
    def description(self) -> str:
        """The text in the UI."""
        return "the model is not retired"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Ask the registry."""
        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, true_subset=context.get_empty_subset())
        reason = self._retired()
        if reason:
            context.log.info(reason)
        subset = context.get_empty_subset() if reason else context.candidate_subset
        return dg.AutomationResult(context, true_subset=subset)
