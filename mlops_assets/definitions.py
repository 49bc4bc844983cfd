"""The code location of the model that the environment describes.

What belongs here: binding - settings in, Definitions out. What does not: what a model consists of
(`fraud_model.factory`), the resources (`fraud_model.shared`), reading the environment (`deployment`).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_assets.assets.sources import SourceConfig
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_resources, build_shared
from mlops_assets.processes import keep_files_private
from mlops_assets.settings import Settings


def build_defs(settings: Settings, *, source: SourceConfig | None = None, **overrides: Any) -> dg.Definitions:
    """Return the code location.

    Args:
        settings: The settings of the installation.
        source: The model's source, if it is not the one of the settings.
        overrides: Resources by name that replace those made from the settings (tests pass their own).

    Raises:
        ContractError: The contract is invalid, or it has no labels section although the settings name labels.
        SettingsError: The Databricks profile is invalid.
    """
    resources = {**build_resources(settings), **overrides}
    return dg.Definitions.merge(
        build_shared(settings, lambda: build_defs(settings), resources=resources),
        build_fraud_model(settings.spec(), settings, source=source),
    )


keep_files_private()  # `dagster dev` starts code servers and runs with the shell's umask
defs = build_defs(Settings.from_environment())
