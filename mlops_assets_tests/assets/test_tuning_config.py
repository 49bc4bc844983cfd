"""The launchpad's form: what is left alone is the plan's default, what is set arrives, nonsense is refused there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.training.plan import SearchPlan


def test_an_untouched_form_is_the_default_search():
    assert TunedModelConfig().search_plan() == SearchPlan()


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
    }
    plan = TunedModelConfig(**given).search_plan()

    assert {name: getattr(plan, name) for name in given} == given


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"parallelism": -1},
        {"threads": -1},
        {"max_seconds": -1},
        {"early_stopping_rounds": -1},
        {"checkpoint_rounds": 0},
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

    assert undescribed == ["space"]
