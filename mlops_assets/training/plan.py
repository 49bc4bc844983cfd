"""What a search is asked to do, as plain values: no library of training or Spark is needed to write it down.

What belongs here: options of a search and their defaults. What does not: carrying them out (`search`, `trial`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mlops_assets.training.space import SearchSpace

Objective = Literal["average_precision", "kappa", "f1", "log_loss"]


@dataclass(frozen=True)
class SearchPlan:
    """How to search.

    Attributes:
        space: Bounds of the hyperparameters.
        objective: What is optimized on the validation rows.
        trials: Number of trials.
        parallelism: Trials in flight; 0 takes the cluster's slots, at most a quarter of the trials.
        threads: Threads of one fit; the CPUs of a Spark task.
        seed: Seed of the proposals and of XGBoost.
    """

    space: SearchSpace = field(default_factory=SearchSpace)
    objective: Objective = "average_precision"
    trials: int = 20
    parallelism: int = 0
    threads: int = 1
    seed: int = 42
