"""One model from several: a booster whose margin is the mean of its members' margins.

What belongs here: merging boosters. What does not: fitting the members (`objective`, `engines`).

The members (`members`) are fits on the same rows that differ in their point, or in XGBoost's seed and so in the rows
and columns that their trees draw. Their mean varies less than any of them (Breiman 1996, "Bagging predictors"). Margins
are averaged, in log-odds: the mean is then a sum of trees again, so the model is one booster in XGBoost's own format,
with what goes with it: SHAP values, the same bits wherever it is loaded, no code of ours to serve it.

In XGBoost's terms it is a boosted forest: each round has a tree of every member that has that many rounds, with leaves
divided by the number of members, and the bias is that of the members. So its number of rounds is that of its longest
member, and a slice of its first rounds is the mean of the members' first rounds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xgboost as xgb

from mlops_assets.errors import SearchError


def averaged(members: Sequence[xgb.Booster]) -> xgb.Booster:
    """Return the model whose margin is the mean of the members' margins, to the rounding of float32.

    Args:
        members: Fits on the same rows; one alone is returned as it is.

    Raises:
        SearchError: They differ in their bias, their objective or their features.
    """
    if len(members) == 1:
        return members[0]
    documents = [json.loads(bytes(member.save_raw("json"))) for member in members]
    if len({json.dumps(_frame(document)) for document in documents}) > 1:
        raise SearchError(
            "models that differ in their bias, objective or features have no common mean",
            where="bagging",
            fix="fit all of them on the same rows, with the same base_score and objective",
        )
    models = [_model(document) for document in documents]
    # Round by round, the trees of every member that goes on.
    rounds = [list(pairwise(model["iteration_indptr"])) for model in models]
    drawn, begins = [], [0]
    for number in range(max(map(len, rounds))):
        for model, own in zip(models, rounds, strict=True):
            if number < len(own):
                drawn += [(model["trees"][at], model["tree_info"][at]) for at in range(*own[number])]
        begins.append(len(drawn))
    merged = _model(documents[0])
    merged["trees"] = [_divided(tree, len(members)) | {"id": number} for number, (tree, _) in enumerate(drawn)]
    merged["tree_info"] = [group for _, group in drawn]
    merged["iteration_indptr"] = begins
    parameters = merged["gbtree_model_param"]
    parameters["num_trees"] = str(len(drawn))
    # Where rounds differ in their trees, `iteration_indptr` alone says how many each has.
    even = len({last - first for first, last in pairwise(begins)}) == 1
    parameters["num_parallel_tree"] = str(begins[1] if even else 1)
    return xgb.Booster(model_file=bytearray(json.dumps(documents[0]).encode()))


def _model(document: Any) -> Any:
    return document["learner"]["gradient_booster"]["model"]


def _frame(document: Any) -> list[Any]:
    """Return what members must share."""
    learner = document["learner"]
    names = ("learner_model_param", "objective", "feature_names", "feature_types")
    return [learner[name] for name in names]


def _divided(tree: dict[str, Any], members: int) -> dict[str, Any]:
    """Return a tree whose leaves, and the weights of all its nodes, are divided."""

    def share(value: float) -> float:
        return float(np.float32(value) / np.float32(members))

    conditions = [
        share(value) if child == -1 else value
        for value, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
    ]
    return tree | {"split_conditions": conditions, "base_weights": [share(value) for value in tree["base_weights"]]}
