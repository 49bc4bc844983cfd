"""Screening: most points are tried on a sample of the genuine rows, and only the best of them on everything.

What belongs here: which trial comes next, on which rows, and what TPE is told of it. What does not: the sample
(`sample`), dispatching (`spark_trials`), a search without screening, which uses nothing of this.

These are two rungs of successive halving (Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and
hyperparameter optimization"; Li et al. 2018, "Hyperband", section 3) without the barrier between them (Li et al. 2020,
"A system for massively parallel hyperparameter tuning"): whenever three more points have been screened, and once all
have, the best one that waits is tried on everything. So the best of all is among those. Li et al. try whatever is among
the best third so far; where each point is better than the last, as TPE's should be, that is every point.

A value on a sample and one on all rows are never compared. TPE ranks the points that were tried on everything by their
values there, and those that were only screened below all of these, in their own order: the few points that it takes for
good ones are judged on all rows as soon as there are any, and screening says where not to look again. Falkner et al.
2018 ("BOHB", section 4) take the largest budget alone once it has enough observations; here the screened points stay
among the bad ones, because they are three times as many. A survivor's own screening is left out: the same point would
count as good and as bad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hyperopt import STATUS_OK, trials_from_docs
from hyperopt.base import JOB_STATE_DONE

from mlops_assets.training.plan import POINTS_PER_SURVIVOR
from mlops_assets.training.search.proposals import (
    Algorithm,
    Document,
    given,
    proposing,
    raw_values,
    share_of,
    with_share,
)

if TYPE_CHECKING:
    from mlops_assets.training.plan import SearchPlan


def screening(plan: SearchPlan, random_trials: int) -> Algorithm:
    """Return the algorithm of a search that screens: a survivor that is due, or else the next point.

    The space's starts are tried on everything, so the best trial is at least as good as they are. When nothing can be
    tried before a running trial has ended, the algorithm returns no document.

    Args:
        plan: What is searched.
        random_trials: Points that are drawn at random before TPE has enough to learn from.
    """
    space = plan.space
    starts, propose = len(space.starts), proposing(space, random_trials)

    def next_trial(new_ids: list[int], domain: Any, trials: Any, seed: int) -> list[Document]:
        known: list[Document] = trials.trials
        survivor = due(known, starts, plan.screened_points)
        if survivor is not None:
            return given(new_ids[0], raw_values(survivor), domain, trials)
        points = [document for document in known if share_of(document) < 1 or document["tid"] < starts]
        if len(points) >= plan.trials:
            return []
        proposed = propose(new_ids, domain, trials_from_docs(told(known), validate=False), seed)
        return proposed if new_ids[0] < starts else [with_share(document, plan.screening) for document in proposed]

    return next_trial


def due(documents: Sequence[Document], starts: int, points: int) -> Document | None:
    """Return the screened trial whose point is to be tried on everything now, or None.

    Args:
        documents: All trials so far, also those in flight.
        starts: So many trials, the first ones, were on everything from the beginning.
        points: Points that are screened in all.
    """
    ended = [document for document in documents if share_of(document) < 1 and document["state"] == JOB_STATE_DONE]
    on_everything = [document for document in documents if share_of(document) == 1]
    survivors = [document for document in on_everything if document["tid"] >= starts]
    thirds = len(ended) / POINTS_PER_SURVIVOR
    if len(survivors) >= (math.ceil(thirds) if len(ended) == points else math.floor(thirds)):
        return None
    tried = [raw_values(document) for document in on_everything]
    waiting = [document for document in ended if _has_all_its_trees(document) and raw_values(document) not in tried]
    return min(waiting, key=lambda document: (document["result"]["loss"], document["tid"]), default=None)


def told(documents: Sequence[Document]) -> list[Document]:
    """Return the trials as TPE is told of them: points that were only screened come after all others.

    Args:
        documents: All trials so far, also those in flight, whose results are unknown to TPE.
    """
    on_everything = [document for document in documents if share_of(document) == 1]
    tried = [raw_values(document) for document in on_everything]
    screened = [document for document in documents if share_of(document) < 1 and raw_values(document) not in tried]
    worst = max((document["result"]["loss"] for document in on_everything if _has_loss(document)), default=0.0)
    ranked = sorted(filter(_has_loss, screened), key=lambda document: (document["result"]["loss"], document["tid"]))
    lower = [
        {**document, "result": {**document["result"], "loss": worst + place}}
        for place, document in enumerate(ranked, 1)
    ]
    return [*on_everything, *lower, *(document for document in screened if not _has_loss(document))]


def _has_loss(document: Document) -> bool:
    return document["state"] == JOB_STATE_DONE and document["result"]["status"] == STATUS_OK


def _has_all_its_trees(document: Document) -> bool:
    return _has_loss(document) and not document["result"]["pruned"]
