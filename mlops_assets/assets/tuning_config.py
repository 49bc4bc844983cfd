"""The launchpad's form for `tuned_model`: every option of a search and of its evaluation, with its default.

What belongs here: Dagster config classes and their translation into the training room's plans. What does not: what the
options do (`training/`).
"""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.training.parameters import SEARCHABLE
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.space import PRESETS, read_ranges, search_space

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.final_model import EvaluationPlan

_DEFAULTS = SearchPlan()


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


class Preset(Enum):
    """Which ranges a search starts from."""

    seed = "seed"
    wide = "wide"


class RangeScale(Enum):
    """How values of a range are drawn."""

    uniform = "uniform"
    log_uniform = "log_uniform"
    whole = "whole"


class RangeConfig(dg.Config):
    """Bounds of a hyperparameter, both included; equal bounds fix it."""

    low: float
    high: float
    scale: RangeScale | None = Field(
        default=None,
        description="How values are drawn; the default is the preset's, and for a parameter outside the preset whole "
        "numbers or uniform.",
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the range in the form that the training room parses."""
        return {"low": self.low, "high": self.high, "scale": self.scale and self.scale.value}


def _described(preset: str) -> str:
    """Return the ranges of a preset in one line, as YAML."""
    ranges = [f"{name}: {{low: {r.low:g}, high: {r.high:g}, scale: {r.scale}}}" for name, r in PRESETS[preset].items()]
    return f"{preset} is {', '.join(ranges)}"


class SearchConfig(dg.Config):
    """How to search and how to evaluate."""

    space_preset: Preset = Field(
        default=Preset.wide,
        description=f"Ranges of the hyperparameters. {'. '.join(_described(preset.value) for preset in Preset)}.",
    )
    space: dict[str, RangeConfig] = Field(
        default={},
        description="Ranges that replace the preset's or add to them, by XGBoost's parameter name, or "
        f"those that weigh training rows by their age: {', '.join(SEARCHABLE)}.",
    )
    space_file: str | None = Field(
        default=None,
        description="YAML file with more ranges, such as `subsample: {low: 0.6, high: 1}`; `space` takes precedence. "
        "It is read where the search runs: on Databricks, on the cluster.",
    )
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
        description="Time budget of this run's search in seconds, in addition to the number of trials; 0: none.",
    )
    early_stopping_rounds: int = Field(
        default=_DEFAULTS.early_stopping_rounds,
        ge=0,
        description="A trial ends after this many trees without improvement on the validation rows; 0: never.",
    )
    pruning: bool = Field(
        default=_DEFAULTS.pruning,
        description="End a trial that is worse than half of the finished trials were after the same number of trees.",
    )
    checkpoint_rounds: int = Field(
        default=_DEFAULTS.checkpoint_rounds,
        ge=1,
        description="Trees between two evaluations on the validation rows, for early stopping and pruning.",
    )
    folds: int = Field(
        default=_DEFAULTS.folds,
        ge=1,
        description="Most forward folds of a trial: its value is the mean over the validation set and blocks of its "
        "length before it, each judged by a fit on the rows known then. 1: the validation set alone. Short tables have "
        "fewer; with engine distributed there is one.",
    )
    screening: float = Field(
        default=_DEFAULTS.screening,
        gt=0,
        le=1,
        description="Share of the genuine training rows that a point is tried on first; the best third is then tried "
        "on all rows, as further trials. 1: every point is tried on all rows at once. Engine memory only.",
    )
    use_idle_slots: bool = Field(
        default=_DEFAULTS.use_idle_slots,
        description="Slots that are free while the last trials run try further points, for a third of the mean "
        "time of a trial; those that end before the last trial count, in addition to `trials`. Engine memory only.",
    )
    bagging: int = Field(
        default=_DEFAULTS.bagging,
        ge=1,
        description="Fits that the final model is the mean of, as one booster: of the best point and, half of them, of "
        "the setting that the search starts with; one where the space has no share of rows or columns below 1 to draw.",
    )
    seed: int = Field(default=42, description="Seed of proposals, training and bootstrap.")
    threshold_rule: ThresholdRule | None = Field(
        default=None,
        description="How alerts are decided; by default by cost, or by the alert budget where the contract names no "
        "`amount`.",
    )
    alert_cost: float = Field(default=10.0, ge=0, description="Cost of reviewing one alert, in the amounts' unit.")
    alerts_per_day: int = Field(default=100, ge=1, description="Alerts that can be reviewed per day.")
    replicates: int = Field(default=500, ge=50, description="Bootstrap replicates behind each interval.")
    calibrate: bool = Field(
        default=True,
        description="Scores are calibrated by slope and intercept of their log-odds, fitted on validation rows, where "
        "the gain in log loss on the later half of these is above 0 with its whole interval.",
    )
    accepted_leaks: dict[str, str] = Field(
        default={},
        description="Features that the leak check names although they are known when a transaction is scored, each "
        "with the reason. Kept in the metadata and in the model's tags.",
    )

    def search_plan(self) -> SearchPlan:
        """Return what to search.

        Raises:
            SearchError: A range is invalid, or the file of ranges can't be read.
        """
        return SearchPlan(
            space=search_space(
                self.space_preset.value,
                {} if self.space_file is None else read_ranges(Path(self.space_file)),
                {name: given.as_dict() for name, given in self.space.items()},
            ),
            objective=self.objective.value,
            trials=self.trials,
            parallelism=self.parallelism,
            threads=self.threads,
            seed=self.seed,
            early_stopping_rounds=self.early_stopping_rounds,
            pruning=self.pruning,
            max_seconds=self.max_seconds,
            checkpoint_rounds=self.checkpoint_rounds,
            folds=self.folds,
            screening=self.screening,
            use_idle_slots=self.use_idle_slots,
            bagging=self.bagging,
        )

    def evaluation_plan(self, contract: "Contract", log: Callable[[str], None]) -> "EvaluationPlan":
        """Return how to evaluate.

        Args:
            contract: Says whether there are amounts.
            log: Gets a line if the rule follows from that.
        """
        from mlops_assets.training.final_model import EvaluationPlan

        rule = self.threshold_rule
        if rule is None and contract.amount is None:
            rule = ThresholdRule.alert_budget
            log(f"the contract names no amount: alerts are the {self.alerts_per_day} highest scores of a day")
        return EvaluationPlan(
            threshold_rule=(rule or ThresholdRule.cost).value,
            alert_cost=self.alert_cost,
            calibrate=self.calibrate,
            alerts_per_day=self.alerts_per_day,
            replicates=self.replicates,
            seed=self.seed,
        )


class TunedModelConfig(SearchConfig):
    """How to search, how to evaluate, and what to do then."""

    production_refit: bool = Field(
        default=True,
        description="Once the best point is evaluated, fit it again on all rows with a mature label, the test rows "
        "among them, for production. The evaluated model stays as it is.",
    )


def accepted(config: SearchConfig) -> dict[str, dg.JsonMetadataValue]:
    """Return the metadata that say which leaks were accepted, and why; empty if none were."""
    return {"accepted_leaks": dg.MetadataValue.json(config.accepted_leaks)} if config.accepted_leaks else {}
