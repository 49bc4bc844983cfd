"""The launchpad's form: what is left alone is the plan's default, what is set arrives, nonsense is refused there."""

from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pytest
from pydantic import ValidationError

from mlops_assets.assets.tuning_config import Preset, RangeConfig, RangeScale, ThresholdRule, TunedModelConfig
from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import SearchError
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.space import PRESETS, Scale, log_uniform, search_space, uniform


def test_an_untouched_form_is_the_default_search():
    assert TunedModelConfig().search_plan() == SearchPlan()


@pytest.mark.parametrize(
    ("asked", "amount", "rule"),
    [
        (None, True, "cost"),
        (None, False, "alert_budget"),
        (ThresholdRule.cost, False, "cost"),  # refused before the search (`readiness`)
        (ThresholdRule.alert_budget, True, "alert_budget"),
    ],
)
def test_without_amounts_the_alert_budget_decides_unless_a_rule_is_set(
    asked: ThresholdRule | None, amount: bool, rule: str, creditcard: Contract
):
    contract = creditcard if amount else creditcard.model_copy(update={"amount": None})
    told: list[str] = []

    plan = TunedModelConfig(threshold_rule=asked).evaluation_plan(contract, told.append)

    assert plan.threshold_rule == rule
    line = "the contract names no amount: alerts are the 100 highest scores of a day"
    assert told == ([line] if asked is None and not amount else [])


def test_what_is_set_arrives():
    given: dict[str, Any] = {
        "trials": 7,
        "parallelism": 3,
        "threads": 2,
        "seed": 5,
        "max_seconds": 90.5,
        "early_stopping_rounds": 0,
        "pruning": False,
        "checkpoint_rounds": 2,
        "folds": 3,
        "use_idle_slots": True,
    }
    plan = TunedModelConfig(**given).search_plan()

    assert {name: getattr(plan, name) for name in given} == given
    assert TunedModelConfig(screening=0.2).search_plan().screening == 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"parallelism": -1},
        {"threads": -1},
        {"max_seconds": -1},
        {"early_stopping_rounds": -1},
        {"checkpoint_rounds": 0},
        {"folds": 0},
        {"screening": 0},
        {"screening": 1.5},
        {"pruning": "perhaps"},
        {"max_seconds": float("nan")},
    ],
    ids=str,
)
def test_nonsense_is_refused_by_the_form(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        TunedModelConfig(**wrong)


def test_every_option_of_a_search_is_described():
    undescribed = [name for name, found in TunedModelConfig.model_fields.items() if not found.description]

    assert undescribed == []


def test_the_ranges_of_each_preset_can_be_read_in_the_launchpad():
    told = str(TunedModelConfig.model_fields["space_preset"].description)

    assert "max_depth: {low: 3, high: 9, scale: whole}" in told
    assert "min_child_weight: {low: 0.1, high: 100, scale: log_uniform}" in told
    assert [item.value for item in Preset] == list(PRESETS)
    assert [item.value for item in RangeScale] == list(get_args(Scale))


def test_preset_file_and_form_go_together_and_the_form_wins(tmp_path: Path):
    file = tmp_path / "ranges.yaml"
    file.write_text("gamma: {low: 0, high: 5}\nsubsample: {low: 0.5, high: 0.6}\n")
    config = TunedModelConfig(
        space_preset=Preset.wide, space_file=str(file), space={"subsample": RangeConfig(low=0.8, high=0.9)}
    )

    ranges = config.search_plan().space.ranges

    assert ranges == {**PRESETS["wide"], "gamma": uniform(0, 5), "subsample": uniform(0.8, 0.9)}


def test_a_run_config_of_the_launchpad_is_validated_and_arrives():
    """As Dagster reads it from YAML: a preset by name, a map of ranges; an older run's five ranges still fit."""
    seen: list[SearchPlan] = []

    @dg.asset
    def searched(config: TunedModelConfig) -> None:
        seen.append(config.search_plan())

    def run(config: dict[str, Any]) -> bool:
        ops = {"ops": {"searched": {"config": config}}}
        return dg.materialize([searched], run_config=ops, instance=dg.DagsterInstance.ephemeral()).success

    older = {name: {"low": item.low, "high": item.high} for name, item in PRESETS["seed"].items()}
    assert run({"space_preset": "seed", "space": older})
    assert run({"space_preset": "wide", "space": {"gamma": {"low": 0.1, "high": 5, "scale": "log_uniform"}}})
    assert seen[0] == SearchPlan(space=search_space("seed"))
    assert seen[1].space.ranges == {**PRESETS["wide"], "gamma": log_uniform(0.1, 5)}
    for wrong in ({"space_preset": "narrow"}, {"space": {"gamma": {"low": 0.1}}}, {"space": {"gamma": [0, 5]}}):
        with pytest.raises(dg.DagsterInvalidConfigError):
            run(wrong)


def test_an_unknown_parameter_is_one_error_that_names_the_close_one():
    with pytest.raises(SearchError, match=r"'colsample_by_tree' is not .* did you mean colsample_bytree"):
        TunedModelConfig(space={"colsample_by_tree": RangeConfig(low=0.5, high=1)}).search_plan()
