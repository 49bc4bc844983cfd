"""The launchpad's form for `tuned_model`: every option of a search and of its evaluation, with its default.

What belongs here: Dagster config classes and their translation into the training room's plans. What does not: what the
options do (`training/`).
"""

from enum import Enum
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.space import Range, SearchSpace

if TYPE_CHECKING:
    from mlops_assets.training.final_model import EvaluationPlan

_DEFAULTS = SearchPlan()
_SEED_SPACE = _DEFAULTS.space


class Objective(Enum):
    """What the search optimizes on the validation rows."""

    average_precision = "average_precision"
    kappa = "kappa"
    f1 = "f1"
    log_loss = "log_loss"


class ThresholdRule(Enum):
    """How the alert threshold is chosen on the validation rows."""

    cost = "cost"
    alert_budget = "alert_budget"


class Engine(Enum):
    """Where trials are trained."""

    auto = "auto"
    memory = "memory"
    distributed = "distributed"


class WholeRange(dg.Config):
    """Bounds of a whole number, both included; equal bounds fix it."""

    low: int
    high: int

    def to_range(self) -> Range:
        """Return the bounds as the search space has them."""
        return Range(self.low, self.high)


class RealRange(dg.Config):
    """Bounds of a real number; equal bounds fix it."""

    low: float
    high: float

    def to_range(self) -> Range:
        """Return the bounds as the search space has them."""
        return Range(self.low, self.high)


def _whole(bounds: Range) -> WholeRange:
    return WholeRange(low=int(bounds.low), high=int(bounds.high))


def _real(bounds: Range) -> RealRange:
    return RealRange(low=bounds.low, high=bounds.high)


class SpaceConfig(dg.Config):
    """The search space; the defaults are the seed project's."""

    max_depth: WholeRange = _whole(_SEED_SPACE.max_depth)
    n_estimators: WholeRange = _whole(_SEED_SPACE.n_estimators)
    learning_rate: RealRange = _real(_SEED_SPACE.learning_rate)
    reg_alpha: RealRange = _real(_SEED_SPACE.reg_alpha)
    base_score: RealRange = _real(_SEED_SPACE.base_score)

    def to_space(self) -> SearchSpace:
        """Return the space, or raise SearchError for bounds that make no sense."""
        return SearchSpace(
            max_depth=self.max_depth.to_range(),
            n_estimators=self.n_estimators.to_range(),
            learning_rate=self.learning_rate.to_range(),
            reg_alpha=self.reg_alpha.to_range(),
            base_score=self.base_score.to_range(),
        )


class TunedModelConfig(dg.Config):
    """How to search and how to evaluate."""

    space: SpaceConfig = SpaceConfig()
    objective: Objective = Field(default=Objective.average_precision, description="Optimized on validation rows.")
    engine: Engine = Field(
        default=Engine.auto,
        description=(
            "memory: trials side by side, each in a worker that holds all rows; distributed: one trial after another, "
            "each over the whole cluster; auto: memory if the rows fit."
        ),
    )
    trials: int = Field(default=20, ge=1, description="Number of trials.")
    parallelism: int = Field(
        default=0, ge=0, description="Trials in flight; 0: Spark's slots, at most a quarter of the trials."
    )
    threads: int = Field(
        default=_DEFAULTS.threads,
        ge=0,
        description="Threads of one fit; 0: the CPUs of a Spark task (spark.task.cpus).",
    )
    max_seconds: float = Field(
        default=_DEFAULTS.max_seconds,
        ge=0,
        description="Time budget of this run's search in seconds, beside the number of trials; 0: none.",
    )
    early_stopping_rounds: int = Field(
        default=_DEFAULTS.early_stopping_rounds,
        ge=0,
        description="A trial ends when so many trees brought nothing better on the validation rows; 0: never.",
    )
    pruning: bool = Field(
        default=_DEFAULTS.pruning,
        description="End a trial that is worse than half of the finished ones were after as many trees.",
    )
    checkpoint_rounds: int = Field(
        default=_DEFAULTS.checkpoint_rounds,
        ge=1,
        description="Trees between two looks at the validation rows, for early stopping and pruning.",
    )
    seed: int = Field(default=42, description="Seed of proposals, training and bootstrap.")
    threshold_rule: ThresholdRule = Field(default=ThresholdRule.cost, description="How alerts are decided.")
    alert_cost: float = Field(default=10.0, ge=0, description="Cost of looking at one alert, in the amounts' unit.")
    alerts_per_day: int = Field(default=100, ge=1, description="Alerts that can be looked at per day.")
    replicates: int = Field(default=500, ge=50, description="Bootstrap replicates behind each interval.")

    def search_plan(self) -> SearchPlan:
        """Return what to search."""
        return SearchPlan(
            space=self.space.to_space(),
            objective=self.objective.value,
            trials=self.trials,
            parallelism=self.parallelism,
            threads=self.threads,
            seed=self.seed,
            early_stopping_rounds=self.early_stopping_rounds,
            pruning=self.pruning,
            max_seconds=self.max_seconds,
            checkpoint_rounds=self.checkpoint_rounds,
        )

    def evaluation_plan(self) -> "EvaluationPlan":
        """Return how to evaluate."""
        from mlops_assets.training.final_model import EvaluationPlan

        return EvaluationPlan(
            threshold_rule=self.threshold_rule.value,
            alert_cost=self.alert_cost,
            alerts_per_day=self.alerts_per_day,
            replicates=self.replicates,
            seed=self.seed,
        )
