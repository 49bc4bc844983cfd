"""The load of a code location with several models, at a size that means nothing: it reaches its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.many_models import load

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run


def test_each_model_is_loaded():
    groups = {load(2).asset_graph.get(key).group_name for key in load(2).asset_graph.get_all_asset_keys()}

    assert groups == {"model0", "model1"}


@pytest.mark.proof  # a measurement
def test_many_models(run: Run):
    document = run("many_models", "--models", "2", "--rounds", "1")

    assert document["ratio"] > 0
    assert document["details"]["models"] == 2
