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
from mlops_assets.training.members import Bag
from mlops_assets.training.parameters import RECENCY
from mlops_assets.training.space import Point, SearchSpace, search_space

Objective = Literal["average_precision", "kappa", "f1", "log_loss"]

# Increase this by hand whenever the code proposes other points, or gives a point another value: unfinished searches of
# the older code are then not resumed.
SEARCH_RULES = 1
# A third of the screened points goes on: the fraction of successive halving and Hyperband.
POINTS_PER_SURVIVOR = 3
# Shares of rows and columns that XGBoost draws by its seed.
_DRAWN = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")


@dataclass(frozen=True)
class SearchPlan:
    """How to search.

    With `early_stopping_rounds` 0 and `pruning` off, every trial fits all its trees and is evaluated once, with the
    whole model: that is exactly the seed project's budget.

    Attributes:
        space: What is searched.
        objective: What is optimized on the validation rows.
        trials: Points to try; those of trials resumed from an earlier, unfinished search count.
        parallelism: Trials in flight; 0 uses the cluster's slots, at most a quarter of the trials.
        threads: Threads of one fit; 0 uses the CPUs of a Spark task (`spark.task.cpus`).
        seed: Seed of the proposals and of XGBoost.
        early_stopping_rounds: A trial ends when this many trees brought no improvement, and keeps the model of its best
            checkpoint; 0 switches early stopping off.
        pruning: Whether to stop a trial that is worse than half of the finished trials were after as many trees.
        max_seconds: Time budget of this run of the search, seconds; 0 for no limit.
        checkpoint_rounds: Trees between two evaluations on the validation rows, for early stopping and pruning.
        folds: Most forward folds of a trial, the validation set included (`folds`); its value is their mean.
        screening: Share of the genuine training rows that a point is tried on first; the best third is then tried on
            all rows (`search/screening`). 1 tries every point on all rows.
        use_idle_slots: Whether slots that are free while the last trials run try further points, each for a third of
            the mean time of a trial. Those that end before the last trial count, in addition to `trials`; the others
            are cancelled. With one trial in flight no slot is ever free.
        bagging: Fits that the final model is the mean of (`members`, `bagging`): of the best point and, where the space
            has one, of its anchor; one where nothing in the space is drawn by a seed, so that all would be the same.

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
    screening: float = 1
    use_idle_slots: bool = False
    bagging: int = 3

    def __post_init__(self) -> None:
        lowest = {"trials": 1, "parallelism": 0, "threads": 0, "early_stopping_rounds": 0, "max_seconds": 0}
        for name, low in {**lowest, "checkpoint_rounds": 1, "folds": 1, "bagging": 1}.items():
            given = getattr(self, name)
            if not low <= given < math.inf:  # this also rejects NaN
                raise SearchError(f"{name} is {given}", where="search plan", fix=f"choose {low} or more")

        if not 0 < self.screening <= 1:
            raise SearchError(
                f"screening is {self.screening}", where="search plan", fix="choose a share above 0, or 1 for none"
            )
        if self.screening < 1 and self.use_idle_slots:
            raise SearchError(
                "free slots can't try further points, because points are screened first",
                where="search plan",
                fix="set screening: 1, or use_idle_slots: false",
            )

    def bag(self, best: Point) -> Bag:
        """Return the fits of the final model; the first has the seed of the trials.

        Args:
            best: Best point of the search.
        """
        drawn = any(name in self.space.ranges and self.space.ranges[name].low < 1 for name in _DRAWN)
        return Bag(best, self.space.anchor, self.bagging if drawn else 1, self.seed)

    @property
    def screened_points(self) -> int:
        """Points that are tried on a sample first: all but the space's starts."""
        if self.screening == 1 or self.space.is_one_point:
            return 0
        return max(0, self.trials - len(self.space.starts))

    @property
    def most_trials(self) -> int:
        """Most trials of the search: one for each point, and one more for each point that survives its screening."""
        return 1 if self.space.is_one_point else self.trials + math.ceil(self.screened_points / POINTS_PER_SURVIVOR)

    @property
    def only_in_memory(self) -> list[str]:
        """What it uses that only the engine in memory can: weights of rows by their age, and screening."""
        weighed = [name for name in RECENCY if name in self.space.ranges]
        return [*weighed, *(["screening"] if self.screened_points else [])]

    @property
    def watched(self) -> bool:
        """Whether trials are evaluated while they grow, and not only at the end."""
        return self.pruning or self.early_stopping_rounds > 0


def search_key(plan: SearchPlan, data: Mapping[str, str]) -> str:
    """Return the key of a search: equal for two searches whose trials are interchangeable.

    The key covers everything that affects proposals and values: the space, the objective, the number of trials (it sets
    how many points TPE draws at random first), seed, threads, early stopping, pruning, checkpoints, folds, screening
    and `data`. Parallelism, idle slots and the time budget are left out: they set how fast and how far a search goes,
    and a resumed search may change them.

    Args:
        plan: What is searched.
        data: Inputs of the search: location and version of each table, versions of xgboost and hyperopt.

    Returns:
        16 hexadecimal digits.
    """
    meaning = {
        "rules": SEARCH_RULES,
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
        **({"starts": [dict(point) for point in plan.space.starts]} if plan.space.starts else {}),
        # Absent with one fold, and without screening: searches of before there were any are continued.
        **({"folds": plan.folds} if plan.folds > 1 else {}),
        **({"screening": plan.screening} if plan.screening < 1 else {}),
        "data": dict(data),
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]
