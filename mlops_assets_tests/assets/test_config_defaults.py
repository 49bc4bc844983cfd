"""A model's own defaults in the launchpad's form."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.splits import SplitConfig, Strategy, build_splits
from mlops_assets.assets.tuned_model import build_tuned_model
from mlops_assets.assets.tuning_config import RangeConfig, TunedModelConfig
from mlops_assets.errors import SettingsError
from mlops_assets_tests.assets.harness import spec_of


def default_of(asset: dg.AssetsDefinition, option: str) -> Any:
    """Return the default that Dagster shows in the launchpad."""
    schema: Any = asset.op.config_schema.config_type
    return schema.fields[option].default_value


def test_given_values_are_the_defaults_and_the_others_stay():
    form = with_defaults(SplitConfig, {"strategy": "stratified", "gap_days": 3}, where="w")()

    assert (form.strategy, form.gap_days) == (Strategy.stratified, 3.0)
    assert form.min_rows == SplitConfig().min_rows
    assert with_defaults(SplitConfig, {}, where="w") is SplitConfig


def test_the_launchpad_shows_the_models_defaults():
    assert default_of(build_splits(spec_of(split={"gap_days": 3})), "gap_days") == 3.0
    tuned = build_tuned_model(spec_of(search={"trials": 7, "space": {"max_depth": {"low": 1, "high": 2}}}))
    assert default_of(tuned, "trials") == 7
    assert default_of(tuned, "space")["max_depth"]["high"] == 2.0
    assert default_of(build_tuned_model(spec_of()), "trials") == TunedModelConfig().trials


def test_nested_values_are_parsed():
    form = with_defaults(TunedModelConfig, {"space": {"max_depth": {"low": 1, "high": 2}}}, where="w")()

    assert form.space == {"max_depth": RangeConfig(low=1.0, high=2.0)}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gap": 3}, r"no such option: gap \[split of model cards\] Fix: the options are strategy"),
        ({"gap_days": "soon"}, r"gap_days: .*\[split of model cards\]"),
    ],
)
def test_a_default_that_does_not_fit_is_refused_when_the_model_is_made(values: dict[str, Any], said: str):
    with pytest.raises(SettingsError, match=said):
        build_splits(spec_of(name="cards", split=values))
