"""The plan of a search, as plain values: it needs neither Spark nor a training library.

What belongs here: options of a search, their defaults, and the key that identifies a search. What does not: running it
(`search`, `trial`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlops_assets.errors import SearchError
from mlops_assets.training.space import SearchSpace, search_space

Objective = Literal["average_precision", "kappa", "f1", "log_loss"]

# Increase this by hand whenever the code proposes other points, or gives a point another value: unfinished searches of
# the older code are then not resumed.
_RULES = 1


@dataclass(frozen=True)
class SearchPlan:
    """How to search.

    With `early_stopping_rounds` 0 and `pruning` off, every trial fits all its trees and is evaluated once, with the
    whole model: that is exactly the seed project's budget.

    Attributes:
        space: What is searched.
        objective: What is optimized on the validation rows.
        trials: Trial budget; trials resumed from an earlier, unfinished search count.
        parallelism: Trials in flight; 0 uses the cluster's slots, at most a quarter of the trials.
        threads: Threads of one fit; 0 uses the CPUs of a Spark task (`spark.task.cpus`).
        seed: Seed of the proposals and of XGBoost.
        early_stopping_rounds: A trial ends when this many trees brought no improvement, and keeps the model of its best
            checkpoint; 0 switches early stopping off.
        pruning: Whether to stop a trial that is worse than half of the finished trials were after as many trees.
        max_seconds: Time budget of this run of the search, seconds; 0 for no limit.
        checkpoint_rounds: Trees between two evaluations on the validation rows, for early stopping and pruning.
        folds: Most forward folds of a trial, the validation set included (`folds`); its value is their mean.

    Raises:
        SearchError: A number is out of its range.
    """

    space: SearchSpace = field(default_factory=lambda: search_space("wide"))
    objective: Objective = "average_precision"
    trials: int = 20
    parallelism: int = 0
    threads: int = 0
    seed: int = 42
    early_stopping_rounds: int = 20
    pruning: bool = True
    max_seconds: float = 0
    checkpoint_rounds: int = 5
    folds: int = 1

    def __post_init__(self) -> None:
        lowest = {"trials": 1, "parallelism": 0, "threads": 0, "early_stopping_rounds": 0, "max_seconds": 0}
        for name, low in {**lowest, "checkpoint_rounds": 1, "folds": 1}.items():
            given = getattr(self, name)
            if not low <= given < math.inf:  # this also rejects NaN
                raise SearchError(f"{name} is {given}", where="search plan", fix=f"choose {low} or more")

    @property
    def watched(self) -> bool:
        """Whether trials are evaluated while they grow, and not only at the end."""
        return self.pruning or self.early_stopping_rounds > 0


def search_key(plan: SearchPlan, data: Mapping[str, str]) -> str:
    """Return the key of a search: equal for two searches whose trials are interchangeable.

    The key covers everything that affects proposals and values: the space, the objective, the number of trials (it sets
    how many points TPE draws at random first), seed, threads, early stopping, pruning, checkpoints, folds and `data`.
    Parallelism and the time budget are left out: they set how fast and how far a search goes, and a resumed search may
    change them.

    Args:
        plan: What is searched.
        data: Inputs of the search: location and version of each table, versions of xgboost and hyperopt.

    Returns:
        16 hexadecimal digits.
    """
    meaning = {
        "rules": _RULES,
        "space": {
            name: [float(low), float(high), *scale] for name, (low, high, *scale) in plan.space.as_dict().items()
        },
        "objective": plan.objective,
        "trials": plan.trials,
        "threads": plan.threads,
        "seed": plan.seed,
        "early_stopping_rounds": plan.early_stopping_rounds,
        "pruning": plan.pruning,
        "checkpoint_rounds": plan.checkpoint_rounds,
        # Absent with one fold: searches of before there were folds are continued.
        **({"folds": plan.folds} if plan.folds > 1 else {}),
        "data": dict(data),
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]
